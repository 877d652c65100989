"""Axis order ``(environment,)``: what is asked of a storage is asked of each environment."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch as th

from drqn_sb3.slots import SlotStorage

FLAGS = ("terminated", "truncated", "episode_starts", "final")


def make_storage(capacity: int = 4, n_envs: int = 2) -> SlotStorage:
    return SlotStorage(capacity, n_envs, {"": ((1,), np.dtype(np.float32))})


def push(storage: SlotStorage, env: int, value: float, episode_start: bool = False, final: bool = False) -> None:
    observations = {"": np.array([[value]], dtype=np.float32)}
    storage.push(np.array([env]), observations, episode_start, np.array([final]))


def stored_values(storage: SlotStorage, env: int) -> list[float]:
    indices = np.arange(storage.oldest[env], storage.newest[env] + 1)
    return storage.observations[""][storage.rows(env, indices), 0].tolist()


def flags_of(storage: SlotStorage, env: int, index: int) -> set[str]:
    row = storage.rows(env, np.array([index]))
    return {name for name in FLAGS if getattr(storage, name)[row].item()}


FILL_LEVELS = {
    # slots pushed: oldest and newest of those stored, and the values they hold
    "nothing": (0, 0, -1, []),
    "one slot": (1, 0, 0, [0]),
    "one slot short of full": (3, 0, 2, [0, 1, 2]),
    "full": (4, 0, 3, [0, 1, 2, 3]),
    "the first slot overwritten": (5, 1, 4, [1, 2, 3, 4]),
    "round once": (8, 4, 7, [4, 5, 6, 7]),
    "round many times": (43, 39, 42, [39, 40, 41, 42]),
}


@pytest.mark.parametrize(("n_pushed", "oldest", "newest", "values"), FILL_LEVELS.values(), ids=FILL_LEVELS.keys())
def test_a_ring_holds_the_newest_slots_under_their_logical_indices(
    n_pushed: int, oldest: int, newest: int, values: list[float]
) -> None:
    storage = make_storage()
    push(storage, env=0, value=-1)
    for value in range(n_pushed):
        push(storage, env=1, value=value)
    assert storage.oldest.tolist() == [0, oldest]
    assert storage.newest.tolist() == [0, newest]
    assert stored_values(storage, env=1) == values
    assert stored_values(storage, env=0) == [-1]


def test_slots_of_all_environments_and_indices_lie_in_rows_of_their_own() -> None:
    storage = make_storage(capacity=5, n_envs=3)
    envs, indices = np.meshgrid(np.arange(3), np.arange(7, 12), indexing="ij")
    rows = storage.rows(envs, indices)
    assert sorted(rows.reshape(-1).tolist()) == list(range(15))
    np.testing.assert_array_equal(storage.rows(envs, indices + 5), rows)


def test_several_environments_are_pushed_at_once_each_at_its_own_place() -> None:
    storage = make_storage(n_envs=3)
    push(storage, env=2, value=-1)
    observations = {"": np.array([[10], [20]], dtype=np.float32)}
    storage.push(np.array([0, 2]), observations, False, np.array([False, True]))
    assert storage.n_written.tolist() == [1, 0, 2]
    assert [stored_values(storage, env) for env in range(3)] == [[10], [], [-1, 20]]
    assert storage.is_open.tolist() == [True, False, False]


def test_nothing_is_allocated_before_the_first_slot() -> None:
    storage = make_storage(capacity=10**12)
    held = {name: value for name, value in vars(storage).items() if isinstance(value, np.ndarray)}
    assert {name: value.size for name, value in held.items()} == {"n_written": 2, "is_open": 2}
    assert storage.observations == {}


def test_an_episode_is_open_from_its_first_slot_to_its_final_one() -> None:
    storage = make_storage()
    history = []
    for start, final in ((True, False), (False, False), (False, True), (True, False)):
        push(storage, env=0, value=0, episode_start=start, final=final)
        history.append(storage.is_open.tolist())
    assert history == [[True, False], [True, False], [False, False], [True, False]]
    assert [flags_of(storage, 0, index) for index in range(4)] == [{"episode_starts"}, set(), {"final"}, {"episode_starts"}]


def test_a_slot_keeps_nothing_of_the_one_it_overwrites() -> None:
    storage = make_storage(capacity=2, n_envs=1)
    push(storage, env=0, value=1, episode_start=True, final=True)
    for name in ("actions", "rewards", "terminated", "truncated"):
        getattr(storage, name)[:] = 1
    push(storage, env=0, value=2)
    push(storage, env=0, value=3)
    assert flags_of(storage, 0, 2) == set()
    assert (storage.actions.tolist(), storage.rewards.tolist()) == ([0, 0], [0, 0])
    assert stored_values(storage, env=0) == [2, 3]


def play(storage: SlotStorage, env: int, n_steps: int, is_over: bool) -> None:
    """An episode, or the beginning of one."""
    push(storage, env, 0, episode_start=True)
    for step in range(1, n_steps + 1):
        push(storage, env, step, final=is_over and step == n_steps)


CUTS = {
    # steps of each environment's episode, and whether it is over: which slots are then cut off, which final
    "all run": ((2, False), (1, False), [1, 0], [2, 1]),
    "one is over": ((2, True), (1, False), [None, 0], [2, 1]),
    "both are over": ((2, True), (1, True), [None, None], [2, 1]),
    "around the ring": ((6, False), (4, False), [5, 3], [6, 4]),
}


@pytest.mark.parametrize(("first", "second", "truncated", "final"), CUTS.values(), ids=CUTS.keys())
def test_ending_open_episodes_truncates_the_running_ones_at_their_newest_slot(
    first: Any, second: Any, truncated: list[int | None], final: list[int]
) -> None:
    storage = make_storage()
    for env, (n_steps, is_over) in enumerate((first, second)):
        play(storage, env, n_steps, is_over)
    for _ in range(2):  # to do it again changes nothing
        storage.end_open_episodes()
        assert not storage.is_open.any()
        for env in range(2):
            indices = range(storage.oldest[env], storage.newest[env] + 1)
            flags = {index: flags_of(storage, env, index) - {"episode_starts"} for index in indices}
            expected = {index: set[str]() for index in indices}
            expected[final[env]].add("final")
            cut = truncated[env]
            if cut is not None:
                expected[cut].add("truncated")
            assert flags == expected


def test_an_environment_that_has_shown_nothing_has_no_episode_to_end() -> None:
    storage = make_storage()
    storage.end_open_episodes()
    assert storage.newest.tolist() == [-1, -1]
    play(storage, 0, 2, is_over=False)
    storage.end_open_episodes()
    assert storage.newest.tolist() == [2, -1]
    assert not storage.truncated[storage.rows(1, np.arange(4))].any()


def test_a_cleared_storage_holds_nothing_and_starts_again_from_zero() -> None:
    storage = make_storage()
    play(storage, 0, 6, is_over=False)
    storage.clear()
    assert (storage.newest.tolist(), storage.is_open.tolist()) == ([-1, -1], [False, False])
    push(storage, env=0, value=9, episode_start=True)
    assert stored_values(storage, env=0) == [9]
    assert flags_of(storage, 0, 0) == {"episode_starts"}


def test_dict_observations_are_stored_key_by_key_in_their_own_types() -> None:
    shapes: dict[str, tuple[tuple[int, ...], np.dtype]] = {
        "image": ((1, 2, 2), np.dtype(np.uint8)),
        "cue": ((1,), np.dtype(np.int64)),
    }
    storage = SlotStorage(3, 1, shapes)
    observations = {"image": np.full((1, 1, 2, 2), 255, dtype=np.uint8), "cue": np.array([[10**12]])}
    storage.push(np.array([0]), observations, True, np.array([False]))
    assert {key: (array.shape, array.dtype) for key, array in storage.observations.items()} == {
        "image": ((3, 1, 2, 2), th.uint8),
        "cue": ((3, 1), th.int64),
    }
    assert (storage.observations["image"][0] == 255).all()
    assert storage.observations["cue"][0] == 10**12


def test_more_slots_than_memory_are_refused_in_words() -> None:
    storage = SlotStorage(10**12, 1, {"": ((84, 84), np.dtype(np.uint8))})
    frames = {"": np.zeros((1, 84, 84), np.uint8)}
    with pytest.raises(MemoryError, match=r"buffer_size must be smaller: 1,000,000,000,000 slots .* take 7056000.0 GB on cpu"):
        storage.push(np.array([0]), frames, True, np.array([False]))


def test_a_pickled_storage_is_the_same() -> None:
    storage = make_storage()
    push(storage, 0, 1.5, episode_start=True)
    copy = pickle.loads(pickle.dumps(storage))
    assert th.equal(copy.observations[""], storage.observations[""])
    push(copy, 0, 2.5)
    assert stored_values(copy, 0) == [1.5, 2.5]
    assert stored_values(storage, 0) == [1.5]
