"""
Wrappers over any environment: what must be true of them for whatever space, seed and actions there are.

:mod:`test_wrappers` has the cases by name; here hypothesis looks for one that nobody thought of.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_env import ToyEnv

from drqn_sb3.checkpoints import ResumableEnv
from drqn_sb3.checkpoints.env_state import get_env_state, set_env_state
from drqn_sb3.checkpoints.plain import pack, unpack
from drqn_sb3.wrappers import FlickerObservation, FrozenObservation, HideVelocity, NoisyObservation

PROPERTY = settings(max_examples=50, deadline=None, derandomize=True, database=None)
FEW = settings(PROPERTY, max_examples=20)

RANGES = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-300, 300), "int64": (-(2**40), 2**40)}
RANGES |= {"float32": (-1000, 1000), "float64": (-1000, 1000)}
SEEDS = st.integers(0, 2**32 - 1)
PROBS = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.0, 1.0)


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    """Boxes of up to 27 elements: bounds may lie on either side of zero, and far away for floats."""
    name = draw(st.sampled_from(sorted(RANGES)))
    dtype: Any = np.dtype(name)
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    rng = np.random.default_rng(draw(SEEDS))
    lowest, highest = RANGES[name]
    middle = int(rng.integers(lowest, highest, endpoint=True))  # one for all, or all boxes would hold zero somewhere
    ends = rng.integers((lowest, middle), (middle, highest), (*shape, 2), endpoint=True)
    low, high = ends[..., 0].astype(dtype), ends[..., 1].astype(dtype)
    if dtype.kind == "f":
        is_open = draw(st.tuples(st.booleans(), st.booleans()))
        low = np.where(is_open[0], np.asarray(-np.inf, dtype), low)
        high = np.where(is_open[1], np.asarray(np.inf, dtype), high)
    return spaces.Box(low, high, dtype=dtype)


def dicts(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[spaces.Dict]:
    return st.dictionaries(st.sampled_from("abcd"), parts, min_size=1, max_size=3).map(spaces.Dict)


ARRAYS: st.SearchStrategy[spaces.Space] = st.recursive(boxes(), dicts, max_leaves=4)
NUMBERS = (
    st.integers(2, 5).map(spaces.Discrete)
    | st.lists(st.integers(2, 4), min_size=1, max_size=3).map(spaces.MultiDiscrete)
    | st.integers(1, 4).map(spaces.MultiBinary)
)
ANYTHING: st.SearchStrategy[spaces.Space] = st.recursive(
    boxes() | NUMBERS, lambda parts: dicts(parts) | st.lists(parts, min_size=1, max_size=3).map(spaces.Tuple), max_leaves=5
)
# The seeds that resets are called with, one after another, all over again
RESETS = st.lists(st.none() | SEEDS, min_size=1, max_size=3)


def assert_same(one: Any, other: Any) -> None:
    """Compare nested containers: the same types, and arrays and numbers bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, strict=True)
    else:
        assert one == other


def zeros_like(obs: Any) -> Any:
    return {key: zeros_like(part) for key, part in obs.items()} if isinstance(obs, dict) else np.zeros_like(obs)


def generators(env: gym.Env) -> list[Any]:
    """The states of what an environment draws from."""
    base = env.unwrapped
    drawing = [base.np_random, *(space.np_random for space in leaves(base.observation_space))]
    return [each.bit_generator.state for each in drawing]


def leaves(space: spaces.Space) -> list[spaces.Space]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.values() if isinstance(space, spaces.Dict) else space
        return [space, *(leaf for part in parts for leaf in leaves(part))]
    return [space]


def play(
    env: gym.Env, seed: int, resets: list[int | None], n_steps: int, between: Callable[[], object] = lambda: None
) -> list[Any]:
    """
    Take steps at random, and return what comes of these and of the resets: observation, reward, ends, info.

    :param env: the environment
    :param seed: of its first reset, and of the actions
    :param resets: seeds of further resets, cyclically
    :param n_steps: number of steps
    :param between: is called before each step
    """
    rng = np.random.default_rng(seed)
    n_actions = env.action_space.n  # type: ignore[attr-defined]
    obs, info = env.reset(seed=seed)
    seen: list[Any] = [(obs, None, None, None, info)]
    n_resets = 0
    for _ in range(n_steps):
        between()
        seen.append(env.step(np.int64(rng.integers(n_actions))))
        if seen[-1][2] or seen[-1][3]:
            obs, info = env.reset(seed=resets[n_resets % len(resets)])
            seen.append((obs, None, None, None, info))
            n_resets += 1
    return seen


def pattern(seen: list[Any]) -> list[bool]:
    return [info["observed"] for *_, info in seen]


# --- flicker ---


@pytest.mark.filterwarnings("ignore:.*Casting input x:UserWarning")  # a single number is none
@PROPERTY
@given(ARRAYS, PROBS, SEEDS, RESETS)
def test_flicker_changes_nothing_but_what_is_seen(
    space: spaces.Space, prob: float, seed: int, resets: list[int | None]
) -> None:
    bare, flickering = ToyEnv(space), FlickerObservation(ToyEnv(space), prob)
    expected, seen = play(bare, seed, resets, 25), play(flickering, seed, resets, 25)
    assert len(seen) == len(expected)
    for (obs, *outcome, info), (shown, *flickering_outcome, flickering_info) in zip(expected, seen, strict=True):
        assert_same(flickering_outcome, outcome)
        observed = flickering_info["observed"]
        assert_same(flickering_info, {**info, "observed": observed})
        assert_same(_plain(shown), _plain(obs if observed else zeros_like(obs)))
        assert flickering.observation_space.contains(shown)
    assert_same(generators(flickering), generators(bare))
    if prob in (0.0, 1.0):
        assert pattern(seen) == [prob == 1.0] * len(seen)


def _plain(obs: Any) -> Any:
    """A ``Dict`` space samples plain dicts or ordered ones, as the version of Gymnasium has it."""
    return {key: _plain(part) for key, part in obs.items()} if isinstance(obs, dict) else obs


@PROPERTY
@given(ARRAYS, PROBS)
def test_a_space_is_widened_only_as_far_as_zero(space: spaces.Space, prob: float) -> None:
    widened = FlickerObservation(ToyEnv(space), prob).observation_space
    before, after = leaves(space), leaves(widened)
    assert len(before) == len(after)
    for box, wide in zip(before, after, strict=True):
        if not isinstance(box, spaces.Box):
            continue
        assert isinstance(wide, spaces.Box) and (wide.dtype, wide.shape) == (box.dtype, box.shape)
        assert wide.contains(np.zeros(box.shape, box.dtype))
        np.testing.assert_array_equal(wide.low, np.where(box.low > 0, 0, box.low))
        np.testing.assert_array_equal(wide.high, np.where(box.high < 0, 0, box.high))


@FEW
@given(PROBS, SEEDS, st.integers(1, 50))
def test_the_share_of_shown_observations_is_the_given_one(prob: float, seed: int, max_length: int) -> None:
    seen = pattern(play(FlickerObservation(ToyEnv(max_length=max_length), prob), seed, [None], 1500))
    bound = 5 * np.sqrt(len(seen) * prob * (1 - prob)) + 5
    assert abs(sum(seen) - len(seen) * prob) <= bound
    # Nor does it hang on what was shown before
    after_shown = [observed for before, observed in pairwise(seen) if before]
    bound = 5 * np.sqrt(len(after_shown) * prob * (1 - prob)) + 5
    assert abs(sum(after_shown) - len(after_shown) * prob) <= bound


@FEW
@given(st.tuples(PROBS, PROBS).map(sorted), SEEDS, RESETS)
def test_a_higher_probability_shows_what_a_lower_one_does_and_more(
    probs: list[float], seed: int, resets: list[int | None]
) -> None:
    fewer, more = (pattern(play(FlickerObservation(ToyEnv(), prob), seed, resets, 100)) for prob in probs)
    assert all(observed for at_least, observed in zip(fewer, more, strict=True) if at_least)


@FEW
@given(ARRAYS, ARRAYS, PROBS, SEEDS)
def test_the_pattern_is_no_matter_of_what_else_is_drawn(
    one: spaces.Space, other: spaces.Space, prob: float, seed: int
) -> None:
    first, second = (FlickerObservation(ToyEnv(space, max_length=1000), prob) for space in (one, other))
    busy = pattern(play(second, seed, [None], 60, lambda: (second.unwrapped.np_random.random(7), np.random.random())))
    quiet = pattern(play(first, seed, [None], 60))
    # Episodes may end at other steps, and resets are in it: what counts is the order
    n = min(len(busy), len(quiet))
    assert n > 60 and busy[:n] == quiet[:n]


@FEW
@given(ARRAYS, PROBS, SEEDS, SEEDS, st.integers(0, 20), RESETS)
def test_a_seed_leads_to_the_same_run_whatever_was_before(
    space: spaces.Space, prob: float, seed: int, other_seed: int, n_before: int, resets: list[int | None]
) -> None:
    used, fresh = (FlickerObservation(ToyEnv(space), prob) for _ in range(2))
    play(used, other_seed, [None], n_before)
    assert_same(play(used, seed, resets, 30), play(fresh, seed, resets, 30))


def from_json(state: Any) -> Any:
    """Write a state as JSON, the arrays aside, and read it again."""
    structure, arrays = pack(state)
    return unpack(json.loads(json.dumps(structure)), arrays)


@FEW
@given(boxes() | dicts(boxes()), PROBS, SEEDS, st.integers(0, 30), st.booleans())
def test_a_restored_environment_goes_on_flickering_as_it_would_have(
    space: spaces.Space, prob: float, seed: int, n_before: int, is_resumable: bool
) -> None:
    def make() -> gym.Env:
        env = FlickerObservation(ToyEnv(space), prob)
        return ResumableEnv(env) if is_resumable else env

    def go_on(env: DummyVecEnv, n_steps: int, first: int) -> list[Any]:
        # What it hands out lies in its own arrays; "terminal_observation" does not
        seen = []
        for step in range(first, first + n_steps):
            obs, rewards, dones, infos = env.step(np.array([step % 3, (step // 3) % 3]))
            seen.append((deepcopy(obs), rewards.copy(), dones.copy(), infos))
        return seen

    kept, restored = DummyVecEnv([make, make]), DummyVecEnv([make, make])
    kept.seed(seed)
    for env in (kept, restored):
        env.reset()
    go_on(kept, n_before, 0)
    state = from_json(get_env_state(kept))
    expected = go_on(kept, 30, n_before)
    set_env_state(restored, state)
    assert_same(go_on(restored, 30, n_before), expected)


# --- noise, freezing, hidden velocities ---

STDS = st.sampled_from([0.0, 1e3]) | st.floats(0.0, 2.0)


@st.composite
def lessenings(draw: st.DrawFn) -> Callable[[gym.Env], gym.Env]:
    """One of the wrappers, or several around each other."""
    prob, std, kinds = draw(PROBS), draw(STDS), draw(st.lists(st.sampled_from("nfz"), min_size=1, max_size=3))
    makers: dict[str, Callable[[gym.Env], gym.Env]] = {
        "n": lambda env: NoisyObservation(env, std),
        "f": lambda env: FlickerObservation(env, prob),
        "z": lambda env: FrozenObservation(env, prob),
    }

    def wrap(env: gym.Env) -> gym.Env:
        for kind in kinds:
            env = makers[kind](env)
        return env

    return wrap


@pytest.mark.filterwarnings("ignore:.*Casting input x:UserWarning")  # a single number is none
@PROPERTY
@given(ARRAYS, lessenings(), SEEDS, RESETS)
def test_whatever_is_seen_less_nothing_else_changes(
    space: spaces.Space, less: Callable[[gym.Env], gym.Env], seed: int, resets: list[int | None]
) -> None:
    bare, wrapped = ToyEnv(space), less(ToyEnv(space))
    with np.errstate(all="raise", under="ignore"):
        expected, seen = play(bare, seed, resets, 25), play(wrapped, seed, resets, 25)
    assert len(seen) == len(expected)
    for (_, *outcome, _), (shown, *lessened_outcome, _) in zip(expected, seen, strict=True):
        assert_same(lessened_outcome, outcome)
        assert wrapped.observation_space.contains(shown)
    assert_same(generators(wrapped), generators(bare))
    assert_same([obs for obs, *_ in play(less(ToyEnv(space)), seed, resets, 25)], [obs for obs, *_ in seen])


@pytest.mark.filterwarnings("ignore:.*Casting input x:UserWarning")
@PROPERTY
@given(ARRAYS, PROBS, SEEDS, RESETS)
def test_what_is_frozen_is_what_was_seen_before(space: spaces.Space, prob: float, seed: int, resets: list[int | None]) -> None:
    expected, seen = play(ToyEnv(space), seed, resets, 25), play(FrozenObservation(ToyEnv(space), prob), seed, resets, 25)
    shown = None
    for (obs, reward, *_), (frozen_obs, *_, info) in zip(expected, seen, strict=True):
        assert not (reward is None and info["frozen"])  # a reset
        shown = shown if info["frozen"] else obs
        np.testing.assert_equal(_plain(frozen_obs), _plain(shown))
        assert prob not in (0.0, 1.0) or info["frozen"] == (prob == 1.0 and reward is not None)


@FEW
@given(st.integers(1, 8), SEEDS, st.data())
def test_hidden_are_the_indices_and_nothing_else(n: int, seed: int, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, n - 1), max_size=4))
    space = spaces.Box(np.arange(1, n + 1, dtype=np.float32), np.inf, (n,), np.float32)
    env = HideVelocity(ToyEnv(space), indices)
    mask = np.ones(n, np.float32)
    mask[indices] = 0
    expected, seen = play(ToyEnv(space), seed, [None], 25), play(env, seed, [None], 25)
    for (obs, *outcome), (shown, *masked_outcome) in zip(expected, seen, strict=True):
        assert_same(masked_outcome, outcome)
        np.testing.assert_array_equal(shown, obs * mask, strict=True)
        assert env.observation_space.contains(shown)
    np.testing.assert_array_equal(env.observation_space.low, space.low * mask)  # type: ignore[attr-defined]


# --- ResumableEnv ---


@PROPERTY
@given(ANYTHING, SEEDS, RESETS, st.booleans())
def test_the_resumable_wrapper_is_not_seen(space: spaces.Space, seed: int, resets: list[int | None], is_saved: bool) -> None:
    bare, wrapped = ToyEnv(space), ResumableEnv(ToyEnv(space))
    assert wrapped.observation_space == bare.observation_space and wrapped.action_space == bare.action_space
    expected = play(bare, seed, resets, 25)
    saved: list[Any] = []
    between = (lambda: saved.append(wrapped.get_run_state())) if is_saved else (lambda: None)
    assert_same(play(wrapped, seed, resets, 25, between), expected)
    assert_same(generators(wrapped), generators(bare))
    assert len(saved) == 25 * is_saved and not any("error" in state for state in saved)


@settings(FEW, max_examples=8)
@given(st.sampled_from(["CartPole-v1", "Recall-v0", "SlimeVolley-v0"]), SEEDS, RESETS)
def test_nor_is_it_around_environments_that_are_played(env_id: str, seed: int, resets: list[int | None]) -> None:
    def made() -> gym.Env:
        env = gym.make(env_id)
        return env if env_id != "SlimeVolley-v0" else gym.wrappers.TransformAction(env, _buttons, spaces.Discrete(8))

    bare, wrapped = made(), ResumableEnv(made())
    assert_same(play(wrapped, seed, resets, 60), play(bare, seed, resets, 60))


def _buttons(action: Any) -> np.ndarray:
    return np.array([action & 1, action >> 1 & 1, action >> 2 & 1], np.int8)
