"""
Runs of RL Baselines3 Zoo that survive: where their checkpoints lie, and how they are gone on with.

The zoo begins a new run folder (``logs/drqn/<env>_<number>``) whenever it is started. A run that is resumed goes on in its own
folder: monitor files and evaluations are appended to, configuration and command stay those of the run's beginning.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.vec_env import VecEnv

from drqn_sb3.checkpoints import ResumableEnv, RunCheckpointCallback
from drqn_sb3.checkpoints.archive import read_summary
from drqn_sb3.checkpoints.files import write_atomically
from drqn_sb3.checkpoints.store import is_checkpoint, list_checkpoints

if TYPE_CHECKING:
    from rl_zoo3.exp_manager import ExperimentManager

CHECKPOINTS = "checkpoints"
"""Name of the folder, within a run's, that its checkpoints lie in."""
FINISHED = "finished"
"""Name of the file in it that says that the run has come to its end, and its agent was saved."""


def let_runs_survive(manager_class: "type[ExperimentManager]") -> None:
    """
    Have the zoo's runs write checkpoints where their config names :class:`RunCheckpointCallback`, and resume from them.

    - ``-params resume:True`` goes on with the newest run that the same command has begun and not finished, if there is one;
      if the newest is finished, there is nothing to do; else it begins one. It adds the callback where the config names none.
    - ``--trained-agent <run>/checkpoints/checkpoint_<steps>.zip`` goes on with that run from that checkpoint.

    Either takes the run's whole budget from the config or ``-n``, and does what is left of it. Only the former can be started
    again and again: the latter goes back to that checkpoint each time, and those of more steps are removed.

    :param manager_class: the zoo's ``ExperimentManager``, which is changed; a second call changes nothing
    """
    _wrap(manager_class, "_preprocess_hyperparams", _preprocess_hyperparams)
    _wrap(manager_class, "create_log_folder", _create_log_folder)
    _wrap(manager_class, "_load_pretrained_agent", _load_pretrained_agent)
    _wrap(manager_class, "_save_config", _save_config)
    _wrap(manager_class, "save_trained_model", _save_trained_model)
    _wrap(manager_class, "learn", _learn)


def _wrap(manager_class: "type[ExperimentManager]", name: str, wrapper: Callable[..., Any]) -> None:
    method = getattr(manager_class, name)
    if getattr(method, "lets_runs_survive", False):
        return

    @functools.wraps(method)
    def wrapped(self: "ExperimentManager", *args: Any) -> Any:
        return wrapper(method, self, *args)

    wrapped.lets_runs_survive = True  # type: ignore[attr-defined]
    setattr(manager_class, name, wrapped)


# --- what the manager's methods do beside what they did ---


def _preprocess_hyperparams(
    preprocess: Callable[..., Any], manager: "ExperimentManager", hyperparams: dict[str, Any]
) -> tuple[dict[str, Any], Callable[..., Any] | None, list[BaseCallback], Callable[..., Any] | None]:
    """Prepare the callback, and environments that can tell their state from within worker processes."""
    resume = hyperparams.get("resume", False)
    if not isinstance(resume, bool):
        raise ValueError(f"resume must be True or False, got {resume!r}; a checkpoint is named with --trained-agent")
    without = {name: value for name, value in hyperparams.items() if name != "resume"}
    processed, env_wrapper, callbacks, vec_env_wrapper = preprocess(manager, without)
    if manager.optimize_hyperparameters:
        # Trials are many and short: they are pruned, not resumed
        manager.specified_callbacks = _without_checkpoints(manager.specified_callbacks)
        others = [callback for callback in callbacks if not isinstance(callback, RunCheckpointCallback)]
        return processed, env_wrapper, others, vec_env_wrapper
    checkpoint = _find_checkpoint(manager)
    found = [callback for callback in callbacks if isinstance(callback, RunCheckpointCallback)]
    if not found and (resume or checkpoint is not None):
        found = [RunCheckpointCallback()]
    if not found:
        return processed, env_wrapper, callbacks, vec_env_wrapper
    callback = found[0]
    callback.resume = checkpoint or resume or callback.resume
    # Before the others, so that what it resumes is what they begin with
    callbacks = [_CleanUp(manager), callback, *(other for other in callbacks if other is not callback)]
    return processed, functools.partial(_make_resumable, env_wrapper), callbacks, vec_env_wrapper


class _CleanUp(BaseCallback):
    """
    Stands where the zoo expects its progress bar: it tells its first callback that training has ended whatever has happened,
    be it an error, at which nothing but the bar may take it at its word.

    :param manager: whose bar it is
    """

    def __init__(self, manager: "ExperimentManager") -> None:
        super().__init__()
        self.manager = manager

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        for callback in self.manager.callbacks:
            if isinstance(callback, ProgressBarCallback) and hasattr(callback, "pbar"):
                callback.on_training_end()


def _make_resumable(env_wrapper: Callable[[gym.Env], gym.Env] | None, env: gym.Env) -> gym.Env:
    return ResumableEnv(env if env_wrapper is None else env_wrapper(env))


def _without_checkpoints(callbacks: Any) -> list[Any]:
    """Leave them out of a config's ``callback``: a name, a dict of a name and arguments, a list of these, or nothing."""
    listed = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    return [one for one in listed if RunCheckpointCallback.__name__ not in str(one)]


def _create_log_folder(create: Callable[..., None], manager: "ExperimentManager") -> None:
    """Decide which run this is: a new one, or one that is gone on with in its own folder."""
    callback = _callback_of(manager)
    if callback is None:
        create(manager)
        return
    checkpoint = _find_checkpoint(manager)
    if checkpoint is not None:
        _check_origin(manager, checkpoint)
        callback.folder = checkpoint.parent
        callback.open()
        _go_on_with(manager, checkpoint.parent.parent)
    elif callback.resume is True and callback.folder is None:
        _claim_unfinished_run(manager, callback)
    create(manager)
    if callback.store is None:
        callback.folder = callback.folder or Path(manager.save_path) / CHECKPOINTS
        callback.open()


def _check_origin(manager: "ExperimentManager", checkpoint: Path) -> None:
    """Make sure that a checkpoint is of such a run, before anything is written into that run's folder."""
    from rl_zoo3.utils import ALGOS

    run = checkpoint.parent.parent
    if checkpoint.parent.name != CHECKPOINTS or not (run / manager.env_name / "command.txt").exists():
        raise ValueError(
            f"trained_agent must lie where a run of {manager.env_name} has written it, <run>/{CHECKPOINTS}/{checkpoint.name}, "
            f"got {checkpoint}: a checkpoint needs what lies beside it, and the run's {manager.env_name} folder. Copy "
            "or move the whole folder of the run"
        )
    summary = read_summary(checkpoint)
    found = summary.get("algorithm"), summary.get("n_envs")
    expected = ALGOS[manager.algo].__name__, manager.n_envs
    if found != expected:
        raise ValueError(
            f"trained_agent must be a checkpoint of {expected[0]} in {expected[1]} environments, "
            f"got {checkpoint}, of {found[0]} in {found[1]}"
        )


def _claim_unfinished_run(manager: "ExperimentManager", callback: RunCheckpointCallback) -> None:
    """Go on with the newest run that this command has begun and not finished, unless somebody else does."""
    runs = [path for path in Path(manager.log_path).glob(f"{manager.env_name}_*") if path.is_dir()]
    command, finished = " ".join(sys.orig_argv), []
    for run in sorted(runs, key=lambda path: path.stat().st_mtime, reverse=True):
        origin = run / manager.env_name / "command.txt"
        if not origin.exists():
            continue
        has_checkpoints = bool(list_checkpoints(run / CHECKPOINTS))
        if origin.read_text() != command:
            if has_checkpoints:
                print(f"Not going on with {run}, which another command has begun: {origin.read_text()}")
            continue
        if not has_checkpoints:
            print(f"Not going on with {run}: it has no checkpoint (yet)")
            continue
        if (run / CHECKPOINTS / FINISHED).exists():
            finished.append(run)
            continue
        callback.folder = run / CHECKPOINTS
        try:
            callback.open()
        except ValueError:
            print(f"Not going on with {run}: another process is doing so")
            continue
        _check_origin(manager, list_checkpoints(callback.folder)[-1])
        _go_on_with(manager, run)
        return
    callback.folder = None
    if finished:
        print(f"{finished[0]} is finished: nothing is left to do. Without resume:True, the command begins another run")
        raise SystemExit(0)


def _go_on_with(manager: "ExperimentManager", run: Path) -> None:
    print(f"Going on with the run in {run}")
    manager.save_path = str(run)
    manager.params_path = f"{run}/{manager.env_name}"
    if any((run / f"{index}.monitor.csv").exists() for index in range(manager.n_envs)):
        manager.monitor_kwargs = {**manager.monitor_kwargs, "override_existing": False}


def _learn(learn: Callable[..., None], manager: "ExperimentManager", model: BaseAlgorithm) -> None:
    """Save the agent of a run that was told to stop, as the zoo does after Ctrl-C: one may look at it meanwhile."""
    try:
        learn(manager, model)
    except SystemExit:
        manager.save_trained_model(model)
        raise


def _save_trained_model(save: Callable[..., None], manager: "ExperimentManager", model: BaseAlgorithm) -> None:
    """Leave a mark when all is saved. The model alone says little: the zoo saves one that was interrupted, too."""
    save(manager, model)
    callback = _callback_of(manager)
    if callback is not None and callback.has_ended and callback.folder is not None:
        write_atomically(callback.folder / FINISHED, [f"{model.num_timesteps} steps\n".encode()])


def _load_pretrained_agent(
    load: Callable[..., BaseAlgorithm], manager: "ExperimentManager", hyperparams: dict[str, Any], env: VecEnv
) -> BaseAlgorithm:
    """Make the model of a run that is gone on with anew: its checkpoint fills it when learning begins."""
    from rl_zoo3.utils import ALGOS

    if _find_checkpoint(manager) is None:
        return load(manager, hyperparams, env)
    return ALGOS[manager.algo](
        env=env,
        tensorboard_log=manager.tensorboard_log,
        seed=manager.seed,
        verbose=manager.verbose,
        device=manager.device,
        **hyperparams,
    )


def _save_config(save: Callable[..., None], manager: "ExperimentManager", saved_hyperparams: dict[str, Any]) -> None:
    """Leave the configuration of a run that is gone on with as it was."""
    if not (Path(manager.params_path) / "command.txt").exists():
        save(manager, saved_hyperparams)


# --- what is asked for ---


def _find_checkpoint(manager: "ExperimentManager") -> Path | None:
    """The checkpoint that ``--trained-agent`` names, if it is one and no model."""
    path = Path(manager.trained_agent)
    return path if manager.continue_training and is_checkpoint(path) else None


def _callback_of(manager: "ExperimentManager") -> RunCheckpointCallback | None:
    return next((callback for callback in manager.callbacks if isinstance(callback, RunCheckpointCallback)), None)
