"""How DRQN acts, explores and stores what it lives through; with SB3's evaluation, recording and vector environments."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize, VecVideoRecorder
from toy_env import POLICIES, SPACES, CountingEnv, ToyEnv

from drqn_sb3 import DRQN, SequenceReplayBuffer
from drqn_sb3.envs import RecallEnv

N_ACTIONS = 5


def make_model(env: Any = None, **kwargs: Any) -> DRQN:
    kwargs = {"buffer_size": 2000, "learning_starts": 20, "sequence_length": 4, "batch_size": 4, "seed": 0, **kwargs}
    kwargs["policy_kwargs"] = {"hidden_size": 8, **kwargs.get("policy_kwargs", {})}
    return DRQN(kwargs.pop("policy", "MlpLstmPolicy"), env or toy_envs(), **kwargs)


def make_counting_model(n_envs: int = 1, env: VecEnv | None = None) -> DRQN:
    """A model that lives through counted episodes, does not learn from them, and stops after exactly as many steps as told."""
    return make_model(env or make_vec_env(CountingEnv, n_envs=n_envs), train_freq=1, gradient_steps=0)


def toy_envs(n_envs: int = 1, **kwargs: Any) -> VecEnv:
    return make_vec_env(ToyEnv, n_envs=n_envs, env_kwargs={"n_actions": N_ACTIONS, **kwargs})


def replay_buffer(model: DRQN) -> SequenceReplayBuffer:
    assert model.replay_buffer is not None
    return model.replay_buffer


def make_memory_matter(model: DRQN) -> None:
    """Weights at which the greedy action hangs on what came before."""
    with th.no_grad():
        for parameter in model.q_net.parameters():
            parameter.copy_(th.randn_like(parameter))


def stored(model: DRQN, env: int) -> dict[str, np.ndarray]:
    """What the replay buffer holds of an environment, in the order it was lived through."""
    storage = replay_buffer(model).storage
    assert storage.n_written[env] <= storage.capacity
    rows = slice(env * storage.capacity, env * storage.capacity + storage.n_written[env])
    names = ("actions", "rewards", "terminated", "truncated", "episode_starts", "final")
    arrays = {name: getattr(storage, name)[rows] for name in names}
    states = {f"state {index}": array[rows] for index, array in enumerate(storage.lstm_states)}
    return {"observations": storage.observations[""].numpy()[rows], **arrays, **states}


def relive(model: DRQN, lived: dict[str, np.ndarray]) -> Iterator[tuple[int, Any, int]]:
    """Step through stored observations: the slot, the state it was met with, and the greedy action there."""
    state = tuple(array.numpy() for array in model.q_net.zero_states(1))
    for slot, (observation, start) in enumerate(zip(lived["observations"], lived["episode_starts"], strict=True)):
        before = tuple(np.zeros_like(array) for array in state) if start else state
        action, after = model.predict(observation[None], state, np.array([start]), deterministic=True)
        assert after is not None
        yield slot, before, int(action[0])
        state = after


# --- acting while learning ---


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_random_actions_advance_the_state_as_greedy_ones_would(cell: str) -> None:
    model = make_model(
        toy_envs(2),
        exploration_final_eps=1.0,
        gradient_steps=0,
        initial_state="stored",
        policy_kwargs={"recurrent_cell": cell, "n_recurrent_layers": 2},
    )
    make_memory_matter(model)
    model.learn(160)
    n_compared = 0
    for env in range(2):
        lived = stored(model, env)
        for slot, state, _ in relive(model, lived):
            if slot + 1 < len(lived["final"]) and not lived["final"][slot] and not lived["episode_starts"][slot]:
                n_compared += 1
                for index, array in enumerate(state):
                    np.testing.assert_allclose(lived[f"state {index}"][slot], array[:, 0], atol=2e-3, rtol=2e-3)
    assert n_compared > 60


@pytest.mark.parametrize("n_envs", [1, 3])
def test_without_exploration_learning_acts_as_predict_does(n_envs: int) -> None:
    model = make_model(toy_envs(n_envs), exploration_initial_eps=0.0, exploration_final_eps=0.0, gradient_steps=0)
    make_memory_matter(model)
    model.learn(300)
    n_compared = 0
    for env in range(n_envs):
        lived, n_acted = stored(model, env), 0
        for slot, _, greedy in relive(model, lived):
            if not lived["final"][slot] and slot + 1 < len(lived["final"]):
                if n_acted * n_envs >= model.learning_starts:
                    n_compared += 1
                    assert lived["actions"][slot] == greedy
                n_acted += 1
    assert n_compared > 250
    assert len({int(action) for action in stored(model, 0)["actions"]}) > 2


def test_until_learning_starts_actions_are_random() -> None:
    model = make_model(learning_starts=1000, exploration_initial_eps=0.0, exploration_final_eps=0.0)
    model.learn(1000)
    lived = stored(model, 0)
    acted = ~lived["final"]
    acted[-1] = False
    assert acted.sum() == 1000
    counts = np.bincount(lived["actions"][acted], minlength=N_ACTIONS)
    # chi-square with 4 degrees of freedom: 23.5 is exceeded once in 10,000 times
    assert ((counts - 200) ** 2 / 200).sum() < 23.5


def test_the_state_is_reset_where_an_episode_starts_in_that_env_only() -> None:
    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            observations, starts, states = model._last_obs, model._last_episode_starts, model._lstm_states
            assert observations is not None and starts is not None and states is not None
            _, first = model.predict(observations, deterministic=True)
            assert first is not None
            for env in range(3):
                is_first = all(
                    np.allclose(state[:, env], new[:, env], atol=1e-6) for state, new in zip(states, first, strict=True)
                )
                assert is_first == starts[env]
                n_seen[bool(starts[env])] += 1
            return True

    n_seen = {True: 0, False: 0}
    model = make_model(toy_envs(3), gradient_steps=0)
    make_memory_matter(model)
    model.learn(120, Watch())
    assert n_seen[True] > 10 and n_seen[False] > 50


# --- exploration ---


def test_exploration_makes_a_decision_for_each_env() -> None:
    n_envs, epsilon = 4000, 0.5
    model = make_model()
    model.exploration_rate = epsilon
    observations = np.random.default_rng(1).uniform(-1, 1, (n_envs, 3)).astype(np.float32)
    greedy, _ = model.predict(observations, deterministic=True)
    actions, _ = model.predict(observations)
    expected = epsilon * (1 - 1 / N_ACTIONS)
    deviation = np.sqrt(expected * (1 - expected) / n_envs)
    assert abs((actions != greedy).mean() - expected) < 4 * deviation
    # What is not greedy is uniform over the other actions
    shifts = np.bincount((actions - greedy) % N_ACTIONS, minlength=N_ACTIONS)[1:]
    assert ((shifts - shifts.mean()) ** 2 / shifts.mean()).sum() < 21.1  # 3 degrees of freedom, once in 10,000


def test_exploration_leaves_the_state_alone() -> None:
    model = make_model()
    observations = np.random.default_rng(1).uniform(-1, 1, (6, 3)).astype(np.float32)
    model.exploration_rate = 1.0
    _, explored = model.predict(observations)
    _, greedy = model.predict(observations, deterministic=True)
    assert explored is not None and greedy is not None
    assert all(np.array_equal(one, other) for one, other in zip(explored, greedy, strict=True))


def test_a_single_observation_may_be_explored_on() -> None:
    model = make_model()
    model.exploration_rate = 1.0
    actions = {int(model.predict(np.zeros(3, np.float32))[0]) for _ in range(100)}
    assert actions == set(range(N_ACTIONS))
    assert np.shape(model.predict(np.zeros(3, np.float32))[0]) == ()


class Epsilons(BaseCallback):
    """Epsilon in force at each step, by the number of steps taken before."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, float] = {}

    def _on_step(self) -> bool:
        assert isinstance(self.model, DRQN)
        self.seen[self.num_timesteps - self.training_env.num_envs] = self.model.exploration_rate
        return True


def linear(initial: float, final: float, progress: float) -> float:
    return initial + (final - initial) * min(progress, 1.0)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_epsilon_falls_over_exploration_steps_and_stays(n_envs: int) -> None:
    kwargs = {"exploration_steps": 50, "exploration_initial_eps": 0.9, "exploration_final_eps": 0.1}
    model = make_model(toy_envs(n_envs), train_freq=1, gradient_steps=0, **kwargs)
    epsilons = Epsilons()
    model.learn(90, epsilons)
    assert list(epsilons.seen) == list(range(0, 90, n_envs))
    for n_steps, epsilon in epsilons.seen.items():
        assert epsilon == pytest.approx(linear(0.9, 0.1, n_steps / 50), abs=1e-12)
    # However long one learns, and when one goes on
    model.learn(30, epsilons, reset_num_timesteps=False)
    assert epsilons.seen[90] == pytest.approx(0.1) and model.exploration_rate == pytest.approx(0.1)


def test_epsilon_falls_over_a_fraction_of_learning_by_default() -> None:
    model = make_model(exploration_fraction=0.25, exploration_initial_eps=1.0, exploration_final_eps=0.2)
    epsilons = Epsilons()
    model.learn(80, epsilons)
    for n_steps, epsilon in epsilons.seen.items():
        assert epsilon == pytest.approx(linear(1.0, 0.2, n_steps / 20), abs=1e-12)


def test_a_model_that_has_not_learned_explores_as_it_will_begin() -> None:
    assert make_model(exploration_initial_eps=0.3).exploration_rate == 0.3


# --- what is stored ---


def assert_true_history(lived: dict[str, np.ndarray], length: int, is_cut: dict[int, bool] | None = None) -> None:
    """
    See whether stored slots tell what the counting environment shows.

    :param lived: what is stored of one environment
    :param length: number of steps of its episodes
    :param is_cut: the slots, counted from the end on, at which an episode was cut off early
    """
    n_slots = len(lived["final"])
    for slot, (episode, t) in enumerate(lived["observations"]):
        is_last = t == length or slot in (is_cut or {})
        assert lived["episode_starts"][slot] == (t == 0)
        assert lived["final"][slot] == is_last
        if is_last or slot + 1 == n_slots:
            continue
        assert lived["observations"][slot + 1].tolist() == [episode, t + 1]
        assert lived["rewards"][slot] == t + 1
        assert lived["terminated"][slot] == (t + 1 == length and episode % 2 == 0)
        cut_next = slot + 1 in (is_cut or {})
        assert lived["truncated"][slot] == (cut_next or (t + 1 == length and episode % 2 == 1))


@pytest.mark.parametrize("n_envs", [1, 3])
def test_what_is_stored_is_what_happened(n_envs: int) -> None:
    model = make_counting_model(n_envs)
    model.learn(40 * n_envs)
    for env in range(n_envs):
        lived = stored(model, env)
        assert_true_history(lived, length=7)
        assert len(lived["final"]) == 40 + 5 + 1  # steps, ended episodes, the slot not acted on yet


def test_learning_anew_cuts_the_running_episode_off() -> None:
    model = make_counting_model()
    model.learn(38)
    end = len(stored(model, 0)["final"]) - 1
    model.learn(38)
    lived = stored(model, 0)
    assert lived["observations"][end].tolist() == [5, 3] and lived["observations"][end + 1].tolist() == [6, 0]
    assert_true_history(lived, length=7, is_cut={end: True})


def test_going_on_goes_on_with_the_running_episode() -> None:
    model = make_counting_model()
    model.learn(38)
    model.learn(38, reset_num_timesteps=False)
    assert_true_history(stored(model, 0), length=7)
    assert model.num_timesteps == 76
    assert len(stored(model, 0)["final"]) == 76 + 10 + 1


class StopAt(BaseCallback):
    """Stops learning at a step."""

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = n_steps

    def _on_step(self) -> bool:
        return self.num_timesteps < self.n_steps


@pytest.mark.parametrize("n_steps", [31, 35, 36], ids=["within an episode", "at its end", "at the next one's start"])
def test_going_on_after_a_callback_stopped_makes_up_no_history(n_steps: int) -> None:
    model = make_counting_model()
    model.learn(60, StopAt(n_steps))
    assert model.num_timesteps == n_steps
    end = len(stored(model, 0)["final"]) - 1  # SB3 does not store the step at which it was stopped
    model.learn(20, reset_num_timesteps=False)
    lived = stored(model, 0)
    assert_true_history(lived, length=7, is_cut={} if lived["observations"][end][1] == 7 else {end: True})
    assert lived["episode_starts"][end + 1]


def test_a_new_environment_begins_new_episodes() -> None:
    model = make_counting_model()
    model.learn(38)
    end = len(stored(model, 0)["final"]) - 1
    model.set_env(make_vec_env(CountingEnv, n_envs=1))
    model.learn(20, reset_num_timesteps=False)
    lived = stored(model, 0)
    assert lived["observations"][end + 1].tolist() == [0, 0]
    assert_true_history(lived, length=7, is_cut={end: True})


def test_normalised_environments_are_stored_as_they_are_and_sampled_normalised() -> None:
    env = VecNormalize(make_vec_env(CountingEnv, n_envs=2))
    model = make_model(env)
    model.learn(120)
    for index in range(2):
        lived = stored(model, index)
        assert_true_history({**lived, "observations": lived["observations"].round(3)}, length=7)
    samples = replay_buffer(model).sample(64, env)
    assert isinstance(samples.observations, th.Tensor)
    restored = env.unnormalize_obs(samples.observations.numpy())
    np.testing.assert_allclose(restored, np.round(restored), atol=1e-3)  # type: ignore[arg-type]
    assert samples.observations.abs().max() < 5 and samples.rewards.max() < 3


# --- with SB3's tools ---


def test_evaluate_policy_carries_and_resets_the_state() -> None:
    """The cue of Recall is gone when the answer is due: only a state that lasts an episode and no longer can give it."""
    model = make_model(make_vec_env(RecallEnv, n_envs=1), policy_kwargs={"hidden_size": 2, "net_arch": []})
    with th.no_grad():
        solve_recall(model)
    for n_envs in (1, 3):
        env = make_vec_env(RecallEnv, n_envs=n_envs, seed=3)
        mean_reward, std_reward = evaluate_policy(model, env, n_eval_episodes=20)
        assert (mean_reward, std_reward) == (1.0, 0.0)
        assert evaluate_policy(model.policy, env, n_eval_episodes=20)[0] == 1.0


def solve_recall(model: DRQN) -> None:
    """Set the weights by hand: the memory adds the cue up, with a sign, and keeps it."""
    weights = model.q_net.cell.weights(0)
    for parameter in model.q_net.parameters():
        parameter.zero_()
    assert weights.bias_ih is not None
    weights.bias_ih[:4] = 10.0  # input and forget gates of both units open
    weights.bias_ih[6:] = 10.0  # output gates too
    weights.weight_ih[4] = th.tensor([-5.0, 5.0, 0.0])
    head = [module for module in model.q_net.head.modules() if isinstance(module, th.nn.Linear)][-1]
    head.weight[:, 0] = th.tensor([-1.0, 1.0])


def test_eval_callback_keeps_the_best_model(tmp_path: Path) -> None:
    model = make_model(toy_envs(2))
    callback = EvalCallback(toy_envs(2), eval_freq=20, n_eval_episodes=4, best_model_save_path=str(tmp_path), verbose=0)
    model.learn(100, callback)
    assert np.isfinite(callback.last_mean_reward)
    best = DRQN.load(tmp_path / "best_model.zip")
    assert best.predict(np.zeros((2, 3), np.float32), deterministic=True)[0].shape == (2,)


def test_videos_of_it_can_be_recorded(tmp_path: Path) -> None:
    model = make_model()
    envs = DummyVecEnv([lambda: ToyEnv(n_actions=N_ACTIONS, render_mode="rgb_array") for _ in range(2)])
    recorder = VecVideoRecorder(envs, str(tmp_path), lambda step: step == 0, video_length=10, name_prefix="toy")
    observations: Any = recorder.reset()
    state, starts = None, np.ones(2, dtype=bool)
    for _ in range(11):
        actions, state = model.predict(observations, state, starts, deterministic=True)
        observations, _, starts, _ = recorder.step(actions)
    recorder.close()
    (video,) = tmp_path.glob("toy*.mp4")
    assert video.stat().st_size > 0


@pytest.mark.parametrize("name", SPACES)
def test_every_observation_space_can_be_learned_from_in_subprocesses(name: str) -> None:
    envs = SubprocVecEnv([lambda: Monitor(ToyEnv(SPACES[name])) for _ in range(2)])
    try:
        model = make_model(envs, policy=POLICIES.get(name, "MlpLstmPolicy"))
        model.learn(40)
        assert model._n_updates > 0
        evaluate_policy(model, envs, n_eval_episodes=2)
    finally:
        envs.close()
