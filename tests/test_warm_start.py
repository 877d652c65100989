"""Learning that begins with the weights of another agent: whose they are, where they go, and what does not fit."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from rl_zoo3.utils import get_callback_list
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from toy_env import POLICIES, SPACES, ToyEnv

from drqn_sb3 import DRQN, LastAction, RunCheckpointCallback, WarmStart

SMALL: dict[str, Any] = {"buffer_size": 600, "learning_starts": 40, "sequence_length": 4, "batch_size": 4, "seed": 0}
NETWORK = {"hidden_size": 8, "predictor": [6], "dueling": True}


class Named(gym.ObservationWrapper):
    """Observes a dict with one more entry, whose name comes behind the observation's."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict(observation=env.observation_space, room=spaces.Discrete(4))

    def observation(self, observation: Any) -> dict[str, Any]:
        return {"observation": observation, "room": 2}


def make_model(env: gym.Env, policy: str = "MlpLstmPolicy", **kwargs: Any) -> DRQN:
    policy_kwargs = {**NETWORK, **kwargs.pop("policy_kwargs", {})}
    return DRQN(policy, env, learning_rate=0.01, policy_kwargs=policy_kwargs, **{**SMALL, **kwargs})


def save_trained(path: Path, *args: Any, **kwargs: Any) -> DRQN:
    model = make_model(*args, **kwargs)
    model.learn(120)
    model.save(path)
    return model


def assert_act_alike(model: DRQN, other: DRQN, n_steps: int = 6) -> None:
    """See whether one acts on dicts as the other does on their observation, whatever else they tell."""
    state = other_state = None
    space = model.observation_space
    space.seed(1)
    for _ in range(n_steps):
        obs = space.sample()
        bare = (
            obs["observation"]
            if isinstance(space, spaces.Dict) and not isinstance(other.observation_space, spaces.Dict)
            else obs
        )
        action, state = model.predict(obs, state, deterministic=True)
        expected, other_state = other.predict(bare, other_state, deterministic=True)
        assert action == expected
        assert state is not None and other_state is not None
        for part, expected_part in zip(state, other_state, strict=True):
            np.testing.assert_allclose(part, expected_part, atol=1e-6)


def assert_equal(weights: dict[str, th.Tensor], expected: dict[str, th.Tensor]) -> None:
    assert weights.keys() == expected.keys()
    assert [name for name in weights if not th.equal(weights[name], expected[name])] == []


@pytest.mark.parametrize("encoder", [[5], []], ids=["encoder", "no encoder"])
@pytest.mark.parametrize("kind", ["vector", "image, channels first", "image, channels last"])
@pytest.mark.parametrize("wrapper", [LastAction, Named])
def test_an_agent_that_is_told_more_begins_by_acting_as_the_other(
    wrapper: Any, kind: str, encoder: list[int], tmp_path: Path
) -> None:
    kwargs = {"policy_kwargs": {"net_arch": {"encoder": encoder, "head": [7]}}}
    other = save_trained(tmp_path / "other", ToyEnv(SPACES[kind]), POLICIES.get(kind, "MlpLstmPolicy"), **kwargs)
    model = make_model(wrapper(ToyEnv(SPACES[kind])), "MultiInputLstmPolicy", **kwargs, seed=1)
    model.learn(1, callback=WarmStart(tmp_path / "other"))
    assert_act_alike(model, other)


def test_what_is_told_beside_is_learned_to_be_used(tmp_path: Path) -> None:
    save_trained(tmp_path / "other", ToyEnv())
    model = make_model(LastAction(ToyEnv()), "MultiInputLstmPolicy")
    model.learn(1, callback=WarmStart(tmp_path / "other"))
    told = model.q_net.state_dict()["encoder.0.weight"][:, :3]
    assert not told.any(), "a dict's entries are in alphabetical order: the last action is before the observation"
    model.learn(100)
    assert model.q_net.state_dict()["encoder.0.weight"][:, :3].any(dim=0).all()


def test_all_networks_begin_with_those_weights_that_the_other_plays_with(tmp_path: Path) -> None:
    other = save_trained(tmp_path / "other", ToyEnv(), policy_kwargs={"ema_decay": 0.9})
    model = make_model(ToyEnv(), policy_kwargs={"ema_decay": 0.5}, seed=1)
    model.learn(1, callback=WarmStart(tmp_path / "other"))
    average = other.policy.predicting_net.state_dict()
    assert not th.equal(average["encoder.0.weight"], other.q_net.state_dict()["encoder.0.weight"])
    for network in (model.q_net, model.q_net_target, model.policy.q_net_ema):
        assert network is not None
        assert_equal(network.state_dict(), average)


def test_it_acts_and_learns_with_them_in_bfloat16_too(tmp_path: Path) -> None:
    other = save_trained(tmp_path / "other", ToyEnv())
    model = make_model(ToyEnv(), precision="bfloat16", seed=1)
    model.learn(1, callback=WarmStart(tmp_path / "other"))
    acting = model._learner.acting_network.state_dict()["encoder.0.weight"]
    assert acting.dtype == th.bfloat16
    assert th.equal(acting, other.q_net.state_dict()["encoder.0.weight"].bfloat16())


def test_a_predictor_that_the_other_lacks_begins_anew_and_one_that_only_it_has_is_left_out(tmp_path: Path) -> None:
    other = save_trained(tmp_path / "other", ToyEnv(), policy_kwargs={"predictor": None})
    model = make_model(ToyEnv(), seed=1)
    before = {name: weights.clone() for name, weights in model.q_net.state_dict().items()}
    model.learn(1, callback=WarmStart(tmp_path / "other"))
    own_predictor = {name: weights for name, weights in before.items() if name.startswith("predictor.")}
    assert_equal(model.q_net.state_dict(), {**other.q_net.state_dict(), **own_predictor})
    model.save(tmp_path / "predicting")
    unpredicting = make_model(ToyEnv(), policy_kwargs={"predictor": None}, seed=2)
    unpredicting.learn(1, callback=WarmStart(tmp_path / "predicting"))
    assert_act_alike(unpredicting, other)


def test_a_run_that_goes_on_keeps_its_weights(tmp_path: Path) -> None:
    save_trained(tmp_path / "other", ToyEnv())
    ends = []
    for callback in (None, WarmStart(tmp_path / "other")):
        model = make_model(ToyEnv(), seed=1)
        model.learn(200)
        model.learn(100, callback=callback, reset_num_timesteps=False)
        ends.append(model.q_net.state_dict())
    assert_equal(*ends)


@pytest.mark.parametrize("is_first", [True, False], ids=["before the checkpoints' callback", "after it"])
def test_a_run_that_is_resumed_ends_as_one_that_was_never_stopped(is_first: bool, tmp_path: Path) -> None:
    save_trained(tmp_path / "other", ToyEnv())

    def run(folder: str, budgets: list[int]) -> dict[str, th.Tensor]:
        for n_steps in budgets:
            model = make_model(ToyEnv(), seed=1, learning_starts=20, exploration_steps=50)
            saving = RunCheckpointCallback(tmp_path / folder, save_freq=50, resume=True, verbose=0)
            callbacks: list[BaseCallback] = [WarmStart(tmp_path / "other"), saving]
            model.learn(n_steps, callback=callbacks if is_first else callbacks[::-1])
        return model.q_net.state_dict()

    assert_equal(run("parts", [100, 200]), run("whole", [200]))


def test_the_zoo_makes_it_from_a_config(tmp_path: Path) -> None:
    other = save_trained(tmp_path / "other.zip", ToyEnv())
    callbacks = get_callback_list({"callback": [{"drqn_sb3.WarmStart": {"path": str(tmp_path / "other.zip"), "verbose": 1}}]})
    model = make_model(ToyEnv(), seed=1)
    model.learn(1, callback=callbacks)
    assert_act_alike(model, other)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"policy_kwargs": {"hidden_size": 9}}, r"cell.layers.0.bias_hh: 36 here, 32 there; .* more"),
        ({"policy_kwargs": {"predictor": [7]}}, r"predictor.layers.0.bias: 7 here, 6 there"),
        ({"policy_kwargs": {"dueling": False}}, r"head.advantage.0.bias: none here, 3 there"),
        ({"env": ToyEnv(spaces.Box(-1.0, 1.0, (4,)))}, r"encoder.0.weight: 64x4 here, 64x3 there"),
        ({"env": ToyEnv(n_actions=4)}, r"head.advantage.0.bias: 4 here, 3 there"),
    ],
    ids=["cell", "predictor", "dueling", "observations", "actions"],
)
def test_another_network_is_refused_and_nothing_is_taken(kwargs: dict[str, Any], words: str, tmp_path: Path) -> None:
    save_trained(tmp_path / "other", ToyEnv())
    model = make_model(**{"env": ToyEnv(), **kwargs}, seed=1)
    before = {name: weights.clone() for name, weights in model.q_net.state_dict().items()}
    with pytest.raises(ValueError, match=r"other must hold a network like the policy's.*" + words):
        model.learn(1, callback=WarmStart(tmp_path / "other"))
    assert_equal(model.q_net.state_dict(), before)


def test_a_dict_without_that_observation_is_refused(tmp_path: Path) -> None:
    save_trained(tmp_path / "other", ToyEnv())
    model = make_model(ToyEnv(SPACES["dict"]), "MultiInputLstmPolicy", policy_kwargs={"predictor": None})
    with pytest.raises(ValueError, match=r"features_extractor.extractors.image.convolutions.0.bias: 32 here, none there"):
        model.learn(1, callback=WarmStart(tmp_path / "other"))


def test_other_files_and_algorithms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        WarmStart(tmp_path / "absent.zip")
    dqn = DQN("MlpPolicy", ToyEnv())
    dqn.save(tmp_path / "dqn")
    with pytest.raises(ValueError, match="holds a model of DQN"):
        WarmStart(tmp_path / "dqn")
    (tmp_path / "text.zip").write_text("no model")
    with pytest.raises(ValueError, match="no saved model"):
        WarmStart(tmp_path / "text.zip")
    save_trained(tmp_path / "other", ToyEnv())
    with pytest.raises(TypeError, match="WarmStart is for DRQN, got DQN"):
        dqn.learn(1, callback=WarmStart(tmp_path / "other"))
