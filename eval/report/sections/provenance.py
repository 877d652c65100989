"""Where the results come from: code, machine, commands, hyperparameters."""

import json
from collections.abc import Callable
from typing import Any

import pandas as pd

from eval.report.data import Collection, trained_on
from eval.report.page import Block, Code, Fold, Heading, Paragraph, Table
from eval.report.words import listed, plural
from eval.results import Result


def provenance(collection: Collection, options: str) -> list[Block]:
    """
    :param collection: the results
    :param options: how the page was made, in words
    :return: the section
    """
    suites = sorted({str(result.suite) for result in collection.results if result.suite})
    sentence = f"{plural(len(collection.results), 'result')}" + (f" of {listed(suites)}" if suites else "")
    return [
        Heading("Where this comes from"),
        Paragraph(f"{sentence}. {options}"),
        _facts(collection),
        _times(collection),
        Heading("Hyperparameters", 3),
        *_configs(collection),
        Fold("Commands", (Code(_commands(collection)),)),
    ]


def _facts(collection: Collection) -> Table:
    libraries = sorted({name for result in collection.results for name in result.facts["versions"]})
    facts: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("git commit", _commit),
        ("machine", _machine),
        ("device", lambda facts: str((facts["machine"] or {}).get("device") or "-")),
        ("python", lambda facts: str((facts["machine"] or {}).get("python", "unknown"))),
        *((name, lambda facts, name=name: str(facts["versions"].get(name, "-"))) for name in libraries),
    ]
    # Those of the beginning, and those that a job was gone on with
    states = [state for result in collection.results for state in (result.facts, *result.facts["changes"])]
    rows = [(name, "; ".join(sorted({value(state) for state in states}))) for name, value in facts]
    data = pd.DataFrame(rows, columns=["what", "value"])
    return Table("provenance", "Code, libraries and machines", ("What", "Value"), tuple(rows), data)


def _commit(facts: dict[str, Any]) -> str:
    git = facts["git"]
    return "unknown" if not git else f"{git['commit']}{' with changes that were not committed' if git['dirty'] else ''}"


def _machine(facts: dict[str, Any]) -> str:
    machine = facts["machine"] or {}
    words = [str(machine.get("cpu") or ""), f"{machine['cores']} cores" if machine.get("cores") else ""]
    words += [f"{machine['memory_gb']:g} GB of memory" if machine.get("memory_gb") else "", str(machine.get("system") or "")]
    return ", ".join(word for word in words if word) or "unknown"


def _times(collection: Collection) -> Table:
    rows, raw = [], []
    for result in collection.results:
        seconds = {name: (result.facts["seconds"] or {}).get(name) for name in ("train", "evaluate")}
        seed = "-" if result.seed is None else str(result.seed)
        rows.append((result.env, result.agent, trained_on(result), seed, *map(_minutes, seconds.values())))
        raw.append((result.env, result.agent, trained_on(result), seed, *seconds.values()))
    columns = ["env", "agent", "trained_on", "seed", "train_seconds", "evaluate_seconds"]
    head = ("Environment", "Agent", "Trained on", "Seed", "Training, minutes", "Evaluation, minutes")
    return Table("times", "How long it took", head, tuple(rows), pd.DataFrame(raw, columns=columns), frozenset({3, 4, 5}))


def _minutes(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 60:.1f}"


def _configs(collection: Collection) -> list[Block]:
    """One fold per agent and environment; conditions and seeds with the same config share what they have."""
    folds: dict[tuple[str, str], dict[str, list[Result]]] = {}
    for result in collection.results:
        text = json.dumps(result.facts["config"], indent=2, sort_keys=True, ensure_ascii=False)
        folds.setdefault((result.agent, result.env), {}).setdefault(text, []).append(result)
    blocks: list[Block] = []
    for (agent, env), configs in sorted(folds.items()):
        inner: list[Block] = []
        for text, same in configs.items():
            runs = sorted({f"{trained_on(result)}, seed {result.seed}" for result in same})
            inner += [Paragraph(f"{same[0].algo}; {'; '.join(runs)}"), Code(text)]
        blocks.append(Fold(f"{agent} in {env}", tuple(inner)))
    return blocks


def _commands(collection: Collection) -> str:
    return "\n".join(sorted({str(result.facts["command"]) for result in collection.results}))
