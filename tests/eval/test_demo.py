import shlex
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

import cv2
import numpy as np
import pytest

from drqn_sb3 import DRQN
from eval import demo


@pytest.fixture(scope="module")
def untrained() -> DRQN:
    env, _ = demo.make_env(observe_prob=1.0)
    return DRQN("CnnLstmPolicy", env, seed=0, policy_kwargs={"hidden_size": 16})


def table_in(out: str) -> list[list[str]]:
    """Find the rows of the table that ``out`` ends with, and split them into words."""
    lines = out[out.index("player   observations  matches") :].splitlines()
    return [line.split() for line in lines[1:5]]


def test_the_greedy_player_acts_as_the_agent_predicts(untrained: DRQN) -> None:
    env, _ = demo.make_env(demo.OBSERVE_PROB)
    player = demo.greedy_player(untrained)
    for seed in range(2):
        moments: list[tuple[np.ndarray, np.ndarray]] = []
        demo.play(env, player, seed, lambda *moment, moments=moments: moments.append(moment))
        state = None
        for i, (observation, q_values) in enumerate(moments):
            action, state = untrained.predict(observation, state, np.array([i == 0]), deterministic=True)
            assert action == q_values.argmax()


def test_the_table_holds_the_scores_of_every_player_under_both_conditions(
    untrained: DRQN, capsys: pytest.CaptureFixture[str]
) -> None:
    n_episodes = 4  # the random player does not lose all of these to nothing
    demo.evaluate((("random", demo.random_player(13)), ("DRQN", demo.greedy_player(untrained))), n_episodes)
    expected = []
    for name, player in (("random", demo.random_player(13)), ("DRQN", demo.greedy_player(untrained))):
        for observations, observe_prob in (("normal", 1.0), ("flickering", 0.5)):
            env, _ = demo.make_env(observe_prob)
            scores = [demo.play(env, player, 1_000_000 + i, lambda *_: None) for i in range(n_episodes)]
            error = stdev(scores) / sqrt(n_episodes)
            expected.append([name, observations, str(n_episodes), f"{mean(scores):.2f}", f"{error:.2f}"])
    assert table_in(capsys.readouterr().out) == expected


def test_the_picture_has_a_column_per_moment(untrained: DRQN, tmp_path: Path) -> None:
    moments, meanings = demo.watch_match(demo.greedy_player(untrained))
    assert len(moments) == demo.N_MOMENTS
    assert meanings == ["NOOP", "LEFT", "UPLEFT", "UP", "UPRIGHT", "RIGHT"]
    dark = [not moment.observation.any() for moment in moments]
    assert sum(dark) == demo.N_MOMENTS // 2
    for moment, is_dark in zip(moments, dark, strict=True):
        assert moment.frame.any()
        assert is_dark or (moment.observation == moment.frame).all()

    for n_columns in (2, demo.N_MOMENTS):
        path = tmp_path / f"{n_columns}.png"
        demo.draw(moments[:n_columns], meanings, path)
        picture = cv2.imread(str(path))
        assert picture is not None and picture.shape == (850, 260 * n_columns, 3)


def test_the_demo_trains_by_the_zoos_command_evaluates_and_draws(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "with a space"
    demo.main(["--n-timesteps", "40", "--episodes", "2", "--output", str(output), "--seed", "7"])
    out = capfd.readouterr().out
    command = (
        "-m rl_zoo3.train --algo drqn --env SlimeVolleyNoFrameskip-v0 -n 40 -P --verbose 0 --seed 7 --eval-freq -1 "
        f"-f '{output}/logs' -params learning_starts:1000 exploration_steps:20"
    )
    assert out.splitlines()[0] == f"$ python {command}"
    (run,) = (output / "logs" / "drqn").iterdir()
    ran = (run / demo.ENV_ID / "command.txt").read_text()  # the zoo's own record, without quotes
    assert ran.partition(" ")[2] == " ".join(shlex.split(command))

    assert [row[:3] for row in table_in(out)] == [
        [player, observations, "2"] for player in ("random", "DRQN") for observations in ("normal", "flickering")
    ]
    assert cv2.imread(str(output / "what_it_sees.png")) is not None


def test_a_training_that_fails_ends_the_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="training ended with status 1"):
        demo.train(tmp_path, n_timesteps=8, seed=2**32)
    assert "Seed must be between 0 and 2**32 - 1" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("argument", "value", "bound"), [("--episodes", "1", "2"), ("--n-timesteps", "0", "1")])
def test_numbers_out_of_bounds_are_refused(argument: str, value: str, bound: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.main([argument, value])
    assert f"{argument} must be at least {bound}, got {value}" in capsys.readouterr().err
