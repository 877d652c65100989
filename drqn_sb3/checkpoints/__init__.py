"""Checkpoints that a run can be resumed from exactly."""

from drqn_sb3.checkpoints.callback import RunCheckpointCallback
from drqn_sb3.checkpoints.env_state import EnvStateError, get_env_state, set_env_state
from drqn_sb3.checkpoints.resumable_env import ResumableEnv

__all__ = ["EnvStateError", "ResumableEnv", "RunCheckpointCallback", "get_env_state", "set_env_state"]
