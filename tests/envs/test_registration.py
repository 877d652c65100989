import subprocess
import sys

import gymnasium as gym
import pytest

import drqn_sb3.envs
from drqn_sb3.envs import register_envs

from .matches import IDS

RECALL = {"Recall-v0": 5, "Recall20-v0": 20, "Recall50-v0": 50}


@pytest.mark.parametrize("env_id", [*IDS, *RECALL])
def test_every_env_is_registered_under_a_string(env_id: str) -> None:
    register_envs()
    entry_point = gym.spec(env_id).entry_point
    assert isinstance(entry_point, str)
    assert "AtariEnv" not in entry_point, "the zoo would take it for an Atari game"
    env = gym.make(env_id)
    assert env.spec is not None and env.spec.id == env_id
    env.close()


def test_registering_twice_changes_nothing(recwarn: pytest.WarningsRecorder) -> None:
    register_envs()
    before = dict(gym.registry)
    register_envs()
    assert dict(gym.registry) == before
    assert [str(warning.message) for warning in recwarn] == []


def test_the_spaces_are_those_of_slimevolleygym() -> None:
    shapes = {env_id: (gym.make(env_id).observation_space.shape, str(gym.make(env_id).action_space)) for env_id in IDS}
    assert shapes == {
        "SlimeVolley-v0": ((12,), "MultiBinary(3)"),
        "SlimeVolleyPixel-v0": ((84, 168, 3), "MultiBinary(3)"),
        "SlimeVolleyNoFrameskip-v0": ((84, 168, 3), "Discrete(6)"),
        "SlimeVolleySurvivalNoFrameskip-v0": ((84, 168, 3), "Discrete(6)"),
    }


@pytest.mark.parametrize("env_id", [*IDS, *RECALL])
def test_nothing_stands_between_the_user_and_the_env(env_id: str) -> None:
    env = gym.make(env_id)
    assert env is env.unwrapped


@pytest.mark.parametrize("name", drqn_sb3.envs.__all__)
def test_every_public_name_can_be_had_from_the_package(name: str) -> None:
    assert getattr(drqn_sb3.envs, name).__name__ == name
    assert name in dir(drqn_sb3.envs)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'AtariEnv'"):
        _ = drqn_sb3.envs.AtariEnv


REGISTER_ONLY = """
import importlib.util, sys, types
package = types.ModuleType("drqn_sb3")
package.__path__ = [importlib.util.find_spec("drqn_sb3").submodule_search_locations[0]]
sys.modules["drqn_sb3"] = package  # stands for the package before its own imports
import drqn_sb3.envs
drqn_sb3.envs.register_envs()
print(sorted({"gym", "slimevolleygym", "cv2", "torch", "pygame"} & set(sys.modules)))
"""


def test_registering_imports_neither_gym_nor_slimevolleygym() -> None:
    done = subprocess.run([sys.executable, "-c", REGISTER_ONLY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("env_id", "delay"), RECALL.items())
def test_an_id_of_recall_tells_its_delay(env_id: str, delay: int) -> None:
    env = gym.make(env_id)
    env.reset(seed=0)
    n_steps, terminated = 0, False
    while not terminated:
        _, _, terminated, _, _ = env.step(0)
        n_steps += 1
    assert n_steps == delay + 2
