"""The built-in opponent, slimevolleygym's network, asked without the arrays that only carry numbers to it."""

from typing import Any

import numpy as np

_SCALE = 10.0  # slimevolleygym divides positions and velocities by it before the network sees them
_PRESSED = 0.75  # an output above it presses its button


def act(policy: Any, state: Any) -> tuple[bool, bool, bool]:
    """
    What ``policy.predict(state.getObservation())`` does, bit for bit, in half of the time.

    :param policy: a ``slimevolleygym.slimevolley.BaselinePolicy``; its memory goes on by a frame
    :param state: what its agent sees, a ``slimevolleygym.slimevolley.RelativeState``
    :return: whether forward, backward and jump are pressed
    """
    policy.inputState = np.array(
        (
            state.x / _SCALE,
            state.y / _SCALE,
            state.vx / _SCALE,
            state.vy / _SCALE,
            state.bx / _SCALE,
            state.by / _SCALE,
            state.bvx / _SCALE,
            state.bvy / _SCALE,
            *policy.outputState.tolist(),
        )
    )
    policy.prevOutputState = policy.outputState
    policy.outputState = np.tanh(policy.weight.dot(policy.inputState) + policy.bias)
    forward, backward, jump, *_ = policy.outputState.tolist()
    return forward > _PRESSED, backward > _PRESSED, jump > _PRESSED
