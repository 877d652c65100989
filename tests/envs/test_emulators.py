import numpy as np
import pytest

from drqn_sb3.envs.emulators import RESET, GamePool, Outcome


def pool(n_games: int = 1, game: str = "breakout", noop_max: int = 0, num_threads: int | None = None) -> GamePool:
    return GamePool(
        game,
        n_games,
        picture_shape=(210, 160),
        frame_skip=4,
        noop_max=noop_max,
        repeat_action_probability=0.0,
        full_action_space=False,
        num_threads=num_threads,
    )


def carry_out(games: GamePool, index: int, action: int) -> Outcome:
    games.submit(index, action)
    collected, outcome = games.collect()
    assert collected == index and not games.is_busy
    return outcome


@pytest.mark.parametrize("num_threads", [None, 1, 2])
def test_outcomes_come_in_the_order_of_the_actions(num_threads: int | None) -> None:
    games = pool(3, num_threads=num_threads)
    for index in (2, 0, 1):
        games.submit(index, RESET)
    assert [games.collect()[0] for _ in range(3)] == [2, 0, 1]
    for index in (1, 2, 0):
        games.submit(index, index)
    outcomes = dict(games.collect() for _ in range(3))
    assert list(outcomes) == [1, 2, 0]
    assert not games.is_busy
    alone = pool()
    for index, outcome in outcomes.items():
        carry_out(alone, 0, RESET)
        expected = carry_out(alone, 0, index)
        np.testing.assert_array_equal(outcome.picture, expected.picture)
        assert outcome.picture.shape == (210, 160, 3) and outcome.picture.dtype == np.uint8
        assert (outcome.lives, outcome.episode_frame_number) == (5, 4) == (expected.lives, expected.episode_frame_number)
    games.close()
    games.close()


def test_one_game_goes_on_while_the_others_stand_still() -> None:
    games = pool(2)
    for index in range(2):
        carry_out(games, index, RESET)
    frames = [carry_out(games, 1, 0).episode_frame_number for _ in range(3)]
    assert frames == [4, 8, 12]
    assert carry_out(games, 0, 0).episode_frame_number == 4


def test_a_reset_starts_a_new_game_whether_the_last_one_is_over_or_not() -> None:
    games = pool()
    first = carry_out(games, 0, RESET)
    carry_out(games, 0, 1)
    np.testing.assert_array_equal(carry_out(games, 0, RESET).picture, first.picture)
    outcome, n_steps = first, 0
    while not outcome.is_over:
        outcome, n_steps = carry_out(games, 0, 1 if n_steps % 30 == 0 else 3), n_steps + 1
    assert outcome.lives == 0
    again = carry_out(games, 0, RESET)
    assert (again.episode_frame_number, again.lives, again.reward, again.is_over) == (0, 5, 0, False)
    assert again.frame_number == outcome.frame_number
    np.testing.assert_array_equal(again.picture, first.picture)


def test_a_seed_decides_the_no_ops_until_the_next_seed() -> None:
    games = pool(noop_max=30)
    counts = []
    for seed in (7, 7, 8):
        games.seed(0, seed)
        counts.append([carry_out(games, 0, RESET).episode_frame_number for _ in range(12)])
    assert counts[0] == counts[1] != counts[2]
    assert len(set(counts[0])) > 3, "only the reset after the seed is the seed's"
    assert all(0 <= count <= 30 for count in counts[0] + counts[2])
