"""
Hyperparameters of a suite's jobs: found as the zoo finds them, completed, and checked before any work begins.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from eval.conditions import WRAPPERS, Condition, as_list, class_name
from eval.provenance import ROOT
from eval.suite import Agent, SuiteError

CHECKPOINTS = "drqn_sb3.RunCheckpointCallback"
WARM_START = "WarmStart"
PROGRESS_CALLBACK = "eval.run.training.ProgressCallback"
STACKED_BUFFER = "FrameStackReplayBuffer"
ON_POLICY = ("ppo", "a2c", "ppo_lstm")
STACKED = ("dqn", "qrdqn")
"""Algorithms that have checkpoints with :data:`STACKED_BUFFER`, which holds arrays only."""
ENVIRONMENT = ("env_wrapper", "vec_env_wrapper", "env_kwargs")
"""Entries of a zoo config that make its environment, but for the frame stack."""
DISCRETE, CONTINUOUS = ("drqn", "dqn", "qrdqn"), ("sac", "td3", "ddpg", "tqc", "crossq")
"""Algorithms for one kind of actions only."""
NO_ARGUMENTS = (*ENVIRONMENT, "n_timesteps", "n_envs", "normalize", "frame_stack", "callback", "monitor_kwargs")
"""Entries of a zoo config that are no arguments of the algorithm."""


def find_config(agent: Agent, env: str) -> dict[str, Any]:
    """
    :param agent: one that is trained
    :param env: environment's id
    :return: its hyperparameters there, as the zoo reads them, with the agent's own changes
    :raises SuiteError: if algorithm or environment are unknown, or there are no hyperparameters for them
    """
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.utils import ALGOS

    if agent.algo not in ALGOS:
        raise SuiteError(f"agents.{agent.name}.algo must be one of {', '.join(sorted(ALGOS))}, got {agent.algo}")
    path = agent.conf_file or _default_file(agent.algo, env)
    if not path.is_file():
        raise SuiteError(f"agents.{agent.name} must name a conf_file: there are no shipped hyperparameters of {agent.algo}")
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = [env, *(["atari"] if ExperimentManager.is_atari(env) else []), "default"]
    entry = next((entries[name] for name in names if name in entries), None)
    if entry is None:
        raise SuiteError(f"agents.{agent.name}: {path.name} has no hyperparameters for {env}; name another conf_file")
    return {**entry, **agent.hyperparams, **agent.per_env.get(env, {})}


def _default_file(algo: str, env: str) -> Path:
    import rl_zoo3

    from drqn_sb3.zoo import default_config

    return Path(default_config(algo, env, str(Path(rl_zoo3.__file__).parent / "hyperparams" / f"{algo}.yml")))


def is_resumable(config: Mapping[str, Any], algo: str, holds_arrays: bool) -> bool:
    """
    :param config: hyperparameters, as the zoo reads them
    :param algo: the zoo's name of the algorithm
    :param holds_arrays: whether observations are arrays, rather than dicts of these
    :return: whether checkpoints can hold such a run, so that it is gone on with rather than begun anew
    """
    if algo in STACKED:
        return holds_arrays and config.get("replay_buffer_class") in (None, STACKED_BUFFER)
    return algo == "drqn" or (algo in ON_POLICY and not config.get("use_sde"))


def complete(config: Mapping[str, Any], condition: Condition, algo: str, resumable: bool) -> dict[str, Any]:
    """
    Complete hyperparameters: with a condition's wrappers, with checkpoints, and with a look at how far the run is.

    :param config: hyperparameters, as the zoo reads them
    :param condition: of training
    :param algo: the zoo's name of the algorithm
    :param resumable: whether checkpoints can hold the run
    :return: hyperparameters for the zoo
    :raises SuiteError: if they hide observations by themselves, or have environments that no wrapper goes with, or one that
        the condition would hide a part of that is not to be hidden
    """
    config = dict(config)
    wrappers = as_list(config.get("env_wrapper"))
    hiding = [name for name in map(class_name, wrappers) if name in WRAPPERS]
    if hiding:
        raise SuiteError(f"env_wrapper must leave hiding observations to the suite's conditions, got {', '.join(hiding)}")
    if condition.parts:
        if "native_atari" in str(config.get("vec_env_wrapper")):
            raise SuiteError(f"condition must be normal with drqn_sb3.envs.native_atari, got {condition}: use AtariWrapper")
        try:
            config["env_wrapper"] = condition.around(wrappers)
        except ValueError as error:
            raise SuiteError(str(error)) from error
    callbacks = as_list(config.get("callback"))
    if resumable:
        if algo in STACKED and not config.get("replay_buffer_class"):
            # Samples of the same kind, and of the same speed; one that checkpoints can hold
            config["replay_buffer_class"] = STACKED_BUFFER
        if not any(class_name(callback) == "RunCheckpointCallback" for callback in callbacks):
            callbacks.append(CHECKPOINTS)
    config["callback"] = [*callbacks, PROGRESS_CALLBACK]
    return config


def check_hyperparameters(name: str, config: Mapping[str, Any], algo: str) -> None:
    """
    :param name: the agent's, for the error
    :param config: hyperparameters, as the zoo reads them
    :param algo: the zoo's name of the algorithm
    :raises SuiteError: if the algorithm has no such hyperparameter, or no such policy
    """
    from rl_zoo3.utils import ALGOS

    known = {*inspect.signature(ALGOS[algo].__init__).parameters, *NO_ARGUMENTS} - {"self", "env"}
    unknown = [key for key in config if key not in known]
    if unknown:
        raise SuiteError(
            f"agents.{name}: {algo} has no hyperparameter {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    policy, policies = str(config.get("policy")), ALGOS[algo].policy_aliases
    if "." not in policy and policy not in policies:
        raise SuiteError(f"agents.{name}: policy must be one of {', '.join(policies)}, or a dotted path, got {policy}")


def check_warm_start(name: str, config: Mapping[str, Any]) -> None:
    """
    :param name: the agent's, for the error
    :param config: hyperparameters, as the zoo reads them
    :raises SuiteError: if it is to begin with the weights of another agent that is not there
    """
    for callback in as_list(config.get("callback")):
        if class_name(callback) != WARM_START:
            continue
        arguments = next(iter(callback.values())) if isinstance(callback, dict) else None
        path = arguments.get("path") if isinstance(arguments, dict) else None
        if not isinstance(path, str) or not (ROOT / path).is_file():
            raise SuiteError(
                f"agents.{name}: {WARM_START} must have the path of a model's zip, from the checkout's folder, got {path}"
            )


class _Spaces(NamedTuple):
    observation_space: Any
    action_space: Any


class Environments:
    """Makes each kind of environment once, to see whether it can be made, and what is observed in it."""

    def __init__(self) -> None:
        self._spaces: dict[str, Any] = {}
        self._checked: set[str] = set()

    def holds_arrays(self, env: str, config: Mapping[str, Any]) -> bool:
        """
        :param env: environment's id
        :param config: hyperparameters, as the zoo reads them
        :return: whether observations are arrays, rather than dicts of these
        :raises SuiteError: if it can't be made
        """
        from gymnasium import spaces

        return isinstance(self._made(env, config).observation_space, spaces.Box)

    def check_actions(self, env: str, config: Mapping[str, Any], algo: str) -> None:
        """
        :param env: environment's id
        :param config: hyperparameters, as the zoo reads them
        :param algo: the zoo's name of the algorithm
        :raises SuiteError: if the algorithm has no use for its actions, or it can't be made
        """
        from gymnasium import spaces

        actions = self._made(env, config).action_space
        is_discrete = isinstance(actions, spaces.Discrete)
        if (algo in DISCRETE and not is_discrete) or (algo in CONTINUOUS and not isinstance(actions, spaces.Box)):
            expected = "Discrete" if algo in DISCRETE else "Box"
            raise SuiteError(f"{env} must have a {expected} action space for {algo}, got {actions}")

    def _made(self, env: str, config: Mapping[str, Any]) -> Any:
        key = _key(env, config)
        if key not in self._spaces:
            self.check(env, config, [Condition()])
        return self._spaces[key]

    def check(self, env: str, config: Mapping[str, Any], conditions: Sequence[Condition]) -> None:
        """
        :param env: environment's id
        :param config: hyperparameters, as the zoo reads them, without a condition's wrappers
        :param conditions: that agents are trained and evaluated in; of those of the same kinds one is tried
        :raises SuiteError: if it can't be made, or a condition does not suit it
        """
        from eval.evaluation.environments import check_conditions, spec_from_config

        def look(made: Any) -> None:
            self._spaces[_key(env, config)] = _Spaces(made.observation_space, made.action_space)

        kinds = {tuple(part.kind for part in condition.parts): condition for condition in conditions}
        new = [kind for kind in kinds if f"{kind} {_key(env, config)}" not in self._checked]
        try:
            check_conditions(spec_from_config(env, config, None), [kinds[kind] for kind in new], look)
        except ValueError as error:
            raise SuiteError(str(error)) from error
        self._checked |= {f"{kind} {_key(env, config)}" for kind in new}


def _key(env: str, config: Mapping[str, Any]) -> str:
    return json.dumps([env, {name: config.get(name) for name in ENVIRONMENT}], sort_keys=True, default=str)
