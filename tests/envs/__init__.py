"""Tests of ``drqn_sb3.envs``."""
