"""
Registration with RL Baselines3 Zoo (rl_zoo3): algorithm, hyperparameters, search space, environments.

A plain install calls :func:`register` by itself when ``rl_zoo3`` is imported (see ``_zoo_hook``). The zoo is imported
inside functions only: importing it is what brings the call here.

The hyperparameter files are found by :func:`hyperparams_file`; for a command line,
``--conf-file "$(python -m drqn_sb3.zoo presets/paper_drqn.yml)"``.
"""

import functools
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.drqn import DRQN
from drqn_sb3.envs import register_envs
from drqn_sb3.frame_stack import FrameStackReplayBuffer
from drqn_sb3.zoo_runs import let_runs_survive

if TYPE_CHECKING:
    import optuna
    from rl_zoo3.exp_manager import ExperimentManager

ALGO = "drqn"

# Sizes of the fully connected layers before (encoder) and after (head) the recurrent cell.
NET_ARCHS: dict[str, dict[str, list[int]]] = {
    "cell": {"encoder": [], "head": []},
    "encoder": {"encoder": [128], "head": []},
    "head": {"encoder": [], "head": [128]},
    "both": {"encoder": [128], "head": [128]},
}


def register() -> None:
    """
    Make ``drqn``, its hyperparameters and our environments known to rl_zoo3. May be called any number of times.

    The zoo's own dicts are changed in place, for its modules share them: ``ALGOS``, ``HYPERPARAMS_SAMPLER`` and
    ``HYPERPARAMS_CONVERTER`` each gain the key ``"drqn"``. An ``ExperimentManager`` made without a config (without
    ``--conf-file``) looks where :func:`default_config` says. When the running program is ``python -m
    rl_zoo3.benchmark``, it can be started in any directory: it runs ``python enjoy.py``, which exists in a checkout of
    the zoo only; where the current directory has no such file, that one command becomes
    ``python -m rl_zoo3.enjoy``, run by the same interpreter.

    Hyperparameters may say ``replay_buffer_class: FrameStackReplayBuffer``, and nothing more: its depth is then that of
    ``frame_stack``, and it is told ``n_steps`` and ``gamma``, which SB3 does not pass on, those that ``-optimize`` samples
    for ``dqn`` and ``qrdqn`` included. What ``replay_buffer_kwargs`` says comes first. See :func:`fill_in_frame_stack`.
    """
    from rl_zoo3 import exp_manager
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
    from rl_zoo3.utils import ALGOS

    ALGOS[ALGO] = DRQN
    HYPERPARAMS_SAMPLER[ALGO] = sample_drqn_params
    HYPERPARAMS_CONVERTER[ALGO] = convert_drqn_params
    register_envs()
    _find_default_config(ExperimentManager)
    # The zoo evaluates `replay_buffer_class` among that module's names
    for buffer_class in (FrameStackReplayBuffer, SequenceReplayBuffer):
        setattr(exp_manager, buffer_class.__name__, buffer_class)
    _fit_frame_stack_to_hyperparams(ExperimentManager)
    let_runs_survive(ExperimentManager)
    for algo in ("dqn", "qrdqn"):
        HYPERPARAMS_SAMPLER[algo] = _fit_frame_stack_to_sample(HYPERPARAMS_SAMPLER[algo])
    if _running_module() == "rl_zoo3.benchmark":
        _run_enjoy_from_anywhere()


# --- hyperparameter files ---


def hyperparams_file(name: str) -> Path:
    """
    Path of one of our hyperparameter files: package data in a wheel, the checkout's folder in an editable install.

    :param name: relative to ``hyperparams/``, e.g. ``"drqn.yml"`` or ``"presets/paper_drqn.yml"``
    :return: its absolute path
    :raises ValueError: if there is no such file
    """
    package = Path(__file__).resolve().parent
    folders = [folder / "hyperparams" for folder in (package, package.parent)]
    folder = next((folder for folder in folders if (folder / "drqn.yml").is_file()), folders[0])
    if not (folder / name).is_file():
        files = sorted(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*.yml"))
        raise ValueError(f"name must be one of {files}, got {name!r}")
    return folder / name


def default_config(algo: str, env_id: str, zoo_config: str) -> str:
    """
    Choose the config file of a training run that was given none.

    Ours, if the zoo has none for the algorithm, or if ours has an entry for the environment and the zoo's has not.

    :param algo: the algorithm's name in the zoo
    :param env_id: the environment's id
    :param zoo_config: path of the zoo's own config file, which need not exist
    :return: path of the config file
    """
    try:
        ours = hyperparams_file(f"{algo}.yml")
    except ValueError:
        return zoo_config
    if not Path(zoo_config).is_file():
        return str(ours)
    is_ours = env_id in _entries(ours) and env_id not in _entries(Path(zoo_config))
    return str(ours) if is_ours else zoo_config


def _entries(config: Path) -> set[str]:
    return set(yaml.safe_load(config.read_text(encoding="utf-8")))


def _find_default_config(manager_class: "type[ExperimentManager]") -> None:
    """Have a manager that is given no config use :func:`default_config`."""
    init = manager_class.__init__
    if getattr(init, "uses_default_config", False):
        return
    signature = inspect.signature(init)

    @functools.wraps(init)
    def init_with_default_config(self: "ExperimentManager", *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if not signature.bind(self, *args, **kwargs).arguments.get("config"):
            self.config = default_config(self.algo, self.env_name.gym_id, self.config)

    init_with_default_config.uses_default_config = True  # type: ignore[attr-defined]
    manager_class.__init__ = init_with_default_config  # type: ignore[method-assign]


# --- the frame stack's replay buffer ---


def fill_in_frame_stack(hyperparams: dict[str, Any], frame_stack: int | None) -> dict[str, Any]:
    """
    Tell a :class:`~drqn_sb3.frame_stack.FrameStackReplayBuffer` what the rest of the hyperparameters say.

    :param hyperparams: keyword arguments of the algorithm, as the zoo has preprocessed them
    :param frame_stack: number of frames that the zoo stacks, ``None`` for no stacks
    :return: the same, if they name no such buffer; else with ``n_stack`` in ``replay_buffer_kwargs``, and, where ``n_steps``
        is above 1, ``n_steps`` and ``gamma`` too. ``n_steps`` itself is left out: SB3 would warn that it ignores it.
    """
    buffer_class = hyperparams.get("replay_buffer_class")
    if not (isinstance(buffer_class, type) and issubclass(buffer_class, FrameStackReplayBuffer)):
        return hyperparams
    hyperparams = hyperparams.copy()
    buffer_kwargs = {"n_stack": frame_stack or 1}
    n_steps = hyperparams.pop("n_steps", 1)
    if n_steps > 1:
        # 0.99 is the default of SB3's algorithms
        buffer_kwargs |= {"n_steps": n_steps, "gamma": hyperparams.get("gamma", 0.99)}
    hyperparams["replay_buffer_kwargs"] = buffer_kwargs | (hyperparams.get("replay_buffer_kwargs") or {})
    return hyperparams


def _fit_frame_stack_to_hyperparams(manager_class: "type[ExperimentManager]") -> None:
    """Have a manager fill in what its hyperparameters leave out of the frame stack's buffer."""
    preprocess = manager_class._preprocess_hyperparams
    if getattr(preprocess, "fills_in_frame_stack", False):
        return

    @functools.wraps(preprocess)
    def preprocess_and_fill_in(self: "ExperimentManager", hyperparams: dict[str, Any]) -> Any:
        processed, *others = preprocess(self, hyperparams)
        return fill_in_frame_stack(processed, self.frame_stack), *others

    preprocess_and_fill_in.fills_in_frame_stack = True  # type: ignore[attr-defined]
    manager_class._preprocess_hyperparams = preprocess_and_fill_in  # type: ignore[method-assign]


def _fit_frame_stack_to_sample(sampler: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Have a sampler of the zoo's tell the frame stack's buffer the discount factor that it has sampled."""
    if getattr(sampler, "fills_in_frame_stack", False):
        return sampler

    @functools.wraps(sampler)
    def sample_and_fill_in(
        trial: "optuna.Trial", n_actions: int, n_envs: int, additional_args: dict[str, Any]
    ) -> dict[str, Any]:
        sampled = sampler(trial, n_actions, n_envs, additional_args)
        # The config's `replay_buffer_kwargs`, whatever the buffer is
        buffer_kwargs = additional_args["her_kwargs"]
        if {"n_stack", "gamma"} <= buffer_kwargs.keys():
            sampled["replay_buffer_kwargs"] = {**buffer_kwargs, "gamma": sampled["gamma"]}
        return sampled

    sample_and_fill_in.fills_in_frame_stack = True  # type: ignore[attr-defined]
    return sample_and_fill_in


# --- search space ---


def sample_drqn_params(trial: "optuna.Trial", n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Sample DRQN's hyperparameters for ``rl_zoo3.train -optimize``.

    As with the zoo's own samplers, ``policy_kwargs`` of the config are replaced, not merged, and all else in the config
    that is not sampled here stays. A window is 35 steps at most.

    :param trial: Optuna trial
    :param n_actions: not used (of continuous actions)
    :param n_envs: not used
    :param additional_args: not used (of hindsight replay)
    :return: keyword arguments of :class:`~drqn_sb3.drqn.DRQN`
    """
    sampled_params = {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 0.0001, 0.03, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 0.002, log=True),
        # From 2**3=8 to 2**7=128 windows
        "batch_size_pow": trial.suggest_int("batch_size_pow", 3, 7),
        "sequence_length": trial.suggest_int("sequence_length", 4, 20),
        "burn_in": trial.suggest_int("burn_in", 0, 10),
        "n_steps": trial.suggest_int("n_steps", 1, 5),
        # From 2**0=1 to 2**4=16 steps of all environments
        "train_freq_pow": trial.suggest_int("train_freq_pow", 0, 4),
        "gradient_steps": trial.suggest_int("gradient_steps", 1, 4),
        "target_update_interval": trial.suggest_int("target_update_interval", 100, 20_000, log=True),
        "exploration_steps": trial.suggest_int("exploration_steps", 10_000, 1_000_000, log=True),
        "exploration_final_eps": trial.suggest_float("exploration_final_eps", 0.01, 0.2),
        "initial_state": trial.suggest_categorical("initial_state", ["zero", "stored"]),
        # From 2**5=32 to 2**9=512
        "hidden_size_pow": trial.suggest_int("hidden_size_pow", 5, 9),
        "recurrent_cell": trial.suggest_categorical("recurrent_cell", ["lstm", "gru"]),
        "dueling": trial.suggest_categorical("dueling", [False, True]),
        "net_arch": trial.suggest_categorical("net_arch", list(NET_ARCHS)),
    }
    hyperparams = convert_drqn_params(sampled_params)
    # The values meant, beside the powers sampled
    for name in ("gamma", "batch_size", "train_freq"):
        trial.set_user_attr(name, hyperparams[name])
    trial.set_user_attr("hidden_size", hyperparams["policy_kwargs"]["hidden_size"])
    return hyperparams


def convert_drqn_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Turn a trial's parameters into keyword arguments; ``--trial-id`` rebuilds a trial by it.

    :param sampled_params: what :func:`sample_drqn_params` has suggested, as Optuna stores it
    :return: keyword arguments of :class:`~drqn_sb3.drqn.DRQN`
    """
    hyperparams = sampled_params.copy()
    hyperparams["gamma"] = 1 - hyperparams.pop("one_minus_gamma")
    for name in ("batch_size", "train_freq"):
        hyperparams[name] = 2 ** hyperparams.pop(f"{name}_pow")
    net_arch = NET_ARCHS[hyperparams.pop("net_arch")]
    hyperparams["policy_kwargs"] = {
        "recurrent_cell": hyperparams.pop("recurrent_cell"),
        "hidden_size": 2 ** hyperparams.pop("hidden_size_pow"),
        "dueling": hyperparams.pop("dueling"),
        "net_arch": {part: list(sizes) for part, sizes in net_arch.items()},
    }
    return hyperparams


# --- `python -m rl_zoo3.benchmark` ---


def _running_module() -> str:
    """Name of the module that ``python -m`` runs, be it that Python is still importing its package; else empty."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return spec.name
    if sys.argv[:1] == ["-m"]:
        # Until the module has been found, argv holds "-m" and what follows the name
        return sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    return ""


def _run_enjoy_from_anywhere() -> None:
    """Have this process' ``subprocess.call`` run the zoo's ``enjoy`` where ``python enjoy.py`` would find no file."""
    call: Callable[..., int] = subprocess.call
    if getattr(call, "runs_enjoy_from_anywhere", False):
        return

    @functools.wraps(call)
    def call_enjoy(args: Any, *more: Any, **kwargs: Any) -> int:
        if isinstance(args, list) and args[:2] == ["python", "enjoy.py"] and not Path("enjoy.py").exists():
            args = [sys.executable, "-m", "rl_zoo3.enjoy", *args[2:]]
        return call(args, *more, **kwargs)

    call_enjoy.runs_enjoy_from_anywhere = True  # type: ignore[attr-defined]
    subprocess.call = call_enjoy


if __name__ == "__main__":
    try:
        print(*map(hyperparams_file, sys.argv[1:] or ["drqn.yml"]), sep="\n")
    except ValueError as error:
        sys.exit(str(error))
