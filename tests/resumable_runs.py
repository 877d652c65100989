"""Small real runs of every kind that can be resumed, and what is compared of two of them."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rl_zoo3.wrappers import FrameSkip
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from drqn_sb3 import DRQN, FlickerObservation, FrameStackReplayBuffer, LastAction
from drqn_sb3.checkpoints import ResumableEnv, RunCheckpointCallback
from drqn_sb3.checkpoints.plain import pack
from drqn_sb3.checkpoints.run_state import get_run_state
from drqn_sb3.checkpoints.store import steps_of
from drqn_sb3.envs import DiscreteActions, SlimeVolleyAtariWrapper

SMALL: dict[str, Any] = {
    **{"buffer_size": 400, "learning_starts": 40, "batch_size": 4, "sequence_length": 4, "train_freq": 2, "verbose": 0},
    **{"target_update_interval": 60, "exploration_steps": 300, "learning_rate": 1e-3, "seed": 0},
}
NARROW = {"hidden_size": 8}


def slimevolley_pixels() -> VecEnv:
    return make_vec_env("SlimeVolleyNoFrameskip-v0", 2, seed=1, wrapper_class=SlimeVolleyAtariWrapper)


def pong() -> VecEnv:
    # A match lasts thousands of frames: cut short, so that there are ends
    kwargs = {"max_num_frames_per_episode": 300}
    return make_vec_env("PongNoFrameskip-v4", 2, seed=1, wrapper_class=AtariWrapper, env_kwargs=kwargs)


def _numbers(env: gym.Env) -> gym.Env:
    return ResumableEnv(FlickerObservation(FrameSkip(DiscreteActions(env), skip=2), observe_prob=0.7))


def slimevolley_state(vec_env_class: Callable[..., VecEnv] = DummyVecEnv) -> VecEnv:
    env = make_vec_env("drqn_sb3:SlimeVolley-v0", 2, seed=1, wrapper_class=_numbers, vec_env_cls=vec_env_class)  # type: ignore[arg-type]
    return VecNormalize(env, gamma=0.98)


def cartpole() -> VecEnv:
    return make_vec_env("CartPole-v1", 2, seed=1)


def flickering_cartpole() -> VecEnv:
    return make_vec_env("CartPole-v1", 2, seed=1, wrapper_class=FlickerObservation)


def told_what_it_did() -> VecEnv:
    return make_vec_env("CartPole-v1", 2, seed=1, wrapper_class=lambda env: LastAction(FlickerObservation(env)))


def recall() -> VecEnv:
    return make_vec_env("Recall-v0", 3, seed=1)


def stacked_pixels() -> VecEnv:
    return VecTransposeImage(VecFrameStack(slimevolley_pixels(), 3))


def stock_dqn() -> DQN:
    kwargs = {name: value for name, value in SMALL.items() if name not in ("sequence_length", "exploration_steps")}
    buffer_kwargs = {"n_stack": 3, "n_steps": 2, "gamma": 0.99}
    return DQN(
        "CnnPolicy", stacked_pixels(), replay_buffer_class=FrameStackReplayBuffer, replay_buffer_kwargs=buffer_kwargs, **kwargs
    )


def on_policy(algorithm: type[BaseAlgorithm], policy: str) -> BaseAlgorithm:
    return algorithm(policy, cartpole(), n_steps=32, batch_size=16, n_epochs=2, seed=0)  # type: ignore[call-arg]


def drqn(make_env: Callable[[], VecEnv], policy: str = "MlpLstmPolicy", **kwargs: Any) -> DRQN:
    return DRQN(policy, make_env(), **{**SMALL, "policy_kwargs": NARROW, **kwargs})


MODELS: dict[str, Callable[[], BaseAlgorithm]] = {
    "slimevolley pixels": partial(drqn, slimevolley_pixels, "CnnLstmPolicy", train_freq=8),
    "slimevolley pixels in bfloat16": partial(drqn, slimevolley_pixels, "CnnLstmPolicy", precision="bfloat16", train_freq=16),
    "pong": partial(drqn, pong, "CnnLstmPolicy", train_freq=8),
    "stored states, burn-in, n steps, normalised": partial(
        drqn, slimevolley_state, burn_in=2, n_steps=3, initial_state="stored"
    ),
    "worker processes": partial(drqn, partial(slimevolley_state, SubprocVecEnv), burn_in=2),
    "sequential replay": partial(drqn, flickering_cartpole, replay="sequential"),
    "last actions, predictions": partial(
        drqn, told_what_it_did, "MultiInputLstmPolicy", policy_kwargs={"hidden_size": 8, "predictor": [8]}
    ),
    "a GRU, an average, and short episodes": partial(
        drqn, recall, policy_kwargs={"recurrent_cell": "gru", "hidden_size": 8, "ema_decay": 0.9}
    ),
    "stock DQN": stock_dqn,
    "PPO": partial(on_policy, PPO, "MlpPolicy"),
    "RecurrentPPO": partial(on_policy, RecurrentPPO, "MlpLstmPolicy"),
}
EVALUATED = "slimevolley pixels"


class KilledError(BaseException):
    """Stands for whatever ends a process at once: nothing in the run catches it."""


class KillAt(BaseCallback):
    """
    End the run amid a step.

    :param n_steps: the number of environment steps
    :param kill: how
    """

    def __init__(self, n_steps: int, kill: Callable[[], Any]) -> None:
        super().__init__()
        self.n_steps, self.kill = n_steps, kill

    def _on_step(self) -> bool:
        if self.model.num_timesteps >= self.n_steps:
            self.kill()
        return True


class Tell(BaseCallback):
    """
    Tell of every rollout that begins, behind the checkpoint that may be written then.

    :param tell: called with the number of environment steps
    """

    def __init__(self, tell: Callable[[int], Any]) -> None:
        super().__init__()
        self.tell = tell

    def _on_rollout_start(self) -> None:
        self.tell(self.model.num_timesteps)

    def _on_step(self) -> bool:
        return True


def raise_killed() -> None:
    raise KilledError


def run(
    name: str,
    folder: Path,
    total: int,
    kill_at: int | None = None,
    kill: Callable[[], Any] = raise_killed,
    save_freq: int = 100,
    tell: Callable[[int], Any] = lambda n_steps: None,
) -> tuple[int, dict[str, str]]:
    """Run, or go on with, one of the runs: the step it was resumed at, 0 if it was not, and its fingerprint at the end."""
    model = MODELS[name]()
    own = RunCheckpointCallback(folder, save_freq=save_freq, resume=True, verbose=0)
    callbacks: list[BaseCallback] = [own, KillAt(10**9 if kill_at is None else kill_at, kill), Tell(tell)]
    if name == EVALUATED:
        # Not greedy: it draws from the model's generator
        env = make_vec_env("SlimeVolleyNoFrameskip-v0", 1, seed=9, wrapper_class=SlimeVolleyAtariWrapper)
        env = VecTransposeImage(env)
        log_path = str(folder.parent / f"{folder.name}_evaluations")
        callbacks.append(
            EvalCallback(env, eval_freq=80, n_eval_episodes=1, deterministic=False, log_path=log_path, verbose=0, warn=False)
        )
    root = CallbackList(callbacks)
    try:
        model.learn(total, callback=root, progress_bar=False)
        return 0 if own.resumed_from is None else steps_of(own.resumed_from), fingerprint(model, root)
    finally:
        own.close()
        assert model.env is not None
        model.env.close()


def fingerprint(model: BaseAlgorithm, root: CallbackList) -> dict[str, str]:
    """Hash each part of a run's state, so that one sees which parts differ; times are left out."""
    state = get_run_state(model, root)
    del state["elapsed_ns"]
    for episode in state["counters"]["ep_info_buffer"]:
        del episode["t"]
    for callback in state["callbacks"]:
        callback["attributes"].pop("n_steps", None)
        callback["eval_env"] = None
    # Monitor's times are in it; that the environments went on as they should shows in all that was learned of them
    state["envs"] = None
    buffer: Any = getattr(model, "replay_buffer", None)
    if buffer is not None:
        storage = buffer.storage
        rows = np.concatenate(
            [storage.rows(env, np.arange(storage.oldest[env], storage.newest[env] + 1)) for env in range(buffer.n_envs)]
        )
        state["replay"] = {name: column for name, column in storage.read(rows)}
        state["sampled"] = [np.asarray(part) for part in buffer.sample(3) if isinstance(part, np.ndarray)]
    return {part: _hash(content) for part, content in state.items()}


def _hash(content: Any) -> str:
    structure, arrays = pack(content)
    digest = hashlib.sha256(json.dumps(structure).encode())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()
