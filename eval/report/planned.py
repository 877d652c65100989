"""Suites' plans beside what was found: nothing may be missing, and nothing may be other than planned."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from eval.report.data import NOT_TRAINED
from eval.report.findings import ERROR, MISSING, Finding, Run, canonical, full_name, run_of, some
from eval.report.words import listed
from eval.results import Result

PLAN = "suite.json"
SETTINGS = ("games", "first_seed", "deterministic", "epsilon")
"""Of an evaluation: two scores can only be compared if these are the same."""


def find_descriptions(paths: Sequence[Path]) -> list[str]:
    """
    :param paths: folders
    :return: what their suites are to show, in the suites' own words
    """
    found = []
    for plan in _plans(paths):
        with suppress(ValueError, KeyError, TypeError):  # a plan that can't be read is a finding
            found.append(str(json.loads(plan.read_text(encoding="utf-8"))["description"]).strip())
    return [text for text in dict.fromkeys(found) if text]


def compare_with_plans(results: Sequence[Result], paths: Sequence[Path]) -> tuple[list[Finding], list[Result]]:
    """
    :param results: those that could be read
    :param paths: folders that they were found in
    :return: what is missing or not as planned, and the results that no plan speaks of
    """
    findings: list[Finding] = []
    planned: set[Path] = set()
    for plan in _plans(paths):
        try:
            document = json.loads(plan.read_text(encoding="utf-8"))
            wanted = [(dict(job, steps=int(job["steps"])), _run_of_job(job), str(job["folder"])) for job in document["jobs"]]
            evaluation = dict(document["evaluation"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            findings.append(Finding(MISSING, f"{plan.name} can't be read: {type(error).__name__}: {error}"))
            continue
        missing: dict[tuple[str, str, str], dict[Any, Path]] = defaultdict(dict)  # by seed, of an agent
        for job, run, folder in wanted:
            result = _result_of(results, plan, run, folder)
            if result is None:
                missing[run[:3]][run[3]] = Path(plan.resolve().parent.name) / folder
            else:
                planned.add(result.folder)
                findings += [Finding(ERROR, text) for text in _departures(result, job, evaluation)]
        findings += [Finding(MISSING, text) for text in _missing(missing)]
    return findings, [result for result in results if result.folder not in planned]


def _missing(missing: Mapping[tuple[str, str, str], Mapping[Any, Path]]) -> Iterator[str]:
    """Name missing seeds, and where their results were to be: once for all agents that lack the same ones."""
    alike: dict[tuple[str, str, frozenset[Any]], dict[str, list[Path]]] = defaultdict(dict)
    for (env, agent, trained), places in missing.items():
        alike[env, trained, frozenset(places)][agent] = list(places.values())
    for (env, trained, seeds), agents in alike.items():
        name = full_name(env, listed(list(agents)), trained)
        found = [place for of_agent in agents.values() for place in of_agent]
        if len(found) == 1:
            yield f"missing seed {some(seeds)} of {name}: {found[0].as_posix()} holds no whole result"
        else:
            shared = PurePosixPath(*_common_parts([place.parent.parts for place in found]))
            yield f"missing seed{'s' if len(seeds) > 1 else ''} {some(seeds)} of {name}: no whole results of them in {shared}"


def _common_parts(places: Sequence[Sequence[str]]) -> list[str]:
    """What all paths begin with."""
    return [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*places, strict=False))]


def _plans(paths: Sequence[Path]) -> list[Path]:
    return sorted({file.resolve(): file for path in paths for file in sorted(path.rglob(PLAN))}.values())


def _run_of_job(job: Mapping[str, Any]) -> Run:
    trained = NOT_TRAINED if job["condition"] is None else canonical(job["condition"])
    return str(job["env"]), str(job["agent"]), trained, job["seed"]


def _result_of(results: Sequence[Result], plan: Path, run: Run, folder: str) -> Result | None:
    """Find a job's result in its folder, else anywhere: folders may have been moved."""
    place = (plan.parent / folder).resolve()
    at_its_place = next((result for result in results if result.folder.resolve() == place), None)
    return at_its_place or next((result for result in results if run_of(result) == run), None)


def _departures(result: Result, job: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Iterator[str]:
    facts = result.facts
    env, agent, trained, seed = run_of(result)
    found = {"env": env, "agent": agent, "condition": trained, "seed": seed, "steps": result.steps}
    planned = dict(zip(("env", "agent", "condition", "seed"), _run_of_job(job), strict=True)) | {"steps": job["steps"]}
    if job.get("evaluated") is not None:
        found["evaluated conditions"] = _texts(facts["evaluation"]["conditions"])
        planned["evaluated conditions"] = _texts(job["evaluated"])
    for name in SETTINGS:
        if name in evaluation:
            found[f"evaluation's {name}"] = facts["evaluation"].get(name)
            planned[f"evaluation's {name}"] = evaluation[name]
    for name, value in planned.items():
        if found[name] != value:
            yield f"not as planned: {name} was to be {_shown(value)}, and is {_shown(found[name])} in {result.folder}"


def _texts(conditions: Sequence[str]) -> str:
    return ", ".join(sorted({canonical(text) for text in conditions}))


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
