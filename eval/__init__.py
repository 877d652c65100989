"""Experiments with ``drqn_sb3``: run from a checkout, not part of the installed package."""
