"""Drawing windows. Axis order ``(time, batch)``."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from naive_replay import Episode, Twins
from scipy import stats

from drqn_sb3.slots import SlotStorage
from drqn_sb3.windows import RandomWindows, SequentialWindows, Windows

LENGTH = 4


class EveryInteger(np.random.Generator):
    """Instead of drawing integers below a bound, it gives each of them once."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def integers(self, *args: Any, **kwargs: Any) -> Any:
        return np.arange(args[0])


def pairs_of(windows: Windows) -> list[tuple[int, int]]:
    return list(zip(windows.envs.tolist(), windows.first.tolist(), strict=True))


def play_one(twins: Twins, *lengths: int) -> None:
    """One environment plays episodes of these lengths, one after another, terminated and truncated by turns."""
    for number, length in enumerate(lengths):
        for step in range(1, length + 1):
            twins.step([("terminated", "truncated")[number % 2] if step == length else None])


# --- random windows ---


def play_several(lengths: list[int], capacity: int, n_rounds: int, cut_at: int | None = None, n_steps: int = 1) -> Twins:
    """Environments whose episodes differ in length, their running episodes cut off once if so wanted."""
    twins = Twins(capacity, len(lengths), sequence_length=LENGTH, n_steps=n_steps)
    twins.play_episodes(lengths, cut_at or n_rounds)
    if cut_at is not None:
        twins.cut()
        twins.play_episodes(lengths, n_rounds - cut_at)
    return twins


EXPERIENCES: dict[str, dict[str, Any]] = {
    "a single step": {"lengths": [9], "capacity": 12, "n_rounds": 1},
    "episodes of one step": {"lengths": [1], "capacity": 20, "n_rounds": 50},
    "episodes of two steps": {"lengths": [2], "capacity": 20, "n_rounds": 50},
    "episodes of three steps": {"lengths": [3], "capacity": 20, "n_rounds": 50},
    "episodes of three lengths": {"lengths": [1, 2, 7], "capacity": 20, "n_rounds": 50},
    "an episode longer than the buffer": {"lengths": [1000], "capacity": 20, "n_rounds": 50},
    "not yet full": {"lengths": [4, 6], "capacity": 40, "n_rounds": 15},
    "capacity of one window": {"lengths": [3, 9], "capacity": LENGTH + 1, "n_rounds": 50},
    "capacity of a window and a slot": {"lengths": [3, 9], "capacity": LENGTH + 2, "n_rounds": 50},
    "three steps to a target": {"lengths": [2, 9], "capacity": 20, "n_rounds": 50, "n_steps": 3},
    "cut off in between": {"lengths": [9, 5], "capacity": 20, "n_rounds": 30, "cut_at": 22},
}
each_experience = pytest.mark.parametrize("experience", EXPERIENCES.values(), ids=EXPERIENCES.keys())


@each_experience
def test_random_windows_are_all_those_with_a_stored_step_each_equally_likely(experience: dict[str, Any]) -> None:
    twins = play_several(**experience)
    drawn = RandomWindows(LENGTH, EveryInteger()).draw(twins.buffer.storage, 1)
    assert Counter(pairs_of(drawn)) == Counter(twins.naive.windows())


@each_experience
def test_every_trainable_step_is_covered_by_exactly_sequence_length_windows(experience: dict[str, Any]) -> None:
    twins = play_several(**experience)
    windows = RandomWindows(LENGTH, EveryInteger()).draw(twins.buffer.storage, 1)
    mask = twins.buffer.gather(windows).mask.numpy()
    covered = Counter(
        (env, first + time) for row, (env, first) in enumerate(pairs_of(windows)) for time in range(LENGTH) if mask[time, row]
    )
    assert covered == dict.fromkeys(twins.naive.trainable(), LENGTH)


def trained_on(twins: Twins, sampler: RandomWindows, n_windows: int = 40_000) -> list[int]:
    """
    How often each trainable step is trained on. Of each window one training slot is looked at, chosen at random: what is
    counted are independent draws, so that the chi-square test holds.
    """
    windows = sampler.draw(twins.buffer.storage, n_windows)
    mask = twins.buffer.gather(windows).mask.numpy()
    times = np.random.default_rng(1).integers(LENGTH, size=n_windows)
    counts = Counter(
        (env, first + time)
        for row, ((env, first), time) in enumerate(zip(pairs_of(windows), times.tolist(), strict=True))
        if mask[time, row]
    )
    trainable = twins.naive.trainable()
    assert set(counts) <= set(trainable)
    return [counts[slot] for slot in trainable]


@each_experience
def test_every_trainable_step_is_drawn_equally_often(experience: dict[str, Any]) -> None:
    twins = play_several(**experience)
    counts = trained_on(twins, RandomWindows(LENGTH, np.random.default_rng(0)))
    assert len(counts) == 1 or stats.chisquare(counts).pvalue > 0.01


def is_first(twins: Twins, env: int, index: int) -> bool:
    return twins.naive.slots(env)[index][1] == 0


def is_last(twins: Twins, env: int, index: int) -> bool:
    episode, step = twins.naive.slots(env)[index]
    return episode.end is not None and step == len(episode.actions) - 1


def is_terminal(twins: Twins, env: int, index: int) -> bool:
    return is_last(twins, env, index) and twins.naive.slots(env)[index][0].end == "terminated"


def is_oldest(twins: Twins, env: int, index: int) -> bool:
    return index == min(slot for other, slot in twins.naive.trainable() if other == env)


def is_newest(twins: Twins, env: int, index: int) -> bool:
    return index == max(slot for other, slot in twins.naive.trainable() if other == env)


KINDS = {
    "first steps": is_first,
    "last steps": is_last,
    "terminal steps": is_terminal,
    "the oldest steps": is_oldest,
    "the newest steps": is_newest,
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_no_kind_of_step_comes_more_or_less_often_than_its_share(kind: Any) -> None:
    twins = play_several(lengths=[3, 10], capacity=20, n_rounds=55)
    counts = trained_on(twins, RandomWindows(LENGTH, np.random.default_rng(0)))
    of_kind = [kind(twins, *slot) for slot in twins.naive.trainable()]
    drawn = sum(count for count, is_one in zip(counts, of_kind, strict=True) if is_one)
    assert 0 < sum(of_kind) < len(of_kind)
    assert stats.binomtest(drawn, sum(counts), sum(of_kind) / len(of_kind)).pvalue > 0.01


class SomeWindows(RandomWindows):
    """Draws only from those windows that :meth:`accepts`."""

    def draw(self, storage: SlotStorage, batch_size: int) -> Windows:
        envs, first, _ = RandomWindows(self.sequence_length, EveryInteger()).draw(storage, 1)
        # (sequence_length + 1, windows): training slots and what bootstraps the last of them
        slots = first + np.arange(self.sequence_length + 1)[:, None]
        accepted = np.flatnonzero(self.accepts(storage, envs, slots))
        drawn = accepted[self.rng.integers(len(accepted), size=batch_size)]
        return Windows(envs[drawn], first[drawn])

    def accepts(self, storage: SlotStorage, envs: np.ndarray, slots: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class WholeWindows(SomeWindows):
    """As peers do: no window overhangs what is stored."""

    def accepts(self, storage: SlotStorage, envs: np.ndarray, slots: np.ndarray) -> np.ndarray:
        return (slots[0] >= storage.oldest[envs]) & (slots[-1] <= storage.newest[envs])


class NoOldOverhang(SomeWindows):
    """Windows overhang the newest slot, but not the oldest."""

    def accepts(self, storage: SlotStorage, envs: np.ndarray, slots: np.ndarray) -> np.ndarray:
        return slots[0] >= storage.oldest[envs]


class NoNewOverhang(SomeWindows):
    """Windows overhang the oldest slot, but not the newest."""

    def accepts(self, storage: SlotStorage, envs: np.ndarray, slots: np.ndarray) -> np.ndarray:
        return slots[-1] <= storage.newest[envs]


class WithinEpisodes(SomeWindows):
    """As peers do: no window crosses an episode's end, short episodes are never drawn."""

    def accepts(self, storage: SlotStorage, envs: np.ndarray, slots: np.ndarray) -> np.ndarray:
        stored = (slots >= storage.oldest[envs]) & (slots <= storage.newest[envs])
        return ~(storage.final[storage.rows(envs, slots)] & stored)[:-1].any(axis=0)


class FromEpisodeStarts(SomeWindows):
    """Windows begin where episodes do."""

    def accepts(self, storage: SlotStorage, envs: np.ndarray, slots: np.ndarray) -> np.ndarray:
        return (slots[0] >= storage.oldest[envs]) & storage.episode_starts[storage.rows(envs, slots[0])]


UNFAIR = (WholeWindows, NoOldOverhang, NoNewOverhang, WithinEpisodes, FromEpisodeStarts)


@pytest.mark.parametrize("sampler_class", UNFAIR)
def test_the_chi_square_test_finds_an_unfair_sampler(sampler_class: type[SomeWindows]) -> None:
    twins = play_several(lengths=[3, 10], capacity=20, n_rounds=55)
    counts = trained_on(twins, sampler_class(LENGTH, np.random.default_rng(0)))
    assert stats.chisquare(counts).pvalue < 1e-9


def test_a_generators_seed_determines_the_windows() -> None:
    twins = play_several(lengths=[3, 9], capacity=20, n_rounds=50)
    storage = twins.buffer.storage
    first, again, other = (RandomWindows(LENGTH, np.random.default_rng(seed)).draw(storage, 50) for seed in (0, 0, 1))
    assert pairs_of(first) == pairs_of(again)
    assert pairs_of(first) != pairs_of(other)


@pytest.mark.parametrize("sampler_class", [RandomWindows, SequentialWindows])
@pytest.mark.parametrize("was_used", [False, True], ids=["new", "cleared"])
def test_nothing_can_be_drawn_from_an_empty_storage(sampler_class: Any, was_used: bool) -> None:
    twins = Twins(20)
    if was_used:
        play_one(twins, 3, 4)
        twins.buffer.storage.clear()
    with pytest.raises(ValueError, match="cannot sample from a replay buffer that holds no transition yet"):
        sampler_class(LENGTH, np.random.default_rng(0)).draw(twins.buffer.storage, 8)


# --- sequential windows ---


class Rows:
    """
    What the rows of sequential batches may do, followed by hand.

    A row's memory holds the observations that its carried state has seen, as ``DRQN`` carries it: over the training slots,
    not over those behind them.
    """

    def __init__(self, twins: Twins) -> None:
        self.twins, self.naive = twins, twins.naive
        self.rows: list[dict[str, Any]] = []

    def draw(self, batch_size: int) -> Windows:
        windows = self.twins.buffer.sampler.draw(self.twins.buffer.storage, batch_size)
        assert windows.carries_state is not None
        if batch_size != len(self.rows):
            assert not windows.carries_state.any()
            self.rows = [{"env": -1, "first": 0, "went_on": False} for _ in range(batch_size)]
        samples = self.twins.buffer.gather(windows)
        for number, (row, (env, first)) in enumerate(zip(self.rows, pairs_of(windows), strict=True)):
            self._check_place(row, env, first, bool(windows.carries_state[number]))
            self._check_window(row, samples, number)
        return windows

    def _check_place(self, row: dict[str, Any], env: int, first: int, carries_state: bool) -> None:
        """A row goes on where it was if it can, else it begins an episode."""
        if row["went_on"]:
            episode, step = row["episode"], row["step"] + LENGTH
            is_stored = row["first"] + LENGTH >= self.naive.stored(row["env"])[0]
            assert carries_state == (is_stored and step < len(episode.actions))
        else:
            assert not carries_state
        if carries_state:
            assert (env, first) == (row["env"], row["first"] + LENGTH)
        else:
            assert (env, first) in self.naive.first_slots_of_episodes()
            row["memory"] = []
        episode, step = self.naive.slots(env)[first]
        row.update(env=env, first=first, episode=episode, step=step)
        # Until the end, unless the window overhangs what is stored of a running episode
        row["went_on"] = step + LENGTH < len(episode.actions) + (episode.end is None)

    def _check_window(self, row: dict[str, Any], samples: Any, number: int) -> None:
        """Every slot that is trained on, and what bootstraps it, has seen what lies before it in the episode."""
        episode: Episode = row["episode"]
        start = row["step"] - len(row["memory"])
        memory = row["memory"]
        assert samples.window_starts[0, number]
        for time in range(LENGTH + self.naive.n_steps):
            if samples.episode_starts[time, number] or (time > 0 and samples.window_starts[time, number]):
                memory = []
            memory = [*memory, samples.observations[time, number].tolist()]
            step = row["step"] + time
            if time < LENGTH:
                expected = step < len(episode.actions) and self.naive.is_trainable(episode, step)
                assert samples.mask[time, number].item() == expected
            if step < len(episode.observations):
                assert memory == [observation.tolist() for observation in episode.observations[start : step + 1]]
            if time == LENGTH - 1:
                row["memory"] = memory


SEQUENTIAL = {
    "episodes of one step": {"end_prob": 1.0},
    "short episodes": {"end_prob": 0.4},
    "long episodes": {"end_prob": 0.05},
    "an episode longer than the buffer": {"end_prob": 0.0},
    "three steps to a target": {"end_prob": 0.1, "n_steps": 3},
    "three environments": {"end_prob": 0.1, "n_envs": 3},
    "capacity of one window": {"end_prob": 0.1, "capacity": LENGTH + 1},
    "capacity of a window and a slot": {"end_prob": 0.1, "n_envs": 2, "capacity": LENGTH + 2},
    "few draws": {"end_prob": 0.05, "draw_prob": 0.05},
    "many draws": {"end_prob": 0.05, "draw_prob": 0.8},
    "cut off often": {"end_prob": 0.05, "cut_prob": 0.1},
    "another batch size often": {"end_prob": 0.05, "resize_prob": 0.2},
}


@pytest.mark.parametrize("case", SEQUENTIAL.values(), ids=SEQUENTIAL.keys())
@pytest.mark.parametrize("seed", range(3))
def test_a_row_goes_through_episodes_in_order_with_the_state_they_left(case: dict[str, Any], seed: int) -> None:
    settings: dict[str, Any] = {"n_envs": 1, "n_steps": 1, "capacity": 30, "draw_prob": 0.4, "cut_prob": 0, "resize_prob": 0}
    settings.update(case)
    capacity = max(settings["capacity"], LENGTH + settings["n_steps"])
    twins = Twins(capacity, settings["n_envs"], LENGTH, 0, settings["n_steps"], "sequential", seed=seed)
    rows, batch_size, rng = Rows(twins), 5, np.random.default_rng(seed)
    for _ in range(150):
        twins.step_randomly(settings["end_prob"])
        if rng.random() < settings["cut_prob"]:
            twins.cut()
        if rng.random() < settings["resize_prob"]:
            batch_size = 9 - batch_size
        while rng.random() < settings["draw_prob"]:
            rows.draw(batch_size)
    rows.draw(batch_size)


PASSES = {
    # episodes played, slots there are, steps that a row trains on which draws that episode
    "shorter than a window": ((3, 3, 3), 30, [0, 1, 2]),
    "of one window": ((4, 4), 30, [0, 1, 2, 3]),
    "of a window and a step": ((5, 5), 30, [0, 1, 2, 3, 4]),
    "of three windows": ((12,), 30, list(range(12))),
    "of many windows": ((27,), 30, list(range(27))),
    "longer than the buffer": ((100,), 30, list(range(71, 100))),
}


@pytest.mark.parametrize(("lengths", "capacity", "steps"), PASSES.values(), ids=PASSES.keys())
@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_row_trains_on_each_step_of_an_episode_once_and_then_draws_the_next(
    lengths: tuple[int, ...], capacity: int, steps: list[int], n_steps: int
) -> None:
    twins = Twins(capacity, 1, LENGTH, 0, n_steps, "sequential")
    play_one(twins, *lengths)
    trained: list[int] = []
    for number in range(20):
        windows = twins.buffer.sampler.draw(twins.buffer.storage, 1)
        assert windows.carries_state is not None
        if number > 0 and not windows.carries_state[0]:
            assert trained == steps
            trained = []
        mask = twins.buffer.gather(windows).mask[:, 0].numpy()
        assert mask.any()
        trained += [twins.naive.slots(0)[index][1] for index in windows.first[0] + np.flatnonzero(mask)]


def test_a_row_that_has_overhung_the_newest_slot_does_not_go_on_behind_it() -> None:
    twins = Twins(60, 1, LENGTH, replay="sequential")
    twins.play_episodes([1000], 2)
    rows = Rows(twins)
    rows.draw(1)  # two steps are stored, two more overhang
    twins.play_episodes([1000], 20)
    windows = rows.draw(1)
    assert windows.first == [0]
    assert windows.carries_state == [False]


def test_a_row_goes_on_with_a_running_episode_as_it_grows() -> None:
    twins = Twins(60, 1, LENGTH, replay="sequential")
    rows = Rows(twins)
    firsts = []
    for _ in range(5):
        twins.play_episodes([1000], LENGTH)
        firsts += rows.draw(1).first.tolist()
    assert firsts == [0, 4, 8, 12, 16]


OVERWRITTEN = {
    # steps after the first draw, whether the row goes on then
    "nothing": (0, True),
    "what it has passed": (LENGTH, True),
    "where it would go on": (LENGTH + 1, False),
    "all there was": (300, False),
}


@pytest.mark.parametrize(("n_more", "goes_on"), OVERWRITTEN.values(), ids=OVERWRITTEN.keys())
def test_a_row_draws_anew_when_where_it_would_go_on_is_overwritten(n_more: int, goes_on: bool) -> None:
    twins = Twins(30, 1, LENGTH, replay="sequential")
    twins.play_episodes([1000], 50)
    rows = Rows(twins)
    first = rows.draw(1).first[0]
    twins.play_episodes([1000], n_more)
    windows = rows.draw(1)
    assert windows.carries_state == [goes_on]
    assert windows.first[0] == (first + LENGTH if goes_on else twins.naive.stored(0)[0])


@pytest.mark.parametrize("how", ["forget", "another batch size"])
def test_all_rows_begin_anew_after(how: str) -> None:
    twins = Twins(60, 1, LENGTH, replay="sequential")
    play_one(twins, 40)
    sampler, storage = twins.buffer.sampler, twins.buffer.storage
    assert isinstance(sampler, SequentialWindows)
    assert [sampler.draw(storage, 3).first[0] for _ in range(3)] == [0, 4, 8]
    if how == "forget":
        sampler.forget()
    windows = sampler.draw(storage, 3 if how == "forget" else 4)
    assert set(pairs_of(windows)) == {(0, 0)}
    assert windows.carries_state is not None and not windows.carries_state.any()


@each_experience
def test_episodes_are_drawn_equally_often_whatever_their_length(experience: dict[str, Any]) -> None:
    twins = play_several(**experience)
    windows = SequentialWindows(LENGTH, np.random.default_rng(0)).draw(twins.buffer.storage, 20_000)
    counts = Counter(pairs_of(windows))
    episodes = twins.naive.first_slots_of_episodes()
    assert set(counts) <= set(episodes)
    assert len(episodes) == 1 or stats.chisquare([counts[episode] for episode in episodes]).pvalue > 0.01


def test_rows_that_draw_again_do_so_uniformly_and_leave_the_others_alone() -> None:
    twins = Twins(200, 1, LENGTH, replay="sequential")
    play_one(twins, 2, 3, 4, 30, 1, 30)
    sampler = SequentialWindows(LENGTH, np.random.default_rng(0))
    before = sampler.draw(twins.buffer.storage, 20_000)
    after = sampler.draw(twins.buffer.storage, 20_000)
    assert after.carries_state is not None
    is_long = np.isin(before.first, [index for _, index in twins.naive.first_slots_of_episodes()][3::2])
    np.testing.assert_array_equal(after.carries_state, is_long)
    np.testing.assert_array_equal(after.first[is_long], before.first[is_long] + LENGTH)
    assert stats.chisquare(np.unique(after.first[~is_long], return_counts=True)[1]).pvalue > 0.01
    assert len(np.unique(after.first[~is_long])) == 6
