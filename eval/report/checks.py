"""What is wrong with results, before anything is drawn: every fault by name, with the folder, none averaged away."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from eval.report.data import NOT_TRAINED, is_plug_in, trained_on
from eval.report.findings import (
    ERROR,
    MISSING,
    NOTE,
    Finding,
    by_value,
    canonical,
    folders,
    full_name,
    group,
    run_of,
    some,
    trained_here,
)
from eval.report.planned import SETTINGS, compare_with_plans
from eval.report.tasks import find_other_preprocessing, find_other_tasks, find_trained_elsewhere
from eval.report.words import listed
from eval.results import Result, ResultError, find_results, read_result, without_shipped_budget

LIBRARIES = ("drqn_sb3", "torch", "stable_baselines3")


def load(paths: Sequence[Path]) -> tuple[list[Result], list[Finding]]:
    """
    Read all results below the paths.

    :param paths: folders
    :return: those that are what was written, and a finding for each of the others
    :raises ResultError: if a path is no folder or holds none
    """
    results, findings = [], []
    folders = {folder.resolve(): folder for folder in reversed(find_results(paths))}
    for folder in sorted(folders.values()):
        try:
            results.append(read_result(folder))
        except (ResultError, OSError) as error:
            findings.append(Finding(ERROR, str(error)))
    return results, findings


def check(results: Sequence[Result], paths: Sequence[Path]) -> list[Finding]:
    """
    :param results: those that could be read
    :param paths: folders that they were found in
    :return: everything that is wrong or worth knowing, each once, errors first
    """
    found: list[Finding] = []
    found += _errors(_find_duplicates(results))
    for result in results:
        found += _errors(_find_bad_games(result))
    found += _errors(_find_mixed_budgets(results))
    found += _errors(_find_other_settings(results))
    found += _errors(_find_other_agents(results))
    found += _errors(find_other_tasks(results))
    departures, unplanned = compare_with_plans(results, paths)
    found += departures
    found += [Finding(MISSING, text) for text in _missing_among(unplanned)]
    for find in (_find_other_code, _find_other_hyperparameters, find_other_preprocessing, find_trained_elsewhere, _find_gaps):
        found += [Finding(NOTE, text) for text in find(results)]
    order = {ERROR: 0, MISSING: 1, NOTE: 2}
    # Errors are for who has the folders; what the page shows must not depend on where they lie
    names = _folder_names(results, paths)
    found = [finding if finding.kind == ERROR else Finding(finding.kind, _rename(finding.text, names)) for finding in found]
    return sorted(dict.fromkeys(found), key=lambda finding: order[finding.kind])


def _folder_names(results: Sequence[Result], paths: Sequence[Path]) -> dict[str, str]:
    names = {}
    for result in results:
        root = next(path for path in paths if result.folder.is_relative_to(path))
        names[str(result.folder)] = (Path(root.resolve().name) / result.folder.relative_to(root)).as_posix()
    return dict(sorted(names.items(), key=lambda item: -len(item[0])))


def _rename(text: str, names: Mapping[str, str]) -> str:
    if not names:
        return text
    return re.sub("|".join(map(re.escape, names)), lambda match: names[match.group()], text)


def _errors(texts: Iterable[str]) -> list[Finding]:
    return [Finding(ERROR, text) for text in texts]


def _find_duplicates(results: Sequence[Result]) -> Iterator[str]:
    for (env, agent, trained, seed), same in group(results, run_of).items():
        if len(same) > 1:
            folders = " and ".join(sorted(str(result.folder) for result in same))
            yield (
                f"duplicates: {full_name(env, agent, trained)}, seed {seed} lies in {folders}: keep one of them, or give the "
                "agents different names"
            )


def _find_bad_games(result: Result) -> Iterator[str]:
    games = result.episodes()
    if not np.isfinite(games["score"]).all():
        yield f"scores must be finite, got {_bad(games['score'])} in the episodes of {result.folder}"
    curve = result.curve()
    if curve is not None:
        if not np.isfinite(curve["score"]).all():
            yield f"scores must be finite, got {_bad(curve['score'])} in the curve of {result.folder}"
        if curve.duplicated(["steps", "game"]).any():
            yield f"repeated games: the curve of {result.folder} has a game twice at the same number of steps"
    settings = result.facts["evaluation"]
    n_games, first_seed = int(settings["games"]), int(settings["first_seed"])
    expected = {canonical(text) for text in settings["conditions"]}
    played = {canonical(str(text)): part for text, part in games.groupby("condition", sort=True)}
    if expected - set(played):
        yield f"missing games: {result.folder} has none in {some(expected - set(played))}"
    if set(played) - expected:
        yield f"games of a condition that its evaluation does not name: {some(set(played) - expected)} in {result.folder}"
    for condition, part in played.items():
        numbers = part["game"].tolist()
        if len(set(numbers)) < len(numbers):
            yield f"repeated games: {_repeated(numbers)} in {condition} of {result.folder}"
        missing = sorted(set(range(n_games)) - set(numbers))
        if missing:
            yield f"missing games: {some(missing)} of {n_games} in {condition} of {result.folder}"
        if set(numbers) - set(range(n_games)):
            yield f"games beyond the {n_games} that its evaluation names in {condition} of {result.folder}"
        if (part["seed"] != first_seed + part["game"]).any():
            yield f"game seeds must be first_seed + game, got others in {condition} of {result.folder}"


def _find_mixed_budgets(results: Sequence[Result]) -> Iterator[str]:
    for (env, condition), same in group(trained_here(results), lambda result: (result.env, trained_on(result))).items():
        if max(result.steps - _rollout(result) for result in same) >= min(result.steps for result in same):
            yield f"mixed budgets in {env}, {condition}: {by_value(same, lambda result: f'{result.steps:,} steps')}"


def _rollout(result: Result) -> float:
    """Count the steps by which training may have gone beyond its budget: a suite's results name the budget itself."""
    if result.suite is not None:
        return 1
    config = result.facts["config"]
    train_freq = config.get("train_freq")
    if isinstance(train_freq, list | tuple):
        if "episode" in train_freq:  # it goes on to the end of a game, however long that is
            return inf
        train_freq = train_freq[0]
    length = max((value for value in (config.get("n_steps"), train_freq) if isinstance(value, int)), default=1)
    return max(length * int(config.get("n_envs") or 1), 1)


def _find_other_settings(results: Sequence[Result]) -> Iterator[str]:
    for env, same in group(results, lambda result: result.env).items():
        for name in SETTINGS:

            def setting(result: Result, name: str = name) -> Any:
                return result.facts["evaluation"].get(name)

            if len({setting(result) for result in same}) > 1:
                groups = by_value(same, lambda result: str(setting(result)))
                yield f"not comparable: evaluated with different {name} in {env}: {groups}"


def _find_other_agents(results: Sequence[Result]) -> Iterator[str]:
    def origin(result: Result) -> str:
        is_at_home = is_plug_in(result) or trained_on(result) != NOT_TRAINED
        return "trained here" if is_at_home else f"trained on {result.facts['trained_env'] or 'nobody knows what'}"

    for (env, agent), same in group(results, lambda result: (result.env, result.agent)).items():
        if len({result.algo for result in same}) > 1:
            yield f"one name for different algorithms: {agent} in {env} is {by_value(same, lambda result: result.algo)}"
        elif len({origin(result) for result in same}) > 1:
            yield f"one name for different agents: {agent} in {env} is {by_value(same, origin)}"


def _missing_among(results: Sequence[Result]) -> Iterator[str]:
    for (env, condition), same in group(trained_here(results), lambda result: (result.env, trained_on(result))).items():
        agents = group(same, lambda result: result.agent)
        seeds = {result.seed for result in same}
        for agent, own in agents.items():
            missing = seeds - {result.seed for result in own}
            if missing:
                where = sorted(str(result.folder) for result in own)[0]
                yield f"missing seeds {some(missing)} of {full_name(env, agent, condition)}: other agents have them ({where})"


def _find_other_code(results: Sequence[Result]) -> Iterator[str]:
    for name in LIBRARIES:

        def release(result: Result, name: str = name) -> str:
            return str(result.facts["versions"].get(name, "unknown"))

        if len({release(result) for result in results}) > 1:
            yield f"different versions of {name}: {by_value(results, release)}"
    if len({_commit(result) for result in results}) > 1:
        yield f"different git commits: {by_value(results, _commit)}"
    dirty = [result for result in results if (result.facts["git"] or {}).get("dirty")]
    if dirty:
        where = "in all results" if len(dirty) == len(results) > 1 else folders(dirty)
        yield f"the code had changes that were not committed: {where}"
    for parts, same in group([result for result in results if result.facts["changes"]], _changed_parts).items():
        yield f"{parts} changed while the job was under way: {folders(same)}"


def _changed_parts(result: Result) -> str:
    words = {"git": "code", "versions": "libraries", "machine": "machine"}
    snapshots = [{**shot, "machine": {**shot["machine"], "load": None}} for shot in (result.facts, *result.facts["changes"])]
    changed = [word for name, word in words.items() if _differences([{name: shot[name]} for shot in snapshots])]
    return listed(changed or list(words.values()))


def _find_other_hyperparameters(results: Sequence[Result]) -> Iterator[str]:
    for (env, agent, trained), same in group(results, lambda result: run_of(result)[:3]).items():
        names = _differences([without_shipped_budget(result.facts["config"]) for result in same])
        if names:
            yield f"different hyperparameters among the seeds of {full_name(env, agent, trained)}: {some(names)}"


def _find_gaps(results: Sequence[Result]) -> Iterator[str]:
    for (env, trained), same in group(trained_here(results), lambda result: (result.env, trained_on(result))).items():
        if len({_evaluated(result) for result in same}) > 1:
            groups = by_value(same, _evaluated)
            yield f"evaluated in different conditions in {env}, {trained}, and left out where there is nothing: {groups}"
        without = [result for result in same if result.curve() is None]
        if 0 < len(without) < len(same):
            yield f"no learning curve in {env}, {trained}, where others have one: {folders(without)}"


def _commit(result: Result) -> str:
    return str((result.facts["git"] or {}).get("commit") or "unknown")[:10]


def _evaluated(result: Result) -> str:
    return ", ".join(sorted(canonical(text) for text in result.facts["evaluation"]["conditions"]))


def _differences(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted({name for config in configs for name in config})
    return [name for name in names if len({json.dumps(config.get(name), sort_keys=True) for config in configs}) > 1]


def _bad(scores: Iterable[float]) -> str:
    return some({str(score) for score in scores if not np.isfinite(score)})


def _repeated(numbers: Sequence[int]) -> str:
    return some({number for number in numbers if numbers.count(number) > 1})
