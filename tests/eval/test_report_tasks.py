"""What of an agent's wrappers belongs to its task, and what to its condition of observation."""

from pathlib import Path

import pytest
from made_results import Made, make

from eval.conditions import Condition
from eval.report.tasks import wrappers_of

ATARI = "stable_baselines3.common.atari_wrappers.AtariWrapper"
SKIP = "rl_zoo3.wrappers.FrameSkip"
OWN = "drqn_sb3.last_action.LastAction"
SEEN_ALIKE: dict[str, tuple[str, dict[str, object], str]] = {
    "hidden by its condition": (
        "flicker-0.5",
        {"env_wrapper": [{"drqn_sb3.wrappers.FlickerObservation": {"observe_prob": 0.5}}]},
        "",
    ),
    "held by its condition": ("repeat-2", {"env_wrapper": ["a.B", {SKIP: {"skip": 2}}]}, "a.B"),
    "held by the task and its condition": ("repeat-2", {"env_wrapper": [{SKIP: {"skip": 2}}] * 2}, f'{SKIP}({{"skip": 2}})'),
    "held by the task": ("normal", {"env_wrapper": {SKIP: {"skip": 2}}}, f'{SKIP}({{"skip": 2}})'),
    "hidden and held by its condition, its own actions shown": (
        "repeat-2+flicker-0.5",
        {"env_wrapper": Condition.parse("repeat-2+flicker-0.5").around([{SKIP: {"skip": 2}}, OWN])},
        f'{SKIP}({{"skip": 2}}), {OWN}',
    ),
    "in C++": (
        "normal",
        {"vec_env_wrapper": {"drqn_sb3.envs.native_atari": {"num_threads": 2, "frame_skip": 4}}},
        f'{ATARI}({{"frame_skip": 4}})',
    ),
}


@pytest.mark.parametrize(("condition", "config", "expected"), SEEN_ALIKE.values(), ids=SEEN_ALIKE.keys())
def test_what_a_condition_does_is_no_preprocessing(
    tmp_path: Path, condition: str, config: dict[str, object], expected: str
) -> None:
    assert wrappers_of(make(tmp_path, Made(condition=condition), config=config)) == expected
