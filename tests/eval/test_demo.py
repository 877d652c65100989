import shlex
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest

from drqn_sb3 import DRQN
from eval import demo


@pytest.fixture(scope="module")
def untrained() -> DRQN:
    env, _ = demo.make_env(observe_prob=1.0)
    return DRQN("CnnLstmPolicy", env, seed=0, policy_kwargs={"hidden_size": 16})


def rows_of(out: str) -> list[list[str]]:
    """The rows of the table in ``out``, in words."""
    lines = iter(out.splitlines())
    assert any(line.split()[:3] == ["player", "observations", "matches"] for line in lines)
    return [line.split() for _, line in zip(range(4), lines, strict=False)]


def test_the_greedy_player_acts_as_the_agent_predicts(untrained: DRQN) -> None:
    env, _ = demo.make_env(demo.OBSERVE_PROB)
    player = demo.greedy_player(untrained)
    for seed in range(2):
        seen: list[tuple[np.ndarray, np.ndarray]] = []
        demo.play(env, player, seed, lambda *moment, seen=seen: seen.append(moment))
        state = None
        for i, (observation, q_values) in enumerate(seen):
            action, state = untrained.predict(observation, state, np.array([i == 0]), deterministic=True)
            assert action == q_values.argmax()


def test_every_player_plays_the_same_matches_under_both_conditions(
    untrained: DRQN, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.evaluate((("random", demo.random_player(3)), ("DRQN", demo.greedy_player(untrained))), n_episodes=2)
    expected = []
    for name, player in (("random", demo.random_player(3)), ("DRQN", demo.greedy_player(untrained))):
        for observations, observe_prob in (("normal", 1.0), ("flickering", 0.5)):
            env, _ = demo.make_env(observe_prob)
            first, second = (demo.play(env, player, seed, lambda *_: None) for seed in (1_000_000, 1_000_001))
            numbers = (f"{(first + second) / 2:.2f}", f"{abs(first - second) / 2:.2f}")
            expected.append([name, observations, "2", *numbers])
    assert rows_of(capsys.readouterr().out) == expected
