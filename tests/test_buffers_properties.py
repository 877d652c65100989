"""
Both replay buffers under random operations, each beside a twin that is slow and obvious.

:mod:`test_buffers` checks what every window holds, :mod:`test_frame_stack` what SB3 would have sampled; here it is what must
be true of all that is stored, whatever happened before.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_replay import ENDS, Twins, as_windows
from replay_world import World

from drqn_sb3 import FrameStackReplayBuffer
from drqn_sb3.slots import SlotStorage
from drqn_sb3.windows import RandomWindows, SequentialWindows

STEP = st.tuples(*[st.sampled_from((None, *ENDS))] * 3)
PROPERTY = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def check_valid(storage: SlotStorage, is_met_halfway: bool = False) -> None:
    """Check what holds of slots at any time; of episodes that are first met halfway, older frames are marked final, too."""
    for env in range(storage.n_envs):
        indices = np.arange(storage.oldest[env], storage.n_written[env])
        assert len(indices) <= storage.capacity
        rows = storage.rows(env, indices)
        if len(rows) == 0:
            assert not storage.is_open[env]
            continue
        final, starts = storage.final[rows], storage.episode_starts[rows]
        ended = storage.terminated[rows] | storage.truncated[rows]
        assert not (storage.terminated[rows] & storage.truncated[rows]).any()
        assert storage.is_open[env] == (not final[-1])
        # What ends an episode is followed by its last observation, and that by the next episode's first
        assert (final[1:] >= ended[:-1]).all()
        assert (final[:-1] >= starts[1:]).all()
        if not is_met_halfway:
            assert (final[1:] == ended[:-1]).all()
            assert (final[:-1] == starts[1:]).all()
        assert not ended[-1]
        for unused in (storage.actions, storage.rewards):
            assert not unused[rows][final].any()


def play(twins: Twins, operations: list[Any]) -> None:
    for operation in operations:
        if operation == "cut":
            twins.cut()
        else:
            twins.step(list(operation[: twins.n_envs]))


WINDOWS = {
    "n_envs": st.integers(1, 3),
    "sequence_length": st.integers(1, 5),
    "burn_in": st.integers(0, 2),
    "n_steps": st.integers(1, 4),
    "spare": st.integers(0, 8),
    "operations": st.lists(st.just("cut") | STEP | STEP, min_size=1, max_size=50),
}


def make_twins(n_envs: int, sequence_length: int, burn_in: int, n_steps: int, spare: int, operations: list[Any]) -> Twins:
    twins = Twins(sequence_length + burn_in + n_steps + spare, n_envs, sequence_length, burn_in, n_steps)
    play(twins, operations)
    return twins


class Every(np.random.Generator):
    """Draws each integer once."""

    def integers(self, low: Any, *args: Any, **kwargs: Any) -> Any:
        return np.arange(low)


@given(**WINDOWS)
@PROPERTY
def test_every_step_that_can_be_trained_on_is_in_exactly_sequence_length_windows(**world: Any) -> None:
    twins = make_twins(**world)
    naive, buffer = twins.naive, twins.buffer
    check_valid(buffer.storage)
    slots = [naive.slots(env) for env in range(twins.n_envs)]
    expected = sorted(slots[env][index][0].rewards[slots[env][index][1]] for env, index in naive.trainable())
    if not naive.windows():
        return
    sampler = RandomWindows(naive.sequence_length, Every(np.random.PCG64()))
    windows = sampler.draw(buffer.storage, 1)
    samples = buffer.gather(windows)
    # No two rewards are the same
    training = samples.rewards[naive.burn_in : naive.burn_in + naive.sequence_length]
    counted, counts = np.unique(training[samples.mask].numpy(), return_counts=True)
    np.testing.assert_array_equal(counted, np.array(expected, dtype=np.float32))
    assert set(counts.tolist()) <= {naive.sequence_length}


@given(**WINDOWS)
@PROPERTY
def test_no_step_that_counts_is_joined_to_what_was_overwritten_or_another_episode(**world: Any) -> None:
    twins = make_twins(**world)
    naive = twins.naive
    pairs = naive.windows()
    if not pairs:
        return
    samples = twins.buffer.gather(as_windows(pairs))
    ended, starts = samples.terminated | samples.truncated, samples.episode_starts
    for time in range(naive.sequence_length):
        at = time + naive.burn_in
        for row in np.flatnonzero(samples.mask[time].numpy()).tolist():
            env, first = pairs[row]
            last = int(ended[at:, row].int().argmax()) + 1 if ended[at:, row].any() else naive.n_steps
            ahead = min(last, naive.n_steps)
            # What its target is made of is stored, and of one episode
            assert first + time in naive.stored(env)
            assert first + time + ahead in naive.stored(env)
            assert not starts[at + 1 : at + ahead + 1, row].any()
            assert not ended[at : at + ahead - 1, row].any()


@given(**{**WINDOWS, "burn_in": st.just(0), "batch_size": st.integers(1, 4), "n_draws": st.integers(1, 12)})
@PROPERTY
def test_sequential_rows_go_from_where_an_episode_begins_to_where_it_ends(batch_size: int, n_draws: int, **world: Any) -> None:
    twins = make_twins(**world)
    buffer, naive = twins.buffer, twins.naive
    if not naive.windows():
        return
    sampler = SequentialWindows(naive.sequence_length, np.random.default_rng(0))
    begins = set(naive.first_slots_of_episodes())
    ahead: list[tuple[int, int] | None] = [None] * batch_size
    for _ in range(n_draws):
        windows = sampler.draw(buffer.storage, batch_size)
        assert windows.carries_state is not None
        drawn = zip(windows.envs.tolist(), windows.first.tolist(), windows.carries_state.tolist(), strict=True)
        for row, (env, first, is_carried) in enumerate(drawn):
            assert (ahead[row] == (env, first)) if is_carried else ((env, first) in begins)
            steps = range(first, first + naive.sequence_length)
            slots = naive.slots(env)
            is_over = any(index >= len(slots) or slots[index][1] == len(slots[index][0].actions) for index in steps)
            ahead[row] = None if is_over else (env, first + naive.sequence_length)


# --- stacked frames ---


class NaiveStacks:
    """All transitions there were, and the slots that hold them."""

    def __init__(self, n_envs: int, capacity: int, n_stack: int) -> None:
        self.capacity, self.n_stack = capacity, n_stack
        self.is_open = [False] * n_envs
        # By environment: the slot's place in its episode, and the transition made there
        self.slots: list[list[tuple[int, Any]]] = [[] for _ in range(n_envs)]

    def add(self, env: int, observation: np.ndarray, transition: Any, is_over: bool) -> None:
        slots = self.slots[env]
        if not self.is_open[env]:
            is_halfway = observation.reshape(self.n_stack, -1)[:-1].any()
            slots += [(place, None) for place in range(self.n_stack if is_halfway else 1)]
        place = slots[-1][0]
        slots[-1] = (place, transition)
        slots.append((place + 1, None))
        self.is_open[env] = not is_over

    def drawable(self) -> dict[tuple[int, int], Any]:
        """Transitions whose whole stack is in the ring, by environment and slot."""
        found = {}
        for env, slots in enumerate(self.slots):
            oldest = max(len(slots) - self.capacity, 0)
            for index, (place, transition) in enumerate(slots):
                if transition is not None and index - min(place, self.n_stack - 1) >= oldest:
                    found[env, index] = transition
        return found


def step_both(world: World, buffer: FrameStackReplayBuffer, naive: NaiveStacks, ends: tuple[str | None, ...]) -> None:
    observations, next_observations, actions, rewards = world.step(buffer, ends=ends)
    for env in range(world.n_envs):
        transition = (observations[env], next_observations[env], actions[env], rewards[env], ends[env] == "terminated")
        naive.add(env, observations[env], transition, ends[env] is not None)


@pytest.mark.parametrize("kind", ["stacked vectors", "stacked images"])
@given(
    n_envs=st.integers(1, 3),
    capacity=st.integers(4, 15),
    operations=st.lists(STEP | STEP | STEP | st.tuples(*[st.booleans()] * 3) | st.just("forget"), min_size=1, max_size=50),
)
@PROPERTY
def test_whatever_happens_every_transition_with_all_its_frames_is_drawn_as_it_was(
    kind: str, n_envs: int, capacity: int, operations: list[Any]
) -> None:
    world = World(kind, n_envs, capacity)
    buffer, naive = world.make_buffer(), NaiveStacks(n_envs, capacity, 3)
    assert isinstance(buffer, FrameStackReplayBuffer)
    for operation in operations:
        if operation == "forget":
            buffer.reset()
            naive = NaiveStacks(n_envs, capacity, 3)
        elif isinstance(operation[0], bool):
            # Some are reset in the midst of an episode
            is_new = np.array(operation[:n_envs])
            world.restart(is_new)
            naive.is_open = [is_open and not new for is_open, new in zip(naive.is_open, is_new, strict=True)]
        else:
            step_both(world, buffer, naive, operation[:n_envs])
    assert buffer.storage.n_written.tolist() == [len(slots) for slots in naive.slots]
    check_valid(buffer.storage, is_met_halfway=True)
    check_transitions(buffer, naive.drawable())


def check_transitions(buffer: FrameStackReplayBuffer, expected: dict[tuple[int, int], Any]) -> None:
    """Compare all that can be drawn with what there was."""
    storage = buffer.storage
    if not storage.n_written.any():
        assert not expected
        return
    stored = [(env, index) for env in range(storage.n_envs) for index in range(storage.oldest[env], storage.n_written[env])]
    envs, indices = np.array(stored, dtype=np.int64).reshape(-1, 2).T
    holds = buffer.holds_transition(envs, indices)
    assert {pair for pair, is_held in zip(stored, holds, strict=True) if is_held} == expected.keys()
    if not expected:
        return
    samples = buffer.gather(envs[holds], indices[holds])
    wanted = [expected[pair] for pair, is_held in zip(stored, holds, strict=True) if is_held]
    fields = (
        samples.observations,
        samples.next_observations,
        samples.actions[:, 0],
        samples.rewards[:, 0],
        samples.dones[:, 0],
    )
    for got, values in zip(fields, zip(*wanted, strict=True), strict=True):
        np.testing.assert_array_equal(got.numpy(), np.array(values))
    drawn_envs, drawn = buffer.draw(50)
    assert set(zip(drawn_envs.tolist(), drawn.tolist(), strict=True)) <= expected.keys()
