"""What an agent did is shown beside what it sees, and is never hidden."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from drqn_sb3 import FlickerObservation, LastAction
from drqn_sb3.envs import DiscreteActions


class Told(gym.Env):
    """Observes a dict; ends after three steps."""

    def __init__(self, **parts: spaces.Space) -> None:
        self.observation_space = spaces.Dict(parts or {"here": spaces.Box(-1, 1, (2,)), "there": spaces.Box(0, 1, (1,))})
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_steps = 0
        return {"here": np.ones(2, np.float32), "there": np.zeros(1, np.float32)}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        return {"here": np.zeros(2, np.float32), "there": np.ones(1, np.float32)}, 1.0, self.n_steps == 3, False, {}


def test_the_action_that_led_to_an_observation_is_beside_it() -> None:
    env, bare = LastAction(gym.make("CartPole-v1")), gym.make("CartPole-v1")
    (obs, _), (expected, _) = env.reset(seed=2), bare.reset(seed=2)
    shown: np.ndarray | list[int] = [0, 0]
    actions: list[Any] = [1, 0, np.int64(1), 1, np.array(0)]
    for action in actions:
        assert obs.keys() == {"observation", "last_action"}
        np.testing.assert_array_equal(obs["observation"], expected, strict=True)
        np.testing.assert_array_equal(obs["last_action"], np.array(shown, np.float32), strict=True)
        (obs, reward, *_), (expected, expected_reward, *_) = env.step(action), bare.step(int(action))
        assert reward == expected_reward
        shown = [int(action == 0), int(action == 1)]
    assert env.reset()[0]["last_action"].tolist() == [0, 0], "nothing was done in this episode yet"


def test_a_dicts_entries_stay() -> None:
    env = LastAction(Told())
    assert list(env.observation_space.spaces) == ["here", "last_action", "there"]  # type: ignore[attr-defined]
    env.reset(seed=0)
    obs = env.step(2)[0]
    assert {name: part.tolist() for name, part in obs.items()} == {
        "here": [0, 0],
        "there": [1],
        "last_action": [0, 0, 1, 0],
    }


def test_it_is_shown_where_observations_are_dark() -> None:
    env = LastAction(FlickerObservation(gym.make("CartPole-v1"), observe_prob=0.0))
    env.reset(seed=0)
    obs = env.step(1)[0]
    assert not obs["observation"].any() and obs["last_action"].tolist() == [0, 1]


@pytest.mark.filterwarnings("ignore::UserWarning")  # observations of SlimeVolley beyond its space, no render modes
@pytest.mark.parametrize("make", [Told, lambda: DiscreteActions(gym.make("SlimeVolley-v0"))], ids=["dict", "vector"])
def test_it_is_an_environment_as_gymnasium_has_them(make: Any) -> None:
    check_env(LastAction(make()), skip_render_check=True)


BAD = {
    "buttons": (lambda: gym.make("SlimeVolley-v0"), TypeError, r"action_space must be Discrete, got MultiBinary\(3\)"),
    "an entry of that name": (
        lambda: Told(last_action=spaces.Box(0, 1, (4,))),
        ValueError,
        'must have no entry "last_action", got Dict',
    ),
}


@pytest.mark.parametrize(("make", "error", "words"), BAD.values(), ids=BAD.keys())
def test_what_it_cannot_wrap_is_named(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        LastAction(make())


def test_actions_that_start_elsewhere_are_named() -> None:
    env = Told()
    env.action_space = spaces.Discrete(3, start=1)
    with pytest.raises(ValueError, match=r"action_space must start at 0, got Discrete\(3, start=1\)"):
        LastAction(env)
