"""Our scores beside published ones: the paper's two tables, its reproduction, other agents; and scores of people."""

import numpy as np

from eval.report.data import Collection, condition_key
from eval.report.estimates import Estimates
from eval.report.page import Block, Heading, Paragraph, slug
from eval.report.published import FLICKER, game_of, is_atari, other_scores, paper_scores, reference_scores
from eval.report.tables import INTERVAL, long_table
from eval.report.words import interval, number, percent

HEAD = ("Game", "Agent", "From", "Steps", "Mean", "Std", "n")


def beside_others(estimates: Estimates) -> list[Block]:
    """
    :param estimates: of the report
    :return: the section; nothing where nobody has published anything on these games
    """
    blocks: list[Block] = []
    for condition, title in (("normal", "Normal observations"), (FLICKER, "Flickering observations")):
        rows = [row for env in estimates.collection.envs for row in _rows(estimates.collection, env, condition)]
        if rows:
            caption = f"{title}: ours and published scores, trained and evaluated alike"
            blocks += [Heading(title, 3), long_table(slug("published", condition), caption, HEAD, rows, (3, 4, 5, 6))]
    if not blocks:
        return []
    note = (
        "Ours: mean and standard deviation over runs, n runs. DRQN paper: mean and standard deviation as printed (10 "
        "million iterations, random actions with probability 0.05 in evaluation). Others as their source says; best means "
        "the best of several evaluations during training, which flatters. Steps are agent decisions, where published. "
        "Budgets, network sizes and evaluations differ: read these as landmarks, not as a race."
    )
    return [Heading("Beside published scores"), Paragraph(note), *blocks]


def _rows(collection: Collection, env: str, condition: str) -> list[dict[str, object]]:
    """List ours first, then the paper's, then others'; nothing where there is none of ours or none of theirs."""
    found = collection.select(env, condition, condition)
    paper, others = paper_scores(env, condition), other_scores(env, condition)
    if found.empty or (paper.empty and others.empty):
        return []
    name = game_of(env) if is_atari(env) else env
    rows = []
    for agent, part in found.groupby("agent", sort=True):
        steps = int(part["steps"].max())
        std = part["score"].std(ddof=1) if len(part) > 1 else np.nan
        rows.append(
            _row(name, str(agent), "these results", f"{steps:,}" if steps else "", part["score"].mean(), std, len(part))
        )
    for row in paper.to_dict("records"):
        rows.append(_row(name, row["agent"], f"DRQN paper ({row['source']})", "", row["mean"], row["std"], None))
    for row in others.to_dict("records"):
        rows.append(_row(name, row["agent"], row["source"], _steps(row["steps"]), row["mean"], row["std"], None))
    return rows


def _row(game: str, agent: str, source: str, steps: str, mean: float, std: float, n_runs: int | None) -> dict[str, object]:
    shown = (game, agent, source, steps or "-", number(mean), number(std), "-" if n_runs is None else n_runs)
    raw = {"game": game, "agent": agent, "source": source, "steps": steps, "mean": mean, "std": std, "n_runs": n_runs}
    return {**dict(zip(HEAD, shown, strict=True)), **raw, "n_runs": "" if n_runs is None else n_runs}


def _steps(text: str) -> str:
    try:
        return f"{int(float(text)):,}"
    except ValueError:
        return text


def human_normalised(estimates: Estimates) -> list[Block]:
    """
    :param estimates: of the report
    :return: scores as shares of a person's, for Atari games; nothing where there are none
    """
    rows = [row for env in estimates.collection.envs if is_atari(env) for row in _human_rows(estimates, env)]
    if not rows:
        return []
    head = ("Game", "Trained and evaluated on", "Agent", "Human-normalised", INTERVAL, "Score", "Random", "Human", "n")
    source = next(entry.source for entry in reference_scores().values() if entry.reference_is == "human")
    note = (
        "Human-normalised is (score - random) / (human - random): 0% is random actions, 100% a professional games tester. "
        f"Random and human scores: {source}. Intervals are over runs."
    )
    caption = "Human-normalised scores"
    return [Heading(caption, 3), long_table("human-normalised", caption, head, rows, (3, 4, 5, 6, 7, 8)), Paragraph(note)]


def _human_rows(estimates: Estimates, env: str) -> list[dict[str, object]]:
    reference = reference_scores()[game_of(env)]
    rows = []
    for training in sorted(estimates.collection.trainings(env), key=condition_key):
        for row in estimates.scores(env, training, training, "mean").to_dict("records"):
            share, low, high = (reference.normalise(row[key]) for key in ("estimate", "low", "high"))
            rows.append(
                {
                    "Game": game_of(env),
                    "Trained and evaluated on": training,
                    "Agent": row["agent"],
                    "Human-normalised": percent(share),
                    INTERVAL: f"{percent(low)} to {percent(high)}" if interval(low, high, row["n_runs"]) != "-" else "-",
                    "Score": number(row["estimate"]),
                    "Random": number(reference.random),
                    "Human": number(reference.reference),
                    "n": row["n_runs"],
                    "env": env,
                    "condition": training,
                    "agent": row["agent"],
                    "score": row["estimate"],
                    "human_normalised": share,
                    "low": low,
                    "high": high,
                    "n_runs": row["n_runs"],
                }
            )
    return rows
