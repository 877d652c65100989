"""
From a suite to its jobs' folders: every choice is made, checked and written down before any work begins.

``<results>/suite.json`` holds what has to be there in the end, ``<job>/job.json`` all that the job's process needs to know.
"""

import importlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.conditions import Condition
from eval.results import RESULT, without_shipped_budget
from eval.run.configs import (
    ENVIRONMENT,
    Environments,
    check_hyperparameters,
    check_warm_start,
    complete,
    find_config,
    is_resumable,
)
from eval.suite import Job, Suite, SuiteError

JOB, SUITE = "job.json", "suite.json"
TRAINED, ZOO, PARTS = "trained.json", "zoo", "parts"
"""In a job's folder: says that training is over; the zoo's own folder; games and film until the result is written."""
PLACE = ("device",)
"""What says where a job is run, not what it is: it may change when a suite is gone on with."""
DEVICES = ("auto", "cpu", "cuda")


def make_plan(suite: Suite, results: Path, device: str = "auto") -> dict[Path, dict[str, Any]]:
    """
    Find out all that is to be done, and whether it can be.

    :param suite: the suite
    :param results: its folder
    :param device: that agents are trained on, one of :data:`DEVICES`
    :return: by the folders of the jobs, in the order in which they are to be run: what a job's process needs to know
    :raises SuiteError: if something in the suite is unknown or does not go together
    """
    check_suite(suite)
    environments = Environments()
    return {results / job.folder: describe_job(suite, job, device, environments) for job in suite.jobs()}


def check_begun(plan: dict[Path, dict[str, Any]], evaluate_again: bool = False) -> None:
    """
    Make sure that what was begun before was begun with the same settings.

    :param plan: of :func:`make_plan`
    :param evaluate_again: whether other settings of the evaluation are welcome
    :raises SuiteError: if it was not
    """
    for folder, description in plan.items():
        changed = _changes(folder, description)
        if not changed or not has_begun(folder):
            continue
        if set(changed) > {"evaluation"} or not evaluate_again:
            hint = ", or add --evaluate-again to have trained agents play anew" if set(changed) == {"evaluation"} else ""
            told = "; ".join(text for texts in changed.values() for text in texts)
            raise SuiteError(
                f"{folder} was begun with other settings ({told}): put them back, choose another --out, or remove it{hint}"
            )


def has_begun(folder: Path) -> bool:
    """
    :param folder: a job's
    :return: whether there is anything in it to lose
    """
    return any(next(folder.glob(pattern), None) for pattern in (RESULT, TRAINED, f"{ZOO}/*/*/checkpoints/checkpoint_*.zip"))


def write_plan(suite: Suite, results: Path, plan: dict[Path, dict[str, Any]]) -> None:
    """
    Write it down. Results and games of other settings are removed, see :func:`check_begun`.

    :param suite: the suite
    :param results: its folder
    :param plan: of :func:`make_plan`
    """
    results.mkdir(parents=True, exist_ok=True)
    for folder, description in plan.items():
        if _changes(folder, description):
            # Of other settings: what was played, and what was begun and left nothing
            (folder / RESULT).unlink(missing_ok=True)
            shutil.rmtree(folder / PARTS, ignore_errors=True)
            if not (folder / TRAINED).exists():
                shutil.rmtree(folder / ZOO, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / JOB, description)
    _write(results / SUITE, _whole(suite))


def check_suite(suite: Suite) -> None:
    """
    :param suite: the suite
    :raises SuiteError: if Gymnasium does not know an environment of it, or a package or a plug-in can't be had
    """
    import gymnasium as gym
    import rl_zoo3.import_envs  # noqa: F401

    from drqn_sb3.zoo import register
    from eval.evaluation.agents import check_plug_in

    register()
    for package in suite.gym_packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise SuiteError(f"gym_packages must be modules, got {package}: {error}") from error
    for env in suite.environments:
        try:
            gym.spec(env)
        except gym.error.Error as error:
            raise SuiteError(
                f"environments must be known to Gymnasium, got {env}: {error} (gym_packages lists modules that register more)"
            ) from error
    for agent in suite.agents:
        if agent.plug_in is not None:
            try:
                check_plug_in(agent.plug_in)
            except ValueError as error:
                raise SuiteError(f"agents.{agent.name}.plug_in: {error}") from error


def describe_job(suite: Suite, job: Job, device: str, environments: Environments) -> dict[str, Any]:
    """
    :param suite: the suite
    :param job: one of its jobs
    :param device: that the agent is trained on
    :param environments: that were made before
    :return: all that the job's process needs to know, as JSON has it
    :raises SuiteError: if something in it is unknown or does not go together
    """
    config = _config(suite, job)
    conditions = [Condition.parse(text) for text in job.evaluated]
    resumable = False
    if job.agent.algo is not None and job.condition is not None:
        check_hyperparameters(job.agent.name, config, job.agent.algo)
        check_warm_start(job.agent.name, config)
        environments.check_actions(job.env, config, job.agent.algo)
        bare, condition = config, Condition.parse(job.condition)
        resumable = is_resumable(config, job.agent.algo, environments.holds_arrays(job.env, config))
        config = complete(bare, condition, job.agent.algo, resumable)
        environments.check(job.env, bare, [condition, *conditions])
    else:
        environments.check(job.env, config, conditions)
    evaluation = asdict(suite.evaluation)
    del evaluation["conditions"], evaluation["sweep"]
    description = {
        "suite": suite.name,
        "env": job.env,
        "agent": job.agent.name,
        "algo": job.agent.algo,
        "plug_in": job.agent.plug_in,
        "condition": job.condition,
        "seed": job.seed,
        "steps": job.steps,
        "config": config,
        "resumable": resumable,
        "curve": {"points": suite.points, "games": suite.curve_games},
        "evaluation": evaluation | {"conditions": list(job.evaluated)},
        "gym_packages": list(suite.gym_packages),
        "device": device,
    }
    as_read: dict[str, Any] = json.loads(json.dumps(description))
    return as_read


def _config(suite: Suite, job: Job) -> dict[str, Any]:
    """Hyperparameters; of a plug-in, what makes its environment that of the agent that it is like. It sees single frames."""
    env_kwargs = {"env_kwargs": dict(job.env_kwargs)} if job.env_kwargs else {}
    if job.agent.algo is not None:
        return find_config(job.agent, job.env) | env_kwargs
    like = next((agent for agent in suite.agents if agent.name == job.agent.like), None)
    config = {} if like is None else find_config(like, job.env)
    return {name: config[name] for name in ENVIRONMENT if name in config} | env_kwargs


def _changes(folder: Path, description: dict[str, Any]) -> dict[str, list[str]]:
    """What differs from the job that is there, by the settings' part: in words."""
    path = folder / JOB
    if not path.exists():
        return {}
    try:
        former = json.loads(path.read_text())
    except ValueError as error:
        raise SuiteError(f"{path} is damaged ({error}): remove {folder}") from error
    before, now = _compared(former), _compared(description)
    parts = [name for name in now if name not in PLACE and before.get(name) != now[name]]
    return {name: _told(name, before.get(name), now[name]) for name in parts}


def _compared(description: dict[str, Any]) -> dict[str, Any]:
    """What a job's result depends on: an agent that is not trained has no learning curve."""
    untrained = description.get("algo") is None or description.get("condition") is None
    compared = {**description, "config": without_shipped_budget(description.get("config") or {})}
    return compared | ({"curve": None} if untrained else {})


def _told(name: str, former: Any, present: Any) -> list[str]:
    if not isinstance(former, dict) or not isinstance(present, dict):
        return [f"{name}: {former} -> {present}"]
    keys = [key for key in {**former, **present} if former.get(key) != present.get(key)]
    return [f"{name}.{key}: {former.get(key)} -> {present.get(key)}" for key in keys]


def _whole(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "description": suite.description,
        "jobs": [
            {
                "env": job.env,
                "agent": job.agent.name,
                "condition": job.condition,
                "seed": job.seed,
                "steps": job.steps,
                "evaluated": list(job.evaluated),
                "folder": job.folder.as_posix(),
            }
            for job in suite.jobs()
        ],
        "evaluation": asdict(suite.evaluation),
    }


def _write(path: Path, document: dict[str, Any]) -> None:
    from drqn_sb3.checkpoints.files import write_atomically

    text = json.dumps(document, indent=1) + "\n"
    if not path.exists() or path.read_text() != text:
        write_atomically(path, [text.encode()])
