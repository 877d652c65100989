"""Recurrent Q-learning (DRQN) for Stable-Baselines3 and RL Baselines3 Zoo."""

from drqn_sb3.envs.quiet import import_quietly

# SB3 imports gym where it is installed, as it is here for slimevolleygym's sake, and gym prints an obituary
import_quietly("gym")

from drqn_sb3.buffers import SequenceReplayBuffer
from drqn_sb3.checkpoints import RunCheckpointCallback
from drqn_sb3.curriculum import FlickerCurriculum
from drqn_sb3.drqn import DRQN
from drqn_sb3.envs import register_envs
from drqn_sb3.frame_stack import FrameStackReplayBuffer
from drqn_sb3.last_action import LastAction
from drqn_sb3.policies import CnnLstmPolicy, MlpLstmPolicy, MultiInputLstmPolicy
from drqn_sb3.version import __version__
from drqn_sb3.warm_start import WarmStart
from drqn_sb3.wrappers import FlickerObservation, FrozenObservation, HideVelocity, NoisyObservation

__all__ = [
    "DRQN",
    "CnnLstmPolicy",
    "FlickerCurriculum",
    "FlickerObservation",
    "FrameStackReplayBuffer",
    "FrozenObservation",
    "HideVelocity",
    "LastAction",
    "MlpLstmPolicy",
    "MultiInputLstmPolicy",
    "NoisyObservation",
    "RunCheckpointCallback",
    "SequenceReplayBuffer",
    "WarmStart",
    "__version__",
    "register_envs",
]

register_envs()
