from typing import Any

import numpy as np
import pytest

from drqn_sb3.envs import SlimeVolleyEnv, import_quietly
from eval import render_speed

original: Any = import_quietly("slimevolleygym.slimevolley")


@pytest.fixture(autouse=True)
def original_globals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put slimevolleygym's module globals back, which its first pixel environment switches for good."""
    for name in ("WINDOW_WIDTH", "WINDOW_HEIGHT", "FACTOR", "AGENT_LEFT_COLOR", "AGENT_RIGHT_COLOR", "PIXEL_MODE"):
        monkeypatch.setattr(original, name, getattr(original, name))


def test_the_original_under_gymnasiums_interface_is_the_original() -> None:
    env, twin = render_speed.OriginalEnv(original.SlimeVolleyAtariEnv), SlimeVolleyEnv(True, True)
    np.testing.assert_array_equal(env.reset(seed=3)[0], twin.reset(seed=3)[0])
    for action in (1, 2, 3, 4, 5, 0):
        observation, reward, terminated, truncated, _ = env.step(action)
        expected = twin.step(action)
        np.testing.assert_array_equal(observation, expected[0])
        assert (reward, terminated, truncated) == expected[1:4]


def test_the_command_prints_all_rates_and_their_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    render_speed.main(["--frames", "40", "--rounds", "2", "--seed", "1"])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "2 rounds of 40 frames" in lines[0]
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "frames/s",
        "agent steps/s (frame skip 4)",
        "agent steps/s of 8 envs",
    ]
    for line in lines[2:]:
        original_rate, our_rate, ratio = (float(word) for word in line[34:].split()[:3])
        assert ratio == pytest.approx(our_rate / original_rate, rel=0.1)
    assert "11/12 round 2: ours" in err


def test_the_table_holds_medians_and_ratios() -> None:
    rates = {"frames/s": {"original": [100.0, 300.0, 200.0], "ours": [1000.0, 2400.0, 1200.0]}}
    assert render_speed.table(rates).splitlines()[1].split() == ["frames/s", "200", "1200", "6.0", "6.0", "to", "10.0"]


@pytest.mark.parametrize("argument", ["--frames", "--rounds"])
def test_numbers_below_one_are_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        render_speed.main([argument, "0"])
    assert "must be 1 or more, got 0" in capsys.readouterr().err
