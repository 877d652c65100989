from typing import Any

import numpy as np
import pytest

from drqn_sb3.envs import opponent

from .matches import actions, make, original

MEMORY = ("inputState", "outputState", "prevOutputState")


def assert_alike(policy: Any, twin: Any) -> None:
    """Compare two memories bit for bit; the two zeros count as different."""
    for name in MEMORY:
        ours, theirs = getattr(policy, name), getattr(twin, name)
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes()), name


@pytest.mark.parametrize("seed", range(4))
def test_it_plays_a_match_as_slimevolleygyms_policy_does(seed: int) -> None:
    env = make("SlimeVolley-v0")
    env.reset(seed=seed)
    policy, twin = original.BaselinePolicy(), original.BaselinePolicy()
    playing = actions(env, seed)
    pressed = set()
    for _ in range(400):
        state = env.game.agent_left.state
        buttons = opponent.act(policy, state)
        assert list(buttons) == twin.predict(state.getObservation())
        assert_alike(policy, twin)
        pressed.add(buttons)
        env.step(next(playing))
    assert len(pressed) >= 4, "the match is to be worth comparing"


@pytest.mark.parametrize("spread", [0.0, 0.1, 10.0, 1e6], ids="spread {}".format)
def test_it_acts_alike_in_states_that_no_match_brings_about(spread: float) -> None:
    rng = np.random.default_rng(0)
    policy, twin = original.BaselinePolicy(), original.BaselinePolicy()
    state = original.RelativeState()
    for _ in range(300):
        for name in vars(state):
            setattr(state, name, spread * rng.standard_normal())
        assert list(opponent.act(policy, state)) == twin.predict(state.getObservation())
        assert_alike(policy, twin)


def test_its_memory_is_that_of_the_policy() -> None:
    """Asking the policy itself and asking it the short way can take turns, also after the memory was emptied."""
    rng = np.random.default_rng(1)
    policy, twin = original.BaselinePolicy(), original.BaselinePolicy()
    state = original.RelativeState()
    for i in range(60):
        state.bx, state.by, state.bvx = 10 * rng.standard_normal(3)
        observation = state.getObservation()
        buttons = policy.predict(observation) if i % 3 == 0 else list(opponent.act(policy, state))
        assert buttons == twin.predict(observation)
        assert_alike(policy, twin)
        if i == 30:
            policy.reset()
            twin.reset()
