"""What was run: agents, conditions, seeds, budgets, games."""

import pandas as pd

from eval.report.data import NOT_TRAINED, Collection, condition_key, frame_stack, has_memory, is_random, trained_on
from eval.report.findings import NOTE, Finding
from eval.report.page import Block, Bullets, Heading, Notice, Paragraph, Table
from eval.report.words import describe, listed, plural, steps_text
from eval.results import Result


def notices(findings: list[Finding]) -> list[Block]:
    """
    :param findings: those that did not stop the report
    :return: what must not be overlooked
    """
    blocks: list[Block] = []
    missing = tuple(finding.text for finding in findings if finding.kind != NOTE)
    if missing:
        blocks.append(Notice("Incomplete: these results are missing, and what follows is of the others alone", missing, True))
    notes = tuple(finding.text for finding in findings if finding.kind == NOTE)
    if notes:
        blocks.append(Notice("To know about these results", notes))
    return blocks


def overview(collection: Collection) -> list[Block]:
    """
    :param collection: the results
    :return: the section
    """
    runs: dict[tuple[str, str, str], list[Result]] = {}
    for result in collection.results:
        runs.setdefault((result.env, result.agent, trained_on(result)), []).append(result)
    groups: dict[tuple[str, ...], list[Result]] = {}
    for (env, agent, _), same in runs.items():
        groups.setdefault((env, agent, str([result.seed for result in same]), str(same[0].steps)), []).extend(same)
    rows = [_row(same) for same in groups.values()]
    table = Table(
        name="runs",
        caption="Agents, each trained once per seed",
        head=("Environment", "Agent", "Algorithm", "Memory", "Trained on", "Seeds", "Steps", "Games"),
        rows=tuple(tuple(row.values()) for row in rows),
        data=pd.DataFrame(rows).rename(columns=lambda name: name.lower().replace(" ", "_")),
        numeric=frozenset({6}),
    )
    return [Heading("What was run"), table, *_settings(collection), *_glossary(collection)]


def _row(same: list[Result]) -> dict[str, str]:
    result = same[0]
    seeds = dict.fromkeys(str(result.seed) for result in same if result.seed is not None)
    conditions = {condition for result in same for condition in result.facts["evaluation"]["conditions"]}
    return {
        "Environment": result.env,
        "Agent": result.agent,
        "Algorithm": result.algo.replace(":", ".").rsplit(".", 1)[-1],
        "Memory": memory_words(result),
        "Trained on": ", ".join(dict.fromkeys(map(trained_on, same))),
        "Seeds": ", ".join(seeds) or "-",
        "Steps": steps_text(result.steps),
        "Games": f"{result.facts['evaluation']['games']:,} in each of {plural(len(conditions), 'condition')}",
    }


def memory_words(result: Result) -> str:
    """
    :param result: of an agent
    :return: what it can remember with
    """
    if is_random(result):
        return "none: acts at random"
    memory, stack = has_memory(result), frame_stack(result)
    if memory:
        return "recurrent" if stack == 1 else f"recurrent, a stack of {stack}"
    if memory is None:
        return "not known (plug-in)"
    return f"none, a stack of {stack}" if stack > 1 else "none"


def _settings(collection: Collection) -> list[Block]:
    settings = [result.facts["evaluation"] for result in collection.results]
    firsts = sorted({int(setting["first_seed"]) for setting in settings})
    ways = sorted({_way(setting["deterministic"], float(setting["epsilon"])) for setting in settings})
    return [
        Paragraph(
            "A stack is of the last observations, seen at once. Steps are agent decisions in training; games are whole "
            "games per condition, with true, unclipped scores, played by the agent at the end of training. Game k has the "
            f"seed {listed([f'{first:,} + k' for first in firsts])} for every agent, so all of them meet the same games. "
            f"Actions: {listed(ways)}. A run is one agent trained with one seed; its score is the mean of its games. n "
            "counts runs, and all intervals are over runs."
        )
    ]


def _way(deterministic: bool, epsilon: float) -> str:
    way = "the agent's best" if deterministic else "drawn by the agent"
    return f"{way}, replaced by a random one with probability {epsilon:g}" if epsilon else way


def _glossary(collection: Collection) -> list[Block]:
    used = set(collection.scores["evaluated"]) | set(collection.scores["trained"]) - {NOT_TRAINED}
    items = tuple(f"{condition}: {describe(condition)}" for condition in sorted(used, key=condition_key))
    return [Paragraph("Conditions of observation:"), Bullets(items)]
