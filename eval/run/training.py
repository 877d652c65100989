"""Training a job's agent by way of the zoo, in this process, resumed where it was interrupted."""

import functools
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3.common.callbacks import BaseCallback

from drqn_sb3.checkpoints.files import write_atomically
from eval.conditions import class_name
from eval.provenance import ROOT
from eval.run.configs import WARM_START
from eval.run.plan import TRAINED, ZOO
from eval.run.progress import Reporter

CONFIG = "config.yml"
BEST_MODEL = "best_model.zip"

_reporter: Reporter | None = None


class ProgressCallback(BaseCallback):
    """Tells the job's reporter how many steps were made. It remembers nothing, as a resumed run may lie elsewhere."""

    def _on_step(self) -> bool:
        if _reporter is not None and self.locals.get("total_timesteps"):
            _reporter.tell(self.model.num_timesteps, int(self.locals["total_timesteps"]))
        return True


def train(folder: Path, job: dict[str, Any], reporter: Reporter) -> Path:
    """
    Train a job's agent, unless that was done before.

    :param folder: the job's
    :param job: what is to be done, see :mod:`eval.run.plan`
    :param reporter: is told how far it is
    :return: the run's folder, as the zoo makes it, within the job's
    :raises SystemExit: if training was told to stop
    :raises RuntimeError: if it ended before its budget was spent
    """
    global _reporter
    mark = folder / TRAINED
    if not mark.exists():
        (folder / CONFIG).write_text(yaml.safe_dump({job["env"]: _with_absolute_paths(job["config"])}, sort_keys=False))
        _reporter = reporter
        reporter.begin("training", job["steps"])
        try:
            _run_the_zoo(folder, zoo_command(job))
        finally:
            _reporter = None
        reporter.tell(job["steps"], job["steps"], at_once=True)
        run = _finished_run(folder, job)
        write_atomically(mark, [json.dumps({"run": run.relative_to(folder).as_posix()}).encode()])
    run = run_folder_of(folder)
    # Of use to nobody any more, and as large as the agent. Not before the mark: what is gone can't be gone on with
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    (run / BEST_MODEL).unlink(missing_ok=True)
    return run


def run_folder_of(folder: Path) -> Path:
    """
    :param folder: of a job whose training is over
    :return: the run's folder, as the zoo has made it
    """
    return folder / str(json.loads((folder / TRAINED).read_text())["run"])


def zoo_command(job: dict[str, Any]) -> list[str]:
    """
    :param job: what is to be done
    :return: the zoo's own command behind ``python``, to be run in the job's folder
    """
    points, games = job["curve"]["points"], job["curve"]["games"]
    words = ["-m", "rl_zoo3.train", "--algo", job["algo"], "--env", job["env"], "--seed", str(job["seed"])]
    words += ["-n", str(job["steps"]), "-f", ZOO, "--conf-file", CONFIG]
    words += ["--eval-freq", str(max(job["steps"] // points, 1)) if points else "-1"]
    words += ["--eval-episodes", str(games), "--n-eval-envs", str(min(games, 5))]
    if job["gym_packages"]:
        words += ["--gym-packages", *job["gym_packages"]]
    return [*words, "-params", "resume:True"] if job["resumable"] else words


def _run_the_zoo(folder: Path, words: list[str]) -> None:
    from drqn_sb3.zoo import register

    register()
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.train import train

    with _command(folder, words), evaluated_greedily(ExperimentManager):
        try:
            train()
        except SystemExit as error:
            # 0: an earlier attempt has come to the end, and was killed before it could say so here
            if error.code != 0:
                raise


@contextmanager
def evaluated_greedily(manager_class: Any) -> Iterator[None]:
    """
    Have agents play as they are evaluated in the end. In Atari games the zoo has them draw actions instead, and a DQN explore
    as much as it just does in training.
    """
    create = manager_class.create_callbacks

    @functools.wraps(create)
    def create_greedily(self: Any) -> None:
        self.deterministic_eval = True
        create(self)

    manager_class.create_callbacks = create_greedily
    try:
        yield
    finally:
        manager_class.create_callbacks = create


def _with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """For the zoo, which runs in the job's folder, where agents to begin with are named from the checkout's."""

    def located(callback: Any) -> Any:
        if class_name(callback) != WARM_START:
            return callback
        ((name, arguments),) = callback.items()
        return {name: {**arguments, "path": str(ROOT / arguments["path"])}}

    return {**config, "callback": [located(callback) for callback in config["callback"]]}


@contextmanager
def _command(folder: Path, words: list[str]) -> Iterator[None]:
    """
    Have the process look as if the command had been typed in a folder. The zoo reads it from the process, and a run is gone on
    with by the command that has begun it: it must be the same wherever the results lie.
    """
    former = sys.argv, sys.orig_argv, os.getcwd()
    os.chdir(folder)
    sys.argv, sys.orig_argv = [words[1], *words[2:]], ["python", *words]
    try:
        yield
    finally:
        sys.argv, sys.orig_argv = former[:2]
        os.chdir(former[2])


def _finished_run(folder: Path, job: dict[str, Any]) -> Path:
    runs = folder / ZOO / job["algo"]
    models = [path for path in runs.glob("*/*.zip") if path.name != BEST_MODEL]
    if not models:
        raise RuntimeError(f"the zoo must have saved an agent in {runs}, found none")
    model = max(models, key=lambda path: path.stat().st_mtime)
    with zipfile.ZipFile(model) as archive:
        n_steps = json.loads(archive.read("data"))["num_timesteps"]
    if n_steps < job["steps"]:
        raise RuntimeError(
            f"training must go on for {job['steps']:,} steps, it ended after {n_steps:,}: a callback or Ctrl-C has ended it. "
            f"Without {runs.name}'s folder in {runs.parent}, it begins anew"
        )
    return model.parent
