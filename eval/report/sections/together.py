"""All environments together, by normalised scores."""

import numpy as np

from eval import plots
from eval.report.comparison import dropped_seeds, learned, measured_envs, normalised
from eval.report.estimates import Estimates, with_bands
from eval.report.page import Block, Heading, Paragraph, Picture, slug
from eval.report.published import game_of, reference_scores
from eval.report.sections.beside_others import human_normalised
from eval.report.sections.scores import HOW_TO_READ_INTERVALS, improvements, profile_picture
from eval.report.tables import score_table
from eval.report.words import listed, plural


def has_aggregates(estimates: Estimates) -> bool:
    """
    :param estimates: of the report
    :return: whether there are environments to be put together
    """
    collection = estimates.collection
    return any(len(measured_envs(collection, training)) > 1 for training in collection.all_trainings)


def together(estimates: Estimates) -> list[Block]:
    """
    :param estimates: of the report
    :return: the section; nothing where there is one environment without a person's score
    """
    blocks: list[Block] = []
    for training in estimates.collection.all_trainings:
        envs = measured_envs(estimates.collection, training)
        if len(envs) > 1:
            blocks += _aggregates(estimates, training, envs)
    blocks += human_normalised(estimates)
    if blocks:
        return [Heading("All environments together"), *blocks]
    if len(estimates.collection.envs) > 1:
        text = "No two of these environments have scores to be measured against, so nothing is said of all of them together."
        return [Paragraph(text)]
    return []


def _aggregates(estimates: Estimates, training: str, envs: list[str]) -> list[Block]:
    collection = estimates.collection
    matrix = normalised(collection, training, envs)
    if not matrix:
        return [Heading(f"Trained and evaluated on {training}", 3), Paragraph("No agent was run in all of the environments.")]
    iqms, means = estimates.of(matrix, "iqm"), estimates.of(matrix, "mean")
    spreads = {
        agent: float(values.mean(axis=1).std(ddof=1)) if len(values) > 1 else np.nan for agent, values in matrix.items()
    }
    title = f"{plural(len(envs), 'environment')}, {training}"
    name = slug("all-environments", training)
    table = score_table(name, f"Normalised scores over {title}", iqms, means, spreads)
    order = list(table.data["agent"])
    picture = Picture(
        name,
        plots.intervals(
            with_bands(iqms.set_index("agent").loc[order].reset_index()),
            f"Normalised scores, {title}",
            agents=collection.agents,
            score="normalised score",
        ),
        f"Normalised scores, {title}",
        f"The IQM is the mean of the middle half of all runs in all environments. {HOW_TO_READ_INTERVALS}",
    )
    blocks: list[Block] = [
        Heading(f"Trained and evaluated on {training}", 3),
        Paragraph(_scale(estimates, training, envs, matrix)),
        table,
        picture,
    ]
    contestants = learned(collection, training, envs)
    if len(contestants) > 1:
        name = slug("improvement-all", training)
        blocks += improvements(estimates, contestants, collection.memory(envs[0]), name, f"over {title}")
        name = slug("profiles-all", training)
        blocks.append(profile_picture(estimates, contestants, name, title, "normalised score"))
    return blocks


def _scale(estimates: Estimates, training: str, envs: list[str], matrix: dict[str, np.ndarray]) -> str:
    ones = sorted({reference_scores()[game_of(env)].reference_is for env in envs})
    names = {one: [game_of(env) for env in envs if reference_scores()[game_of(env)].reference_is == one] for one in ones}
    meanings = [f"{'a professional games tester' if one == 'human' else one} in {listed(names[one])}" for one in ones]
    text = f"Scores are normalised: 0 is random actions, 1 is {listed(meanings)}."
    left_out = [env for env in estimates.collection.envs if env not in envs]
    if left_out:
        text += f" Left out, as there is nothing to measure them against or nobody was trained so: {listed(left_out)}."
    agents = {result.agent for result in estimates.collection.results if result.env in envs}
    absent = sorted(agents - set(matrix))
    if absent:
        text += f" Left out, as they were not run in all of these environments: {listed(absent)}."
    dropped = dropped_seeds(estimates.collection, training, envs)
    if dropped:
        seeds = [f"{listed([*map(str, numbers)])} of {agent}" for agent, numbers in dropped.items()]
        text += f" Left out, as not in all of these environments: seeds {'; '.join(seeds)}."
    return text
