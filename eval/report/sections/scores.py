"""Learning curves, final scores, profiles and probabilities of improvement, of one environment and condition of training."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from eval import plots
from eval.report.comparison import contestants, pairs_of
from eval.report.data import NOT_TRAINED, trained_on
from eval.report.estimates import Estimates, band_words, with_bands
from eval.report.page import Block, Fold, Heading, Paragraph, Picture, Table, slug
from eval.report.tables import INTERVAL, improvement_table, long_table, score_table
from eval.report.words import interval, listed, number, plural

MOST_PAIRS = 12
"""Drawn in one figure."""

HOW_TO_READ_INTERVALS = (
    "Bars are 95% intervals for the score that runs with other seeds would have; n is the number of runs. Where two intervals "
    "overlap widely, a difference is not shown. Fewer than three runs have no bar, and a bar that would leave no room for the "
    "others is cut, with an arrow: the table has all intervals, of two runs and more."
)


def scores(estimates: Estimates, env: str, training: str, with_profiles: bool) -> list[Block]:
    """
    :param estimates: of the report
    :param env: an environment
    :param training: condition of training
    :param with_profiles: whether to draw performance profiles
    :return: the part of the section
    """
    collection = estimates.collection
    found = collection.select(env, training, training)
    blocks: list[Block] = [Heading(_title(found, training), 3), *_learning_curves(estimates, env, training)]
    if found.empty:
        return [*blocks, Paragraph(f"Nobody was evaluated in {training}.")]
    blocks += _final_scores(estimates, env, training)
    matrix = contestants(collection, env, training, training)
    if len(matrix) > 1:
        name = slug("improvement", env, training)
        blocks += improvements(
            estimates, matrix, collection.memory(env), name, f"in {env}, trained and evaluated on {training}"
        )
        if with_profiles:
            blocks.append(profile_picture(estimates, matrix, slug("profiles", env, training), f"{env}, {training}", "score"))
    return blocks


def _title(found: pd.DataFrame, training: str) -> str:
    if len(found) and (found["trained"] == NOT_TRAINED).all():
        return f"Evaluated on {training}"
    return f"Trained and evaluated on {training}"


def _learning_curves(estimates: Estimates, env: str, training: str) -> list[Block]:
    collection = estimates.collection
    found = [(result, result.curve()) for result in collection.of(env) if trained_on(result) == training]
    runs = {(result.agent, result.seed): curve for result, curve in found if curve is not None}
    if not runs:
        return [Paragraph("There are no learning curves: nobody was evaluated during training.")]
    single = pd.concat([_mean_curve(curve).assign(agent=agent, run=f"seed {seed}") for (agent, seed), curve in runs.items()])
    frames, partial = [], []
    for agent, rows in single.groupby("agent", sort=True):
        table = rows.pivot(index="steps", columns="run", values="score")
        whole = table.dropna()
        if len(whole) < len(table):
            partial.append(str(agent))
        if len(whole):
            frames.append(estimates.curves({str(agent): whole.to_numpy().T}, [float(steps) for steps in whole.index]))
    if not frames:
        return [Paragraph("There are no learning curves: the runs were evaluated at different steps.")]
    data = pd.concat(frames, ignore_index=True)
    name = slug("learning-curves", env, training)
    drawn = with_bands(data)
    figure = plots.learning_curves(
        drawn,
        f"Learning curves: {env}, {training}",
        agents=collection.agents,
        runs=single,
        references=estimates.references(env),
        score="mean score",
        note=band_words(drawn, "line: mean, thin: single runs"),
    )
    note = (
        "Mean score of games played during training, in the training condition, against agent steps: "
        f"{_games_words(runs.values())} at each point, played by the zoo's own evaluation, with seeds of the "
        "training run. They show the way; the final scores are of other games. Bands are 95% intervals over runs, "
        "for each point by itself; n is the number of runs. Fewer than three runs have no band."
    )
    if partial:
        note += f" The mean is of points that all of an agent's runs have: some of {listed(partial)} have others."
    picture = Picture(name, figure, f"Learning curves in {env}, {training}", note)
    return [picture, Fold("The curves as a table", (_curve_table(name, data),))]


def _games_words(curves: Iterable[pd.DataFrame]) -> str:
    counts = {int(count) for curve in curves for count in curve.groupby("steps").size()}
    return plural(max(counts), "game") if len(counts) == 1 else f"{min(counts)} to {max(counts)} games"


def _mean_curve(curve: pd.DataFrame) -> pd.DataFrame:
    return curve.groupby("steps")[["score"]].mean().reset_index()


def _curve_table(name: str, data: pd.DataFrame) -> Table:
    rows = [
        {
            "Agent": row["agent"],
            "Steps": f"{int(row['steps']):,}",
            "Mean": number(row["estimate"]),
            INTERVAL: interval(row["low"], row["high"], row["n_runs"]),
            "n": row["n_runs"],
            **{key: value for key, value in row.items() if key != "n"},
        }
        for row in data.to_dict("records")
    ]
    return long_table(name, "Mean score during training", ("Agent", "Steps", "Mean", INTERVAL, "n"), rows, (1, 2, 3, 4))


def _final_scores(estimates: Estimates, env: str, training: str) -> list[Block]:
    iqms = estimates.scores(env, training, training, "iqm")
    means = estimates.scores(env, training, training, "mean")
    collection = estimates.collection
    found = collection.select(env, training, training)
    matrix = collection.matrix(found)
    spreads = {agent: float(values.std(ddof=1)) if len(values) > 1 else np.nan for agent, values in matrix.items()}
    name = slug("scores", env, training)
    table = score_table(name, f"Final scores in {env}, trained and evaluated on {training}", iqms, means, spreads)
    order = list(table.data["agent"])
    picture = Picture(
        name,
        plots.intervals(
            with_bands(iqms.set_index("agent").loc[order].reset_index()),
            f"Final scores: {env}, {training}",
            agents=collection.agents,
            runs=found[["agent", "score"]],
            references=estimates.references(env, matrix),
            games=int(found["games"].min()),
        ),
        f"Final scores in {env}, {training}: interquartile mean of each agent",
        f"The IQM (interquartile mean) leaves out the best and the worst quarter of the runs; below four runs it is the mean. "
        f"{HOW_TO_READ_INTERVALS}",
    )
    return [table, picture]


def improvements(
    estimates: Estimates, matrix: dict[str, np.ndarray], memory: dict[str, bool | None], name: str, title: str
) -> list[Block]:
    """
    :param estimates: of the report
    :param matrix: agent -> scores of its runs, shape (n_runs, n_tasks), best mean first
    :param memory: agent -> whether it is recurrent
    :param name: of the files
    :param title: where they were compared, in words
    :return: a figure of the first :data:`MOST_PAIRS` pairs, and a table of all
    """
    data = estimates.improvement(matrix, pairs_of(list(matrix), memory))
    note = (
        "The probability that a run of the agent on the left scores above a run of the one on the right, with its 95% "
        "interval. 0.5 is no difference. It says how sure the order is, not how large the difference; n is the number of "
        "runs of each."
    )
    if len(data) > MOST_PAIRS:
        note += f" {MOST_PAIRS} of {len(data)} pairs are drawn, those of the best agents; the table has all."
    figure = plots.improvement(data.head(MOST_PAIRS), f"Probability of improvement {title}")
    caption = f"Probability of improvement {title}"
    return [Picture(name, figure, caption, note), Fold("The same as a table", (improvement_table(name, caption, data),))]


def profile_picture(estimates: Estimates, matrix: dict[str, np.ndarray], name: str, title: str, unit: str) -> Picture:
    """
    :param estimates: of the report
    :param matrix: agent -> scores of its runs
    :param name: of its files
    :param title: of the figure
    :param unit: what the scores are
    :return: the figure
    """
    note = (
        f"The share of runs that score above a {unit}: a curve that is higher and farther right is better. Bands are 95% "
        "intervals over runs; n is the number of runs."
    )
    figure = plots.profiles(
        estimates.profiles(matrix), f"Performance profiles: {title}", agents=estimates.collection.agents, score=unit
    )
    return Picture(name, figure, f"Performance profiles, {title}", note)
