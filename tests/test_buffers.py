"""The replay buffer against its naive twin. Axis order ``(time, batch, ...)``."""

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_replay import ENDS, SPACES, NaiveReplay, Twins, as_windows, stack
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.type_aliases import SequenceSamples

VECTOR = SPACES["a vector"]
ACTIONS = spaces.Discrete(1_000)


def make_buffer(**kwargs: Any) -> SequenceReplayBuffer:
    arguments = {"buffer_size": 20, "observation_space": VECTOR, "action_space": ACTIONS, "device": "cpu", **kwargs}
    return SequenceReplayBuffer(**arguments)


# --- against the naive twin ---


def check_every_window(twins: Twins) -> None:
    """Compare all windows that can be drawn with what the twin says they hold."""
    naive, pairs = twins.naive, twins.naive.windows()
    if not pairs:
        with pytest.raises(ValueError, match="holds no transition"):
            twins.buffer.sample(1)
        return
    samples = twins.buffer.gather(as_windows(pairs))
    slots = [list(naive.expected(*pair)) for pair in pairs]
    check_slots(samples, slots)
    check_observations(samples, slots, twins.space)
    check_mask(samples, slots, naive)
    check_memory(samples, slots, naive)


def check_slots(samples: SequenceSamples, slots: list[list[Any]]) -> None:
    """Actions, rewards and flags."""
    expected: dict[str, list[Any]] = {name: [] for name in SequenceSamples._fields[1:7]}
    for window in slots:
        for time, (_, episode, step, is_stored) in enumerate(window):
            acted = step < len(episode.actions)
            ended = episode.end if is_stored and step == len(episode.actions) - 1 else None
            expected["actions"].append(episode.actions[step] if acted else 0)
            expected["rewards"].append(episode.rewards[step] if acted else 0)
            expected["terminated"].append(ended == "terminated")
            expected["truncated"].append(ended == "truncated")
            expected["episode_starts"].append(step == 0)
            # The window's history begins with the first of its slots that is stored
            expected["window_starts"].append(not any(was_stored for *_, was_stored in window[:time]))
    for name, values in expected.items():
        # (batch, time) -> (time, batch)
        wanted = np.array(values).reshape(len(slots), -1).T
        np.testing.assert_array_equal(getattr(samples, name).numpy(), wanted.astype(np.float32), err_msg=name)


def check_observations(samples: SequenceSamples, slots: list[list[Any]], space: spaces.Space) -> None:
    by_slot = [episode.observations[step] for window in slots for _, episode, step, _ in window]
    expected, gathered = stack(by_slot), samples.observations
    for key in expected if isinstance(space, spaces.Dict) else [None]:
        wanted, got = (expected, gathered) if key is None else (expected[key], gathered[key])
        assert isinstance(got, th.Tensor)
        assert got.numpy().dtype == (space if key is None else space[key]).dtype  # type: ignore[index]
        # (time, batch, *shape) -> (batch, time, *shape)
        got = got.transpose(0, 1)
        np.testing.assert_array_equal(got.reshape(len(by_slot), -1).numpy(), wanted.reshape(len(by_slot), -1))


def check_mask(samples: SequenceSamples, slots: list[list[Any]], naive: NaiveReplay) -> None:
    training = [window[naive.burn_in : naive.burn_in + naive.sequence_length] for window in slots]
    expected = [[stored and naive.is_trainable(episode, step) for _, episode, step, stored in window] for window in training]
    np.testing.assert_array_equal(samples.mask.numpy(), np.array(expected).T)


def check_memory(samples: SequenceSamples, slots: list[list[Any]], naive: NaiveReplay) -> None:
    """
    A state that is put back where the flags say so has seen, at each slot that counts and at all that bootstrap it, the
    episode so far, or as much of it as the window holds: nothing else, and in order.
    """
    starts = (samples.episode_starts | samples.window_starts).tolist()
    mask = samples.mask.tolist()
    for row, window in enumerate(slots):
        memory: list[tuple[int, int]] = []
        counted = -1  # the last slot that counts, or bootstraps one that does
        for time, (index, episode, step, is_stored) in enumerate(window):
            memory = [] if starts[time][row] else memory
            memory.append((id(episode), step))
            training = time - naive.burn_in
            if 0 <= training < naive.sequence_length and mask[training][row]:
                ahead = min(naive.n_steps, len(episode.actions) - step)
                counted = time + (ahead if episode.end != "terminated" or step + ahead < len(episode.actions) else 0)
            if time <= counted and step <= len(episode.actions) and is_stored:
                first_stored = next(slot for slot, *_, stored in window if stored)
                held = min(step, index - first_stored)
                assert memory == [(id(episode), earlier) for earlier in range(step - held, step + 1)]


WORLDS: dict[str, dict[str, Any]] = {
    "terminations": {"truncated_prob": 0},
    "truncations": {"truncated_prob": 1},
    "both": {},
    "episodes of one step": {"end_prob": 1},
    "short episodes": {"end_prob": 0.5},
    "an episode longer than the buffer": {"end_prob": 0},
    "several environments": {"n_envs": 3},
    "a capacity of one window": {"spare": 0, "n_envs": 2},
    "a capacity of a window and a slot": {"spare": 1, "n_envs": 2},
    "a window of one step": {"sequence_length": 1},
    "burn-in": {"burn_in": 3},
    "three steps to a target": {"n_steps": 3},
    "more steps to a target than are trained on": {"sequence_length": 2, "n_steps": 5},
    "burn-in and three steps to a target": {"burn_in": 3, "n_steps": 3, "n_envs": 2},
    "cut off in between": {"cut_prob": 0.1, "n_envs": 2},
    "never full": {"spare": 1_000},
    **{f"observations: {name}": {"space": name, "n_envs": 2} for name in SPACES},
}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
@pytest.mark.parametrize("seed", range(2))
def test_every_window_reconstructs_the_true_history(world: dict[str, Any], seed: int) -> None:
    probabilities = {"end_prob": 0.15, "truncated_prob": 0.5, "cut_prob": 0.0}
    sizes = {"n_envs": 1, "sequence_length": 4, "burn_in": 0, "n_steps": 1, "space": "a vector"}
    for choices in (probabilities, sizes):
        choices.update({name: value for name, value in world.items() if name in choices})
    window_length = sum(sizes[name] for name in ("sequence_length", "burn_in", "n_steps"))  # type: ignore[misc]
    twins = Twins(window_length + world.get("spare", 12), seed=seed, **sizes)  # type: ignore[arg-type]
    for time in range(100):
        twins.step_randomly(probabilities["end_prob"], probabilities["truncated_prob"])
        if twins.rng.random() < probabilities["cut_prob"]:
            twins.cut()
        if time < 5 or time % 9 == 0:
            check_every_window(twins)
    check_every_window(twins)


@given(
    n_envs=st.integers(1, 3),
    sequence_length=st.integers(1, 4),
    burn_in=st.integers(0, 3),
    n_steps=st.integers(1, 4),
    spare=st.integers(0, 6),
    # One operation: how each environment's episode ends with the step, or the cut of all
    operations=st.lists(st.just("cut") | st.tuples(*[st.sampled_from((None, *ENDS))] * 3), min_size=5, max_size=40),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_whatever_happens_every_window_reconstructs_the_true_history(
    n_envs: int, sequence_length: int, burn_in: int, n_steps: int, spare: int, operations: list[Any]
) -> None:
    twins = Twins(burn_in + sequence_length + n_steps + spare, n_envs, sequence_length, burn_in, n_steps)
    for operation in operations:
        if operation == "cut":
            twins.cut()
        else:
            twins.step(list(operation[:n_envs]))
    check_every_window(twins)


def test_a_sample_is_a_batch_of_windows_that_were_drawn() -> None:
    twins = Twins(20, n_envs=2, sequence_length=4, burn_in=2, n_steps=3)
    twins.play_episodes([3, 8], 40)
    state = twins.buffer.sampler.rng.bit_generator.state
    samples = twins.buffer.sample(7)
    twins.buffer.sampler.rng.bit_generator.state = state
    drawn = twins.buffer.sampler.draw(twins.buffer.storage, 7)
    slots = [list(twins.naive.expected(*pair)) for pair in zip(drawn.envs.tolist(), drawn.first.tolist(), strict=True)]
    check_slots(samples, slots)
    shapes = {name: tuple(value.shape) for name, value in samples._asdict().items() if value is not None}
    assert shapes.pop("observations") == (9, 7, 2)
    assert shapes.pop("mask") == (4, 7)
    assert set(shapes.values()) == {(9, 7)}
    assert samples.lstm_states is None
    types = {name: getattr(samples, name).dtype for name in ("actions", "rewards", "terminated", "mask")}
    assert types == {"actions": th.int64, "rewards": th.float32, "terminated": th.bool, "mask": th.bool}


# --- storing ---


def add(buffer: SequenceReplayBuffer, **changes: Any) -> None:
    n_envs = buffer.n_envs
    step = {
        "obs": np.full((n_envs, 2), 0.5, dtype=np.float32),
        "next_obs": np.full((n_envs, 2), 0.75, dtype=np.float32),
        "action": np.arange(n_envs),
        "reward": np.ones(n_envs, dtype=np.float32),
        "done": np.zeros(n_envs, dtype=bool),
        "infos": [{} for _ in range(n_envs)],
        **changes,
    }
    buffer.add(**step)


HOW_STEPS_END: dict[str, tuple[Any, dict[str, Any], tuple[bool, bool]]] = {
    # done, info, (terminated, truncated)
    "it goes on": (False, {}, (False, False)),
    "it goes on, though a limit is named": (False, {"TimeLimit.truncated": True}, (False, False)),
    "it terminates": (True, {}, (True, False)),
    "it terminates, and says so": (True, {"TimeLimit.truncated": False}, (True, False)),
    "it is truncated": (True, {"TimeLimit.truncated": True}, (False, True)),
    "a number for a flag": (1.0, {}, (True, False)),
}


@pytest.mark.parametrize(("done", "info", "expected"), HOW_STEPS_END.values(), ids=HOW_STEPS_END.keys())
def test_a_step_that_is_done_is_truncated_if_its_info_says_so_else_terminated(
    done: Any, info: dict[str, Any], expected: tuple[bool, bool]
) -> None:
    buffer = make_buffer()
    add(buffer, done=np.array([done]), infos=[info])
    samples = buffer.gather(as_windows([(0, 0)]))
    assert (samples.terminated[0, 0].item(), samples.truncated[0, 0].item()) == expected


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_actions_and_rewards_come_with_or_without_an_axis_of_their_own(shape: tuple[int, ...]) -> None:
    buffer = make_buffer(buffer_size=60, n_envs=3)
    add(buffer, action=np.array([5, 6, 7]).reshape(shape), reward=np.array([1.5, 2.5, 3.5]).reshape(shape))
    samples = buffer.gather(as_windows([(env, 0) for env in range(3)]))
    assert samples.actions[0].tolist() == [5, 6, 7]
    assert samples.rewards[0].tolist() == [1.5, 2.5, 3.5]


def test_what_was_added_does_not_change_with_the_arrays_it_came_in() -> None:
    buffer = make_buffer()
    arrays = {"obs": np.full((1, 2), 0.5), "next_obs": np.full((1, 2), 0.75), "reward": np.ones(1), "action": np.ones(1)}
    add(buffer, **arrays)
    for array in arrays.values():
        array[:] = 0
    samples = buffer.gather(as_windows([(0, 0)]))
    assert isinstance(samples.observations, th.Tensor)
    assert samples.observations[:2, 0, 0].tolist() == [0.5, 0.75]
    assert (samples.actions[0, 0].item(), samples.rewards[0, 0].item()) == (1, 1)


def test_what_was_sampled_does_not_change_the_buffer() -> None:
    twins = Twins(20, state_shape=(1, 3))
    twins.play_episodes([3], 40)
    before = pickle.dumps(twins.buffer.storage)
    samples = twins.buffer.sample(50)
    for tensor in (*samples[:-1], *(samples.lstm_states or ())):
        assert isinstance(tensor, th.Tensor)
        tensor.zero_()
    assert pickle.dumps(twins.buffer.storage) == before


WRONG_STEPS = {
    "an observation of another shape": {"obs": np.zeros((2, 3))},
    "a next observation of another shape": {"next_obs": np.zeros((2, 3))},
    "one action for two environments": {"action": np.zeros(1)},
    "three rewards for two environments": {"reward": np.zeros(3)},
    "one done for two environments": {"done": np.zeros(1)},
    "one info for two environments": {"infos": [{}]},
}


@pytest.mark.parametrize("wrong", WRONG_STEPS.values(), ids=WRONG_STEPS.keys())
def test_a_step_that_does_not_fit_is_refused_and_leaves_the_buffer_as_it_was(wrong: dict[str, Any]) -> None:
    buffer = make_buffer(buffer_size=60, n_envs=2)
    add(buffer, done=np.array([True, False]))
    before = pickle.dumps(buffer)
    with pytest.raises(ValueError, match="reshape"):
        add(buffer, **wrong)
    assert pickle.dumps(buffer) == before


def test_pos_and_full_tell_of_the_environment_of_which_least_is_stored() -> None:
    buffer = make_buffer(buffer_size=40, n_envs=2, sequence_length=4)
    observation = np.zeros((2, *VECTOR.shape), dtype=np.float32)  # type: ignore[misc]
    for step in range(1, 20):
        # The first environment's episodes take a slot more than the second's one long episode
        done = np.array([step % 3 == 0, False])
        buffer.add(observation, observation, np.zeros(2), np.zeros(2), done, [{}, {}])
        assert (buffer.pos, buffer.full) == ((step + 1) % 20, step + 1 >= 20)


def test_size_counts_the_slots_of_all_environments() -> None:
    buffer = make_buffer(buffer_size=25, n_envs=2)
    sizes = [buffer.size()]
    for time in range(1, 13):
        add(buffer, done=np.array([time % 4 == 0, False]))
        sizes.append(buffer.size())
    # The first environment takes five slots for four steps, the second one for each and one for where it is; 12 each at most
    assert sizes == [0, 4, 6, 8, 10, 13, 15, 17, 19, 22, 23, 24, 24]


@pytest.mark.parametrize("replay", ["random", "sequential"])
@pytest.mark.parametrize("n_played", [5, 50])
def test_a_buffer_that_was_reset_is_as_good_as_new(replay: str, n_played: int) -> None:
    used, new = (Twins(20, sequence_length=4, replay=replay) for _ in range(2))
    used.play_episodes([9], n_played)
    used.buffer.sample(50)
    used.buffer.reset()
    assert used.buffer.size() == 0
    with pytest.raises(ValueError, match="holds no transition"):
        used.buffer.sample(50)
    for twins in (used, new):
        twins.buffer.seed(7)
        for number in range(12):
            value = np.full((1, 2), number / 20)
            add(twins.buffer, obs=value, next_obs=value + 1 / 20, done=np.array([number == 6]))
    assert_same_samples(used.buffer.sample(50), new.buffer.sample(50))


# --- recurrent states ---

STATES = {
    "one layer": {"state_shape": (1, 3)},
    "two layers": {"state_shape": (2, 3)},
    "several environments": {"state_shape": (2, 3), "n_envs": 3},
    "burn-in": {"state_shape": (1, 2), "burn_in": 3, "n_envs": 2},
    "a capacity of one window": {"state_shape": (2, 3), "n_envs": 2, "spare": 0},
    "never full": {"state_shape": (2, 3), "n_envs": 2, "spare": 1_000},
}


@pytest.mark.parametrize("case", STATES.values(), ids=STATES.keys())
def test_the_state_gathered_is_that_of_the_windows_first_stored_step(case: dict[str, Any]) -> None:
    sizes: dict[str, Any] = {"sequence_length": 4, "burn_in": 0, "n_steps": 2, **case}
    window_length = sizes["sequence_length"] + sizes["burn_in"] + sizes["n_steps"]
    twins = Twins(window_length + sizes.pop("spare", 10), **sizes)
    for time in range(70):
        twins.step_randomly(end_prob=0.2)
        if time % 3 == 0:
            check_states(twins)


def check_states(twins: Twins) -> None:
    pairs = twins.naive.windows()
    states = twins.buffer.gather(as_windows(pairs)).lstm_states
    assert states is not None and len(states) == 2
    assert twins.state_shape is not None
    n_layers, hidden_size = twins.state_shape
    for state in states:
        assert state.dtype == th.float32
        assert tuple(state.shape) == (n_layers, len(pairs), hidden_size)
    for row, pair in enumerate(pairs):
        _, episode, step, _ = next(iter(twins.naive.expected(*pair)))
        if step < len(episode.actions):  # what follows a final slot starts from zeros
            for number, state in enumerate(states):
                wanted = episode.lstm_states[step][number].astype(np.float16)
                np.testing.assert_array_equal(state[:, row].numpy(), wanted)


MAGNITUDES = {"an output": 1.0, "a small output": 1e-3, "a memory after many steps": 3e3, "the largest": 6.5e4}


@pytest.mark.parametrize("magnitude", MAGNITUDES.values(), ids=MAGNITUDES.keys())
def test_states_are_kept_in_half_precision_to_a_part_in_two_thousand(magnitude: float) -> None:
    buffer = make_buffer(sequence_length=2)
    add(buffer)
    state = th.linspace(-magnitude, magnitude, 1_001).reshape(1, 1, -1)
    buffer.add_lstm_states((state,))
    gathered = buffer.gather(as_windows([(0, 0)])).lstm_states
    assert gathered is not None
    assert [array.dtype for array in buffer.storage.lstm_states] == [np.float16]
    # 11 bits of precision, down to the smallest steps that half precision knows
    assert ((gathered[0] - state).abs() <= state.abs() * 2.0**-11 + 2.0**-25).all()


def test_a_window_that_overhangs_the_oldest_slot_gets_that_slots_state_and_starts_from_it() -> None:
    twins = Twins(8, sequence_length=4, burn_in=2, state_shape=(1, 3))
    twins.play_episodes([1_000], 30)
    oldest = twins.naive.stored(0)[0]
    samples = twins.buffer.gather(as_windows([(0, oldest - 2)]))
    assert samples.lstm_states is not None
    wanted = twins.naive.episodes[0][0].lstm_states[oldest][0].astype(np.float16)
    np.testing.assert_array_equal(samples.lstm_states[0][:, 0].numpy(), wanted)
    # burn-in takes two slots, and two training slots lie before the oldest one
    assert samples.window_starts[:, 0].tolist() == [True] * 5 + [False] * 2
    assert samples.mask[:, 0].tolist() == [False, False, True, True]


# --- sequential windows ---


def test_sequential_windows_start_from_zero_where_they_carry_nothing_and_stop_with_their_episode() -> None:
    twins = Twins(12, sequence_length=4, replay="sequential")
    for end in (None,) * 10 + ("terminated",) + (None,) * 6:
        twins.step([end])
    # Stored are the last five slots of the first episode, its final one among them, and the second
    firsts, carried = [], []
    for _ in range(2):
        samples = twins.buffer.sample(100)
        assert samples.window_starts[0].all() and not samples.window_starts[1:].any()
        carries_state = ~samples.episode_starts[0]
        firsts.append({tuple(mask) for mask in samples.mask[:, ~carries_state].T.tolist()})
        carried.append({tuple(mask) for mask in samples.mask[:, carries_state].T.tolist()})
    assert firsts[0] == {(True,) * 4}
    assert carried == [set(), {(True, True, False, False)}]


# --- normalisation ---


class Counter(gym.Env[Any, Any]):
    """Counts up by what it is told, over a vector and an image; rewards are what it has counted."""

    action_space = spaces.Discrete(3)

    def __init__(self, is_dict: bool) -> None:
        vector, image = spaces.Box(-1e3, 1e3, (2,)), spaces.Box(0, 255, (1, 2, 2), dtype=np.uint8)
        self.observation_space = spaces.Dict({"vector": vector, "image": image}) if is_dict else vector
        self.count = 0

    def _observation(self) -> Any:
        vector = np.array([self.count, -2 * self.count], dtype=np.float32)
        image = np.full((1, 2, 2), self.count % 256, dtype=np.uint8)
        return {"vector": vector, "image": image} if isinstance(self.observation_space, spaces.Dict) else vector

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += int(action)
        return self._observation(), float(self.count), self.count > 20, False, {}


NORMALISED: dict[str, dict[str, Any]] = {
    "observations and rewards": {},
    "observations": {"norm_reward": False},
    "rewards": {"norm_obs": False},
    "nothing": {"norm_obs": False, "norm_reward": False},
    "clipped": {"clip_obs": 0.5, "clip_reward": 0.5},
}


@pytest.mark.parametrize("options", NORMALISED.values(), ids=NORMALISED.keys())
@pytest.mark.parametrize("is_dict", [False, True], ids=["a vector", "a dict"])
def test_normalised_samples_are_the_raw_ones_as_the_environment_normalises_them(
    options: dict[str, Any], is_dict: bool
) -> None:
    keys = ["vector"] if is_dict and options.get("norm_obs", True) else None
    env = VecNormalize(DummyVecEnv([lambda: Counter(is_dict)] * 2), norm_obs_keys=keys, **options)
    buffer = make_buffer(buffer_size=60, observation_space=env.observation_space, action_space=env.action_space, n_envs=2)
    env.reset()
    actions = np.random.default_rng(0).integers(3, size=(50, 2))
    for action in actions:
        before = env.get_original_obs()
        _, _, dones, infos = env.step(action)
        buffer.add(before, env.get_original_obs(), action, env.get_original_reward(), dones, infos)
    windows = buffer.sampler.draw(buffer.storage, 9)
    raw, normalised = buffer.gather(windows), buffer.gather(windows, env)
    np.testing.assert_array_equal(normalised.rewards.numpy(), env.normalize_reward(raw.rewards.numpy()))
    assert normalised.rewards.dtype == th.float32
    expected = env.normalize_obs(as_arrays(raw.observations))
    got = as_arrays(normalised.observations)
    np.testing.assert_equal(got, expected)
    vector = got["vector"] if isinstance(got, dict) else got
    assert (vector.shape, vector.dtype) == ((11, 9, 2), np.float32)
    for name, option in (("rewards", "norm_reward"), ("observations", "norm_obs")):
        assert is_changed(getattr(raw, name), getattr(normalised, name)) == options.get(option, True)


def as_arrays(observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: value.numpy() for key, value in observations.items()}
    return observations.numpy()


def is_changed(before: Any, after: Any) -> bool:
    if isinstance(before, dict):
        assert th.equal(before["image"], after["image"])
        return not th.equal(before["vector"], after["vector"])
    return not th.equal(before, after)


# --- memory ---


def arrays_in(thing: Any) -> list[np.ndarray]:
    """Every array that an object holds, at whatever depth."""
    if isinstance(thing, np.ndarray):
        return [thing]
    if isinstance(thing, th.Tensor):
        return [thing.numpy()]
    if isinstance(thing, dict):
        return [array for value in thing.values() for array in arrays_in(value)]
    if isinstance(thing, list | tuple):
        return [array for value in thing for array in arrays_in(value)]
    return arrays_in(vars(thing)) if type(thing).__module__.startswith("drqn_sb3") else []


@pytest.mark.parametrize("replay", ["random", "sequential"])
def test_no_memory_is_taken_before_the_first_step(replay: str) -> None:
    frames = spaces.Box(0, 255, (1, 84, 84), dtype=np.uint8)
    tracemalloc.start()
    buffer = make_buffer(buffer_size=10**12, observation_space=frames, replay=replay)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 100_000
    assert sum(array.nbytes for array in arrays_in(buffer)) < 100
    assert not hasattr(buffer, "observations") and not hasattr(buffer, "next_observations")


@pytest.mark.parametrize("space", SPACES)
def test_a_slot_takes_one_observation_and_sixteen_bytes(space: str) -> None:
    twins = Twins(1_000, n_envs=2, space=space)
    twins.play_episodes([3, 7], 5)
    by_key = twins.space.spaces.values() if isinstance(twins.space, spaces.Dict) else [twins.space]
    one_observation = sum(np.asarray(part.sample()).nbytes for part in by_key)
    held = arrays_in(twins.buffer)
    assert sum(array.nbytes for array in held if len(array) > 2) == 2_000 * (one_observation + 16)
    where = [array.ctypes.data for array in held]
    twins.play_episodes([3, 7], 1_200)  # round the ring
    assert [array.ctypes.data for array in arrays_in(twins.buffer)] == where


# --- saving ---


def assert_same_samples(first: SequenceSamples, second: SequenceSamples) -> None:
    for name, one, other in zip(SequenceSamples._fields, first, second, strict=True):
        th.testing.assert_close({name: one}, {name: other}, rtol=0, atol=0)


@pytest.mark.parametrize("space", ["a vector", "a dict"])
@pytest.mark.parametrize("replay", ["random", "sequential"])
def test_a_buffer_goes_on_after_it_was_saved_and_loaded_as_if_it_had_not_been(replay: str, space: str, tmp_path: Path) -> None:
    twins = Twins(20, n_envs=2, replay=replay, space=space, state_shape=(1, 3))
    twins.play_episodes([3, 15], 40)
    twins.buffer.sample(8)
    save_to_pkl(tmp_path / "replay_buffer.pkl", twins.buffer)
    loaded = load_from_pkl(tmp_path / "replay_buffer.pkl")
    draws = []
    for number in range(5):
        draws.append([buffer.sample(8) for buffer in (twins.buffer, loaded)])
        observations = stack([SPACES[space].sample() for _ in range(2)])
        for buffer in (twins.buffer, loaded):
            add(buffer, obs=observations, next_obs=observations, done=np.array([number == 2, False]))
    for of_the_saved, of_the_loaded in draws:
        assert_same_samples(of_the_saved, of_the_loaded)
    assert not th.equal(draws[0][0].actions, draws[1][0].actions)


# --- errors ---

ERRORS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "sequence_length": ({"sequence_length": 0}, ValueError, "sequence_length must be at least 1, got 0"),
    "burn_in": ({"burn_in": -1}, ValueError, "burn_in must be at least 0, got -1"),
    "n_steps": ({"n_steps": 0}, ValueError, "n_steps must be at least 1, got 0"),
    "buffer_size": ({"buffer_size": 0}, ValueError, "buffer_size must be at least 1, got 0"),
    "n_envs": ({"n_envs": 0}, ValueError, "n_envs must be at least 1, got 0"),
    "half a step": ({"sequence_length": 2.5}, TypeError, "sequence_length must be an integer, got 2.5"),
    "a word": ({"burn_in": "4"}, TypeError, "burn_in must be an integer, got '4'"),
    "a flag": ({"n_steps": True}, TypeError, "n_steps must be an integer, got True"),
    "a float": ({"buffer_size": 1e6}, TypeError, "buffer_size must be an integer, got 1000000.0"),
    "replay": ({"replay": "ordered"}, ValueError, 'replay must be "random" or "sequential", got \'ordered\''),
    "a continuous action space": (
        {"action_space": spaces.Box(-1, 1, (2,))},
        ValueError,
        "action_space must be Discrete, got Box(-1.0, 1.0, (2,), float32)",
    ),
    "a nested observation space": (
        {"observation_space": spaces.Dict({"inner": spaces.Dict({"vector": VECTOR})})},
        ValueError,
        "observation_space must not nest dicts, got Dict('inner': Dict(",
    ),
    "burn-in of sequential windows": (
        {"replay": "sequential", "burn_in": 2},
        ValueError,
        'burn_in must be 0 with replay="sequential", which carries the state on, got 2',
    ),
    "optimize_memory_usage": (
        {"optimize_memory_usage": True},
        ValueError,
        "optimize_memory_usage must be False, got True: every observation is stored once anyway",
    ),
    "smaller than a window": (
        {"buffer_size": 16, "sequence_length": 10, "burn_in": 4, "n_steps": 3},
        ValueError,
        "buffer_size must be at least a window (burn_in + sequence_length + n_steps = 17) for each of 1 environments, "
        "17 in all, got 16",
    ),
    "smaller than a window for each environment": (
        {"buffer_size": 43, "n_envs": 4},
        ValueError,
        "(burn_in + sequence_length + n_steps = 11) for each of 4 environments, 44 in all, got 43",
    ),
}


@pytest.mark.parametrize(("arguments", "error", "words"), ERRORS.values(), ids=ERRORS.keys())
def test_a_wrong_argument_is_named_with_its_bound_and_value(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        make_buffer(**arguments)
    assert words in str(caught.value)


ACCEPTED: dict[str, dict[str, Any]] = {
    "exactly a window": {"buffer_size": 11},
    "exactly a window for each environment": {"buffer_size": 44, "n_envs": 4},
    "numpy's integers": {"buffer_size": np.int64(100), "burn_in": np.int32(2)},
    "the smallest window": {"buffer_size": 2, "sequence_length": 1},
    "sequential windows": {"replay": "sequential"},
}


@pytest.mark.parametrize("arguments", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_arguments_within_their_bounds_are_accepted(arguments: dict[str, Any]) -> None:
    buffer = make_buffer(**arguments)
    add(buffer)
    assert buffer.sample(3).mask.shape[1] == 3


@pytest.mark.parametrize("replay", ["random", "sequential"])
def test_an_empty_buffer_says_that_it_holds_nothing(replay: str) -> None:
    with pytest.raises(ValueError, match="cannot sample from a replay buffer that holds no transition yet"):
        make_buffer(replay=replay).sample(32)
