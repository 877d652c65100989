"""
One job, in a process of its own: ``python -m eval.run.job FOLDER``, as an executor starts it.

It trains the agent, plays the games of the evaluation, films the agent, and writes the result. What was done before is
skipped, and training goes on from its last checkpoint, so that it may be killed at any time and started again. Exit status: 0
when the result is there, 143 when it was told to stop (SIGTERM, or the process that has started it is gone).
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.provenance import provenance, settings_of, without_places
from eval.results import EPISODE_COLUMNS, RESULT, write_result
from eval.run.execution import STARTER, TOLD_TO_STOP
from eval.run.plan import JOB, PARTS
from eval.run.progress import Reporter

if TYPE_CHECKING:
    import pandas as pd

    from eval.evaluation.environments import EnvSpec

FILM = "film.gif"
ORIGINS = "origins.json"
"""Code, libraries and machine that the job was begun with, and gone on with."""


def run(folder: Path) -> None:
    """
    Do what is left to do of a job.

    :param folder: the job's
    :raises SystemExit: if it was told to stop
    """
    if (folder / RESULT).exists():
        return
    job = json.loads((folder / JOB).read_text())
    if job["device"] == "cuda" and _device() == "cpu":
        raise RuntimeError("device must be auto or cpu, got cuda: PyTorch finds no GPU here")
    reporter = Reporter(folder)
    origins = _origins(folder, job)
    agent, spec = _trained(folder, job, reporter) if job["plug_in"] is None else _plugged_in(job)
    reporter.begin("evaluating", _n_games(job))
    (folder / PARTS).mkdir(exist_ok=True)
    episodes = _evaluate(folder, job, agent, spec, reporter)
    film = _film(folder, job, agent, spec)
    reporter.tell(_n_games(job), _n_games(job), at_once=True)
    curve = _curve(folder) if job["plug_in"] is None else None
    write_result(folder, _facts(folder, job, origins, reporter.seconds), episodes, curve, film)
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def _trained(folder: Path, job: dict[str, Any], reporter: Reporter) -> tuple[Any, "EnvSpec"]:
    from eval.conditions import Condition
    from eval.evaluation.agents import load_agent
    from eval.evaluation.environments import spec_from_config
    from eval.run.training import train

    _import_packages(job)
    run_folder = train(folder, job, reporter)
    model, statistics = _model_files(run_folder)
    spec = spec_from_config(job["env"], job["config"], statistics, Condition.parse(job["condition"]))
    return load_agent(model, job["algo"], job["device"]), spec


def _model_files(run_folder: Path) -> tuple[Path, Path | None]:
    """The agent, and the statistics that its observations are normalised with, if they are."""
    (model,) = run_folder.glob("*.zip")
    statistics = run_folder / model.stem / "vecnormalize.pkl"
    return model, statistics if statistics.exists() else None


def _plugged_in(job: dict[str, Any]) -> tuple[Any, "EnvSpec"]:
    from drqn_sb3.zoo import register
    from eval.conditions import Condition
    from eval.evaluation.agents import make_plug_in
    from eval.evaluation.environments import make_env, spec_from_config

    register()
    _import_packages(job)
    spec = spec_from_config(job["env"], job["config"], None)
    env = make_env(spec, Condition(), job["evaluation"]["first_seed"], 1, 1)
    try:
        return make_plug_in(job["plug_in"], env, job["seed"]), spec
    finally:
        env.close()


def _import_packages(job: dict[str, Any]) -> None:
    import importlib

    for package in job["gym_packages"]:
        importlib.import_module(package)


def _n_games(job: dict[str, Any]) -> int:
    return len(job["evaluation"]["conditions"]) * int(job["evaluation"]["games"])


def _evaluate(folder: Path, job: dict[str, Any], agent: Any, spec: "EnvSpec", reporter: Reporter) -> "pd.DataFrame":
    """Play in one condition after the other; those that were played before are read."""
    import pandas as pd

    from eval.conditions import Condition
    from eval.evaluation.playing import Settings, evaluate

    settings = Settings(**{name: job["evaluation"][name] for name in Settings._fields})
    tables = []
    for i, text in enumerate(job["evaluation"]["conditions"]):
        path = folder / PARTS / f"{text}.csv"

        def tell(condition: str, n_games: int, before: int = i * settings.games) -> None:
            reporter.tell(before + n_games, _n_games(job))

        if not path.exists():
            played = evaluate(agent, spec, [Condition.parse(text)], settings, tell)
            _write_whole(path, played.to_csv(index=False).encode())
        tables.append(pd.read_csv(path, float_precision="round_trip").astype(EPISODE_COLUMNS))
    return pd.concat(tables, ignore_index=True)


def _film(folder: Path, job: dict[str, Any], agent: Any, spec: "EnvSpec") -> Path | None:
    """Film the agent in its training condition; one that is not trained, in the first condition that it is evaluated in."""
    from eval.conditions import Condition
    from eval.evaluation.filming import film

    settings, path = job["evaluation"], folder / PARTS / FILM
    if settings["film_steps"] == 0:
        return None
    if not path.exists():
        condition = Condition.parse(settings["conditions"][0])
        unfinished = path.with_suffix(".unfinished.gif")
        how = {name: settings[name] for name in ("deterministic", "epsilon")}
        film(agent, spec, condition, unfinished, settings["first_seed"], settings["film_steps"], **how)
        os.replace(unfinished, path)
    return path


def _curve(folder: Path) -> "pd.DataFrame | None":
    """The evaluations during training, as the zoo has written them."""
    import numpy as np
    import pandas as pd

    from eval.run.training import run_folder_of

    path = run_folder_of(folder) / "evaluations.npz"
    if not path.exists():
        return None
    with np.load(path) as arrays:
        steps, scores = arrays["timesteps"], arrays["results"]  # (points,), (points, games)
    points, games = scores.shape
    columns = {"steps": np.repeat(steps, games), "game": np.tile(np.arange(games), points), "score": scores.ravel()}
    return pd.DataFrame(columns)


def _origins(folder: Path, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Note down what the job is begun with: code, libraries, machine; and, when it is gone on with, what has changed since."""
    path = folder / ORIGINS
    origins = json.loads(path.read_text()) if path.exists() else []
    # Training asks PyTorch for a GPU as well
    now = provenance(_command(job), None if job["plug_in"] is not None else _device())
    now["machine"] = {name: value for name, value in now["machine"].items() if name != "load"}
    if not origins or origins[-1] != now:
        origins.append(now)
        _write_whole(path, json.dumps(origins, indent=1).encode())
    return list(origins)


def _device() -> str:
    import torch as th

    return "cuda" if th.cuda.is_available() else "cpu"


def _facts(folder: Path, job: dict[str, Any], origins: list[dict[str, Any]], seconds: dict[str, float]) -> dict[str, Any]:
    evaluation = {name: job["evaluation"][name] for name in ("games", "first_seed", "n_envs", "deterministic", "epsilon")}
    config = settings_of(job["config"])
    is_trained = job["plug_in"] is None
    return {
        **{name: job[name] for name in ("env", "agent", "condition", "seed", "steps", "suite")},
        "algo": job["algo"] or job["plug_in"],
        "trained_env": job["env"] if is_trained else None,
        "model_sha256": _hash(folder) if is_trained else None,
        "evaluation": evaluation | {"conditions": job["evaluation"]["conditions"]},
        "config": without_places(config | ({"curve": job["curve"]} if is_trained else {})),
        **origins[0],
        "changes": [{name: later[name] for name in ("versions", "git", "machine")} for later in origins[1:]],
        "seconds": {"train": round(seconds["training"], 1), "evaluate": round(seconds["evaluating"], 1)},
    }


def _hash(folder: Path) -> str:
    from eval.evaluation.models import model_sha256
    from eval.run.training import run_folder_of

    return model_sha256(*_model_files(run_folder_of(folder)))


def _command(job: dict[str, Any]) -> list[str]:
    from eval.run.training import zoo_command

    return zoo_command(job) if job["plug_in"] is None else ["-m", "eval", "run", job["suite"]]


def _write_whole(path: Path, content: bytes) -> None:
    from drqn_sb3.checkpoints.files import write_atomically

    write_atomically(path, [content])


def _claim(folder: Path) -> None:
    """Wait until no other process is at the job, and keep others from it until this one ends."""
    from drqn_sb3.checkpoints.store import lock_folder

    told = False
    while True:
        try:
            lock_folder(folder)
            return
        except ValueError:
            if not told:
                print("another process is at this job: waiting for it", flush=True)
            told = True
            time.sleep(0.5)


def _hide_gpus(folder: Path) -> None:
    """Where a job is to be done on the processor: before PyTorch is imported. The zoo is told nothing of it."""
    if json.loads((folder / JOB).read_text())["device"] == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _stop_with_parent() -> None:
    """Stop as at SIGTERM when the process that has started this one is gone, however it went."""
    parent = int(os.environ.get(STARTER, os.getppid()))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        print("the process that has started this job is gone: stopping", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _raise_exit(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # schedulers send several at once
    raise SystemExit(TOLD_TO_STOP)


if __name__ == "__main__":
    _stop_with_parent()
    # During training its checkpoints' callback takes this over
    signal.signal(signal.SIGTERM, _raise_exit)
    # The zoo takes Ctrl-C for the end of training
    signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    job_folder = Path(sys.argv[1])
    _hide_gpus(job_folder)
    _claim(job_folder)
    run(job_folder)
