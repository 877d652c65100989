"""
Environments: SlimeVolley under Gymnasium, a task that only memory solves, and Atari games in native threads.

Importing this package imports neither gym nor slimevolleygym nor ale_py nor OpenCV; what it names is loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium as gym

if TYPE_CHECKING:
    from drqn_sb3.envs.atari import AtariVecEnv, native_atari
    from drqn_sb3.envs.quiet import import_quietly
    from drqn_sb3.envs.recall import RecallEnv
    from drqn_sb3.envs.slimevolley import SlimeVolleyEnv
    from drqn_sb3.envs.wrappers import DiscreteActions, SkipUnseenFrames, SlimeVolleyAtariWrapper

__all__ = [
    "AtariVecEnv",
    "DiscreteActions",
    "RecallEnv",
    "SkipUnseenFrames",
    "SlimeVolleyAtariWrapper",
    "SlimeVolleyEnv",
    "import_quietly",
    "native_atari",
    "register_envs",
]

_MODULES = {
    "AtariVecEnv": "atari",
    "DiscreteActions": "wrappers",
    "RecallEnv": "recall",
    "SkipUnseenFrames": "wrappers",
    "SlimeVolleyAtariWrapper": "wrappers",
    "SlimeVolleyEnv": "slimevolley",
    "import_quietly": "quiet",
    "native_atari": "atari",
}

_SLIMEVOLLEY = "drqn_sb3.envs.slimevolley:SlimeVolleyEnv"
_RECALL = "drqn_sb3.envs.recall:RecallEnv"
_PIXELS = {"from_pixels": True}
_ATARI = {"from_pixels": True, "discrete_actions": True}
_SURVIVAL = {"from_pixels": True, "discrete_actions": True, "survival_bonus": True}

# id -> entry point, keyword arguments
_ENVS: dict[str, tuple[str, dict[str, Any]]] = {
    "SlimeVolley-v0": (_SLIMEVOLLEY, {}),
    "SlimeVolleyPixel-v0": (_SLIMEVOLLEY, _PIXELS),
    "SlimeVolleyNoFrameskip-v0": (_SLIMEVOLLEY, _ATARI),
    "SlimeVolleySurvivalNoFrameskip-v0": (_SLIMEVOLLEY, _SURVIVAL),
    "Recall-v0": (_RECALL, {}),
    "Recall20-v0": (_RECALL, {"delay": 20}),
    "Recall50-v0": (_RECALL, {"delay": 50}),
}


def register_envs() -> None:
    """
    Make the environments known to Gymnasium, under the ids that slimevolleygym gave them, and Recall with three delays.

    Cheap, and safe to call again: an id that is registered already is left alone. Gymnasium's wrappers that check each
    step are left out: the environments refuse bad actions and a missing reset themselves.
    """
    for env_id, (entry_point, kwargs) in _ENVS.items():
        if env_id not in gym.registry:
            gym.register(id=env_id, entry_point=entry_point, kwargs=kwargs, disable_env_checker=True, order_enforce=False)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
