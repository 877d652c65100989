"""Results whose agents may be shipped: finished, trained here, and whole."""

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eval.evaluation.models import Contestant, find_contestants, model_file, model_sha256
from eval.results import RESULT, Result, read_result
from eval.run.plan import JOB, TRAINED
from eval.shipping.run_files import STATISTICS


class Trained(NamedTuple):
    """
    A result with its agent.

    :param result: the result, verified
    :param run: the zoo's folder of the run
    :param contestant: the agent and its environment, as the run has them
    :param gym_packages: modules that register the environment
    """

    result: Result
    run: Path
    contestant: Contestant
    gym_packages: list[str]

    @property
    def model(self) -> Path:
        """The agent's zip."""
        assert self.contestant.model is not None
        return self.contestant.model


def read_trained(folder: Path) -> Trained:
    """
    :param folder: of a result that ``python -m eval run`` has written
    :return: what is needed to ship its agent
    :raises ValueError: if there is no result, or no agent that is the result's
    """
    _check_finished(folder)
    result = read_result(folder)
    if result.facts["model_sha256"] is None or result.condition is None:
        raise ValueError(f"{folder} is of {result.algo}, which was not trained: there is nothing to ship")
    if not (folder / TRAINED).is_file() or not (folder / JOB).is_file():
        raise ValueError(f"{folder} holds no run of the zoo: only an agent that python -m eval run has trained can be shipped")
    if result.condition not in set(result.episodes()["condition"]):
        raise ValueError(f"{folder} has no games under {result.condition}, in which the agent was trained: evaluate it there")
    games = int(result.facts["evaluation"]["games"])
    if games < 2:
        raise ValueError(f"{folder} must have 2 games per condition at least, for an interval, got {games}")
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    return _with_run(folder, result, list(job["gym_packages"]))


def _check_finished(folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(
            f"a RESULT_FOLDER must be a folder, got {folder}, which is {'a file' if folder.exists() else 'not there'}"
        )
    if (folder / RESULT).exists():
        return
    if (folder / JOB).exists():
        raise ValueError(f"{folder} is not finished: python -m eval run goes on with it")
    below = sorted(path.parent for path in folder.rglob(RESULT))
    raise ValueError(f"{folder} holds no {RESULT}" + (f"; did you mean {below[0]}?" if below else ""))


def _with_run(folder: Path, result: Result, gym_packages: list[str]) -> Trained:
    from eval.evaluation.environments import know_envs

    know_envs()  # before SB3 is imported: it keeps gym quiet
    from eval.run.training import run_folder_of

    run = run_folder_of(folder)
    try:
        model = model_file(run)
    except ValueError as error:
        raise ValueError(f"{folder}: its agent is missing: {error}") from error
    statistics = run / model.stem / STATISTICS
    found = model_sha256(model, statistics if statistics.exists() else None)
    if found != result.facts["model_sha256"]:
        raise ValueError(
            f"{model} is not the agent that has played: its SHA-256 must be {result.facts['model_sha256']}, got {found}"
        )
    import_packages(gym_packages)
    contestant = contestant_of(run, result.condition or "normal")
    for name in ("env", "algo", "seed"):
        known = contestant.spec.env_id if name == "env" else getattr(contestant, name)
        if known != getattr(result, name):
            raise ValueError(f"{run} must be a run of {name} {getattr(result, name)}, as the result says, got {known}")
    return Trained(result, run, contestant, gym_packages)


def import_packages(packages: Sequence[str]) -> None:
    """
    :param packages: modules that register environments
    :raises ValueError: if one can't be imported
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ValueError(f"its environment needs {package}, which can't be imported: {error}") from error


def contestant_of(folder: Path, condition: str) -> Contestant:
    """
    Read an agent as ``python -m eval evaluate FOLDER --trained-on CONDITION`` does.

    :param folder: a run of the zoo, or a shipped agent
    :param condition: that it was trained in
    :return: the agent and its environment
    :raises ValueError: if it can't be read, or was trained in another condition
    """
    from eval.evaluation.cli import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return find_contestants(parser.parse_args([str(folder), "--trained-on", condition]))[0]
