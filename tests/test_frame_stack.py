"""The frame stack's replay buffer beside SB3's own, both filled by the stock DQN from real vectorised environments."""

import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize, VecTransposeImage
from toy_env import ToyEnv

from drqn_sb3 import FrameStackReplayBuffer

SPACES: dict[str, spaces.Box] = {
    "vector": spaces.Box(-1.0, 1.0, (3,), np.float32),
    "double precision": spaces.Box(-1.0, 1.0, (2, 2), np.float64),
    "grey image": spaces.Box(0, 255, (40, 38, 1), np.uint8),
    "coloured image": spaces.Box(0, 255, (40, 38, 3), np.uint8),
    "image, channels first": spaces.Box(0, 255, (2, 38, 40), np.uint8),
    # Most frames are all zero, as under flicker, and most steps in a row look alike
    "hardly anything to see": spaces.Box(0, 1, (1,), np.int8),
}
ACTIONS = spaces.Discrete(3)


class Slot(NamedTuple):
    """What a slot has to hold: a step of an episode, and the transition made there, unless the episode ended on it."""

    episode: int
    step: int
    transition: int | None


class Recorder(FrameStackReplayBuffer):
    """Hands on all that it is given to SB3's buffers, one for each environment, so large that they never overwrite."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.twins = [self.make_twin() for _ in range(self.n_envs)]
        self.slots: list[list[Slot]] = [[] for _ in range(self.n_envs)]
        self.is_running = np.zeros(self.n_envs, dtype=bool)

    def make_twin(self) -> ReplayBuffer:
        arguments: dict[str, Any] = {"handle_timeout_termination": self.handle_timeout_termination}
        buffer_class: type[ReplayBuffer] = ReplayBuffer
        if self.n_steps > 1:
            buffer_class = NStepReplayBuffer
            arguments |= {"n_steps": self.n_steps, "gamma": self.gamma}
        return buffer_class(1_000, self.observation_space, self.action_space, "cpu", **arguments)

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        super().add(obs, next_obs, action, reward, done, infos)
        for env, twin in enumerate(self.twins):
            one = slice(env, env + 1)
            slots = self.slots[env]
            if not self.is_running[env]:
                episode = slots[-1].episode + 1 if slots else 0
                slots.append(Slot(episode, 0, None))
            slots[-1] = slots[-1]._replace(transition=twin.pos)
            slots.append(Slot(slots[-1].episode, slots[-1].step + 1, None))
            twin.add(obs[one], next_obs[one], action[one], reward[one], done[one], infos[one])
        self.is_running[:] = ~np.asarray(done, dtype=bool)

    def note_a_reset(self) -> None:
        """Have the twins take what runs for cut off by a time limit, so that no reward is added up across."""
        for env in np.flatnonzero(self.is_running):
            self.twins[env].timeouts[self.twins[env].pos - 1] = True
        self.is_running[:] = False

    def transitions(self) -> dict[tuple[int, int], int]:
        """Transition by environment and slot, of all that must be possible to draw."""
        found = {}
        for env, slots in enumerate(self.slots):
            first = max(len(slots) - self.buffer_size, 0)
            stored = {(slot.episode, slot.step) for slot in slots[first:]}
            for index, slot in enumerate(slots[first:], first):
                frames = range(max(slot.step - self.n_stack + 1, 0), slot.step + 1)
                if slot.transition is not None and all((slot.episode, step) in stored for step in frames):
                    found[env, index] = slot.transition
        return found


def make_venv(name: str = "vector", n_stack: int = 4, n_envs: int = 1, seed: int = 0, **kwargs: Any) -> VecEnv:
    venv = DummyVecEnv([lambda: ToyEnv(SPACES[name], ACTIONS.n, **kwargs)] * n_envs)  # type: ignore[arg-type]
    venv.seed(seed)
    return VecFrameStack(venv, n_stack)


def make_dqn(venv: VecEnv, buffer_size: int = 60, buffer_class: type[Recorder] = Recorder, **kwargs: Any) -> Any:
    return DQN(
        "MlpPolicy",
        venv,
        buffer_size=buffer_size,
        learning_starts=10_000,
        replay_buffer_class=buffer_class,
        replay_buffer_kwargs=kwargs,
        policy_kwargs={"net_arch": [4]},
        device="cpu",
        seed=0,
    )


def every_transition(buffer: FrameStackReplayBuffer) -> tuple[np.ndarray, np.ndarray]:
    """Environments and indices of all slots from which a transition can be drawn."""
    storage = buffer.storage
    stored = [
        (env, index) for env in range(buffer.n_envs) for index in range(int(storage.oldest[env]), int(storage.newest[env]) + 1)
    ]
    envs, indices = np.array(stored).T
    holds = buffer.holds_transition(envs, indices)
    return envs[holds], indices[holds]


def check(buffer: Recorder) -> int:
    """Compare all that can be drawn with SB3's, and which that are with the slots; return how many there are."""
    envs, indices = every_transition(buffer)
    expected = buffer.transitions()
    assert list(zip(envs.tolist(), indices.tolist(), strict=True)) == sorted(expected)
    samples = buffer.gather(envs, indices)
    for env, twin in enumerate(buffer.twins):
        mine = envs == env
        transitions = np.array([expected[env, index] for index in indices[mine].tolist()], dtype=np.int64)
        for field, got, wanted in zip(samples._fields, samples, twin._get_samples(transitions), strict=True):
            if wanted is None:
                assert got is None
                continue
            assert got is not None
            assert (got.dtype, got.device) == (wanted.dtype, wanted.device), field
            assert got.shape[1:] == wanted.shape[1:], field
            assert th.equal(got[mine], wanted), field
    return len(envs)


CASES: dict[str, dict[str, Any]] = {
    "one environment": {},
    "several environments": {"n_envs": 3},
    "terminations": {"n_envs": 2, "truncated_prob": 0.0},
    "truncations": {"n_envs": 2, "truncated_prob": 1.0},
    "truncations taken for terminations": {"n_envs": 2, "handle_timeout_termination": False},
    "episodes of one step": {"n_envs": 2, "max_length": 1},
    "episodes longer than the buffer": {"max_length": 500},
    "long episodes": {"max_length": 40, "n_envs": 2},
    "a single frame": {"n_stack": 1},
    "two frames": {"n_stack": 2, "n_envs": 2},
    "ten frames": {"n_stack": 10, "n_envs": 2, "max_length": 30},
    "the smallest buffer": {"n_stack": 4, "buffer_size": 10, "n_envs": 2},
    "a buffer that is not filled": {"buffer_size": 1_000},
    "two steps": {"n_steps": 2, "n_envs": 2},
    "five steps, long episodes": {"n_steps": 5, "max_length": 40, "n_envs": 2},
    "more steps than frames in the buffer": {"n_steps": 30, "buffer_size": 16, "n_envs": 2, "max_length": 40},
    "three steps, truncations taken for terminations": {"n_steps": 3, "handle_timeout_termination": False},
    **{f"observations: {name}": {"name": name, "n_envs": 2, "n_steps": 3} for name in SPACES},
}
ENV_ARGUMENTS = {"name", "max_length", "truncated_prob"}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("seed", range(2))
def test_every_transition_is_what_sb3_would_return(case: dict[str, Any], seed: int) -> None:
    case = {"n_stack": 4, "n_envs": 1, **case}
    n_envs = case.pop("n_envs")
    environment = {name: case.pop(name) for name in ENV_ARGUMENTS & case.keys()}
    model = make_dqn(make_venv(n_stack=case["n_stack"], n_envs=n_envs, seed=seed, **environment), gamma=0.9, **case)
    # Compared now and then, while the ring fills and turns
    for _ in range(12):
        model.learn(n_envs * 11, reset_num_timesteps=model.num_timesteps == 0)
        assert check(model.replay_buffer) > 0


@pytest.mark.parametrize("name", ["grey image", "coloured image", "hardly anything to see"])
def test_stacks_along_the_last_axis_are_rebuilt(name: str) -> None:
    venv: VecEnv = make_venv(name, n_stack=3, n_envs=2)
    if "image" in name:
        venv = VecTransposeImage(venv, skip=True)
    model = make_dqn(venv, n_stack=3)
    assert model.observation_space.shape == venv.observation_space.shape
    model.learn(150)
    check(model.replay_buffer)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_learning_on_after_a_reset_joins_no_episodes(n_steps: int) -> None:
    model = make_dqn(make_venv(n_envs=2, max_length=30), n_stack=4, n_steps=n_steps, gamma=0.9)
    model.learn(38)
    for _ in range(3):
        assert model.replay_buffer.storage.is_open.any()
        model.replay_buffer.note_a_reset()
        model.learn(20)
        check(model.replay_buffer)


def test_learning_on_without_a_reset_goes_on_with_the_episode() -> None:
    model = make_dqn(make_venv(n_envs=2, max_length=200), buffer_size=100, n_stack=4, n_steps=3, gamma=0.9)
    model.learn(10)
    for _ in range(5):
        model.learn(10, reset_num_timesteps=False)
        # All of one episode each: nothing lost to a final observation
        assert check(model.replay_buffer) == model.num_timesteps
    assert model.replay_buffer.storage.final.sum() == 0


def test_an_episode_first_met_halfway_keeps_its_older_frames() -> None:
    model = make_dqn(make_venv(n_envs=2, max_length=200), n_stack=4, buffer_size=80)
    model.learn(20)
    model.replay_buffer = buffer = FrameStackReplayBuffer(80, model.observation_space, ACTIONS, "cpu", 2, n_stack=4)
    twin = ReplayBuffer(80, model.observation_space, ACTIONS, "cpu", 2)
    add: Callable[..., None] = buffer.add
    for _ in range(3):
        obs = model._last_obs.copy()
        next_obs, reward, done, infos = model.env.step(np.zeros(2, np.int64))
        add(obs, next_obs, np.zeros(2), reward, done, infos)
        twin.add(obs, next_obs, np.zeros(2), reward, done, infos)
        model._last_obs = next_obs
    envs, indices = every_transition(buffer)
    # Three slots of older frames, three steps
    assert (envs.tolist(), indices.tolist()) == ([0, 0, 0, 1, 1, 1], [3, 4, 5, 3, 4, 5])
    samples = buffer.gather(envs, indices)
    for field in ("observations", "next_observations"):
        # (time, n_envs, ...) -> (n_envs * time, ...)
        wanted = getattr(twin, field)[:3].swapaxes(0, 1).reshape(6, -1)
        np.testing.assert_array_equal(getattr(samples, field), wanted)
    assert np.all(wanted[0] != 0)


def test_an_environment_that_goes_on_while_another_is_reset_keeps_its_stacks() -> None:
    model = make_dqn(make_venv(n_envs=2, max_length=200), n_stack=4, buffer_size=200)
    model.learn(12)
    buffer: Recorder = model.replay_buffer
    obs = model._last_obs.copy()
    obs[0, :-3], obs[0, -3:] = 0, 0.5
    next_obs = np.concatenate([obs[:, 3:], np.full((2, 3), 0.25, np.float32)], axis=1)
    FrameStackReplayBuffer.add(buffer, obs, next_obs, np.ones(2), np.ones(2), np.zeros(2), [{}, {}])
    envs, indices = every_transition(buffer)
    newest = indices == buffer.storage.newest[envs] - 1
    samples = buffer.gather(envs[newest], indices[newest])
    np.testing.assert_array_equal(samples.observations, obs)
    np.testing.assert_array_equal(samples.next_observations, next_obs)
    # What was there before can be drawn as well
    assert len(envs) == model.num_timesteps + 2


def test_draws_are_uniform_over_all_transitions() -> None:
    model = make_dqn(make_venv(n_envs=3, max_length=6), buffer_size=60, n_stack=4)
    model.learn(300)
    buffer: Recorder = model.replay_buffer
    transitions = sorted(buffer.transitions())
    n_draws = 400 * len(transitions)
    drawn = [pair for _ in range(100) for pair in zip(*buffer.draw(n_draws // 100), strict=True)]
    found, counts = np.unique(np.array(drawn), axis=0, return_counts=True)
    assert [tuple(pair) for pair in found.tolist()] == transitions
    # Of 400 expected, a Poisson count strays by 20
    assert np.all(np.abs(counts - 400) < 100)
    assert np.sum((counts - 400) ** 2 / 400) / len(transitions) == pytest.approx(1, abs=0.6)


def test_at_most_one_frame_less_than_a_stack_is_lost_to_the_write_position() -> None:
    model = make_dqn(make_venv(max_length=500, seed=3), buffer_size=60, n_stack=4)
    for _ in range(100):
        model.learn(1, reset_num_timesteps=model.num_timesteps == 0)
        storage = model.replay_buffer.storage
        slots = np.arange(int(storage.oldest[0]), int(storage.newest[0]))
        final = storage.final[storage.rows(0, slots)]
        assert len(slots) - final.sum() - check(model.replay_buffer) in range(4)


def test_a_sample_is_drawn_with_the_seed_of_the_algorithm() -> None:
    samples: list[ReplayBufferSamples] = []
    for _ in range(2):
        model = make_dqn(make_venv(n_envs=2), n_stack=4)
        model.learn(50)
        samples.append(model.replay_buffer.sample(16))
    assert all(th.equal(one, other) for one, other in zip(*(sample[:5] for sample in samples), strict=True))
    assert samples[0].observations.shape == (16, 12)


def test_samples_share_no_memory_with_what_is_stored() -> None:
    model = make_dqn(make_venv("grey image", max_length=50), n_stack=4)
    model.learn(40)
    buffer: Recorder = model.replay_buffer
    envs, indices = every_transition(buffer)
    samples = buffer.gather(envs, indices)
    next_observations = samples.next_observations.clone()
    for tensor in samples[:2]:
        tensor.zero_()
    assert th.equal(samples.next_observations, next_observations)
    check(buffer)


def test_normalisation_is_that_of_vec_normalize() -> None:
    venv = VecNormalize(make_venv(n_envs=2), gamma=0.9)
    model = make_dqn(venv, n_stack=4, n_steps=3, gamma=0.9)
    model.learn(200)
    venv.training = False
    buffer: Recorder = model.replay_buffer
    envs, indices = every_transition(buffer)
    transitions = buffer.transitions()
    raw, samples = buffer.gather(envs, indices), buffer.gather(envs, indices, venv)
    for env, twin in enumerate(buffer.twins):
        mine = envs == env
        inds = np.array([transitions[env, index] for index in indices[mine].tolist()])
        raw_twin, wanted = twin._get_samples(inds), twin._get_samples(inds, venv)
        for field in ("observations", "actions", "dones", "rewards", "discounts"):
            assert th.equal(getattr(samples, field)[mine], getattr(wanted, field)), field
            assert th.equal(getattr(raw, field)[mine], getattr(raw_twin, field)), field
        # The frames that an episode ended on have been normalised and back, of which the newest is stored as it came
        assert raw_twin.discounts is not None
        n_taken = np.rint(np.log(raw_twin.discounts.numpy()[:, 0]) / np.log(0.9)).astype(int)
        has_ended = buffer.storage.final[buffer.storage.rows(envs[mine], indices[mine] + n_taken)]
        got, wanted_next = raw.next_observations[mine], raw_twin.next_observations
        assert not has_ended.all()
        assert th.equal(got[~has_ended], wanted_next[~has_ended])
        assert th.equal(got[:, -3:], wanted_next[:, -3:])
        for field in ("observations", "next_observations"):
            wanted_obs = venv.normalize_obs(getattr(raw, field).numpy())
            np.testing.assert_array_equal(getattr(samples, field).numpy(), wanted_obs)


def test_older_frames_of_a_normalised_final_stack_are_those_seen() -> None:
    venv = VecNormalize(make_venv(n_envs=2, max_length=4))
    model = make_dqn(venv, n_stack=4)
    model.learn(100)
    buffer: Recorder = model.replay_buffer
    samples = buffer.gather(*every_transition(buffer))
    assert th.equal(samples.observations[:, 3:], samples.next_observations[:, :-3])


def test_not_a_number_is_stored_as_any_number() -> None:
    buffer = FrameStackReplayBuffer(20, spaces.Box(-1.0, 1.0, (2,)), ACTIONS, "cpu", n_stack=2)
    stacks = np.array([[[0, np.nan]], [[np.nan, 1]], [[1, np.nan]]], np.float32)
    for obs, next_obs in pairwise(stacks):
        buffer.add(obs, next_obs, np.zeros(1), np.zeros(1), np.zeros(1), [{}])
    samples = buffer.gather(*every_transition(buffer))
    np.testing.assert_array_equal(samples.observations, stacks[:2, 0])
    np.testing.assert_array_equal(samples.next_observations, stacks[1:, 0])


# --- in use ---


def test_a_saved_buffer_goes_on_where_it_was(tmp_path: Path) -> None:
    model = make_dqn(make_venv(n_envs=2, max_length=30), n_stack=4, n_steps=3, gamma=0.9)
    model.learn(70)
    model.save_replay_buffer(tmp_path / "buffer")
    before = model.replay_buffer.gather(*every_transition(model.replay_buffer))
    other = make_dqn(make_venv(n_envs=2, max_length=30, seed=1), n_stack=4, n_steps=3, gamma=0.9)
    other.load_replay_buffer(tmp_path / "buffer")
    after = other.replay_buffer.gather(*every_transition(other.replay_buffer))
    assert all(th.equal(old, new) for old, new in zip(before, after, strict=True))
    # Another agent's environments show something else
    other.replay_buffer.note_a_reset()
    other.learn(40)
    check(other.replay_buffer)


@pytest.mark.parametrize("algorithm", [DQN, QRDQN])
def test_algorithms_of_sb3_train_from_it(algorithm: type[DQN] | type[QRDQN]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = algorithm(
            "CnnPolicy",
            make_venv("grey image", n_envs=2),
            buffer_size=200,
            learning_starts=40,
            batch_size=4,
            replay_buffer_class=FrameStackReplayBuffer,
            replay_buffer_kwargs={"n_stack": 4, "n_steps": 3, "gamma": 0.99},
            device="cpu",
        )
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(60)
    after = list(model.policy.parameters())
    assert any(not th.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(bool(parameter.isfinite().all()) for parameter in after)


class SB3sSamples(Recorder):
    """Draws as the recorder does, and gathers what was drawn from SB3's buffers."""

    def gather(self, envs: np.ndarray, indices: np.ndarray, env: VecNormalize | None = None) -> ReplayBufferSamples:
        transitions = self.transitions()
        places = zip(envs.tolist(), indices.tolist(), strict=True)
        singles = [self.twins[place[0]]._get_samples(np.array([transitions[place]]), env) for place in places]
        return ReplayBufferSamples(*(th.cat(list(field)) for field in zip(*(single[:5] for single in singles), strict=True)))


def test_the_stock_dqn_learns_the_same_as_from_sb3s_buffers() -> None:
    parameters = []
    for buffer_class in (Recorder, SB3sSamples):
        model = make_dqn(make_venv(n_envs=2), n_stack=4, buffer_class=buffer_class)
        model.learning_starts, model.batch_size = 20, 8
        before = [parameter.clone() for parameter in model.policy.parameters()]
        model.learn(200)
        parameters.append(list(model.policy.parameters()))
        assert not all(th.equal(old, new) for old, new in zip(before, parameters[-1], strict=True))
    assert all(th.equal(one, other) for one, other in zip(*parameters, strict=True))


def test_an_agent_loads_with_a_buffer_of_one(tmp_path: Path) -> None:
    model = make_dqn(make_venv("grey image"), n_stack=4)
    model.replay_buffer_class = FrameStackReplayBuffer
    model.save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", buffer_size=1)
    assert isinstance(loaded.replay_buffer, FrameStackReplayBuffer)
    assert loaded.replay_buffer.storage.observations == {}
    loaded.set_env(make_venv("grey image"))
    with pytest.raises(ValueError, match=r"buffer_size must be at least n_stack \+ 1 = 5 slots for each of 1 .* got 1 for"):
        loaded.learn(10)


def test_nothing_is_left_after_a_reset() -> None:
    model = make_dqn(make_venv(max_length=30), n_stack=4)
    model.learn(20)
    buffer: Recorder = model.replay_buffer
    assert (buffer.pos, buffer.full, buffer.size()) == (len(buffer.slots[0]), False, len(buffer.slots[0]))
    buffer.reset()
    assert (buffer.pos, buffer.full, buffer.size()) == (0, False, 0)
    with pytest.raises(ValueError, match="holds no transition yet"):
        buffer.sample(1)
    model.learn(30)
    assert buffer.size() > 30


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device")
def test_samples_are_put_on_the_gpu() -> None:
    model = make_dqn(make_venv("grey image"), n_stack=4)
    model.learn(40)
    model.replay_buffer.device = th.device("cuda")
    assert {tensor.device.type for tensor in model.replay_buffer.sample(8)[:5]} == {"cuda"}


# --- errors ---

IMAGE_STACK = spaces.Box(0, 255, (4, 36, 36), np.uint8)
BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no depth": ({}, TypeError, "n_stack"),
    "a depth of zero": ({"n_stack": 0}, ValueError, "n_stack must be at least 1, got 0"),
    "half a frame": ({"n_stack": 2.5}, TypeError, "n_stack must be an integer, got 2.5"),
    "a depth that does not divide": (
        {"n_stack": 3},
        ValueError,
        r"n_stack must divide the first axis of the observations' shape \(4, 36, 36\), got 3",
    ),
    "a depth that does not divide the last axis": (
        {"n_stack": 5, "channels_order": "last"},
        ValueError,
        r"n_stack must divide the last axis of the observations' shape \(4, 36, 36\), got 5",
    ),
    "no such order": ({"n_stack": 4, "channels_order": "middle"}, ValueError, "channels_order must be .*got 'middle'"),
    "no discount": ({"n_stack": 4, "n_steps": 3}, ValueError, "gamma must be the algorithm's.*got None"),
    "a discount above 1": ({"n_stack": 4, "n_steps": 3, "gamma": 1.1}, ValueError, "gamma must be .*got 1.1"),
    "no step": ({"n_stack": 4, "n_steps": 0}, ValueError, "n_steps must be at least 1, got 0"),
    "no slot": ({"n_stack": 4, "buffer_size": 0}, ValueError, "buffer_size must be at least 1, got 0"),
    "SB3's own way": ({"n_stack": 4, "optimize_memory_usage": True}, ValueError, "optimize_memory_usage must be False"),
    "a dict": ({"n_stack": 4, "observation_space": spaces.Dict(x=IMAGE_STACK)}, ValueError, "observation_space must be a Box"),
    "a number": ({"n_stack": 1, "observation_space": spaces.Box(0, 1, ())}, ValueError, "observation_space must be a Box"),
    "continuous actions": ({"n_stack": 4, "action_space": spaces.Box(0, 1)}, ValueError, "action_space must be Discrete"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_a_bad_argument_is_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FrameStackReplayBuffer(**{"buffer_size": 10, "observation_space": IMAGE_STACK, "action_space": ACTIONS, **arguments})


WRONG_STACKS = {
    "fewer frames than stacked": ("grey image", 4, {"n_stack": 2}),
    "more frames than stacked": ("image, channels first", 2, {"n_stack": 4}),
    "the wrong axis": ("grey image", 4, {"n_stack": 2, "channels_order": "last"}),
}


@pytest.mark.parametrize(("name", "stacked", "arguments"), WRONG_STACKS.values(), ids=WRONG_STACKS.keys())
def test_a_wrong_depth_is_detected_before_anything_is_stored(name: str, stacked: int, arguments: dict[str, Any]) -> None:
    model = make_dqn(make_venv(name, n_stack=stacked, n_envs=2, max_length=30), **arguments)
    with pytest.raises(ValueError, match=rf"n_stack must be the number of frames stacked, got {arguments['n_stack']} "):
        model.learn(2)
    assert model.replay_buffer.storage.n_written.tolist() == [0, 0]


def test_an_observation_of_another_shape_is_refused() -> None:
    buffer = FrameStackReplayBuffer(20, spaces.Box(-1.0, 1.0, (4,)), ACTIONS, "cpu", n_stack=2)
    with pytest.raises(ValueError, match="cannot reshape"):
        buffer.add(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(1), np.zeros(1), np.zeros(1), [{}])
    assert buffer.storage.n_written.tolist() == [0]
