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
from stable_baselines3.common.torch_layers import CombinedExtractor
from toy_env import POLICIES, SPACES, ToyEnv

from drqn_sb3 import DRQN, LastAction, RunCheckpointCallback, WarmStart
from drqn_sb3.warm_start import take_weights

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


def assert_plays_alike(model: DRQN, other: DRQN, n_steps: int = 6) -> None:
    """See whether all networks of a model make of observations what another one plays with, whatever else they are told."""
    space = model.observation_space
    space.seed(1)
    networks = [network for network in (model.q_net, model.q_net_target, model.policy.q_net_ema) if network is not None]
    states = [network.zero_states(1) for network in [other.policy.predicting_net, *networks]]
    starts = th.zeros(1, dtype=th.bool)
    for _ in range(n_steps):
        obs = space.sample()
        bare = obs["observation"] if isinstance(obs, dict) and not isinstance(other.observation_space, spaces.Dict) else obs
        expected, states[0] = other.policy.predicting_net(other.policy.obs_to_tensor(bare)[0], states[0], starts)
        for index, network in enumerate(networks, 1):
            q_values, states[index] = network(model.policy.obs_to_tensor(obs)[0], states[index], starts)
            th.testing.assert_close(q_values, expected, rtol=0, atol=1e-6)
            assert expected.std() > 0


def assert_equal(weights: dict[str, th.Tensor], expected: dict[str, th.Tensor]) -> None:
    assert weights.keys() == expected.keys()
    assert [name for name in weights if not th.equal(weights[name], expected[name])] == []


@pytest.mark.parametrize("encoder", [[5], []], ids=["encoder", "no encoder"])
@pytest.mark.parametrize("kind", ["vector", "discrete", "image, channels first", "image, channels last"])
@pytest.mark.parametrize("wrapper", [LastAction, Named])
def test_an_agent_that_is_told_more_begins_by_acting_as_the_other(
    wrapper: Any, kind: str, encoder: list[int], tmp_path: Path
) -> None:
    predictor = None if kind == "discrete" else [6]
    kwargs = {"policy_kwargs": {"net_arch": {"encoder": encoder, "head": [7]}, "predictor": predictor, "ema_decay": 0.5}}
    other = save_trained(tmp_path / "other", ToyEnv(SPACES[kind]), POLICIES.get(kind, "MlpLstmPolicy"), **kwargs)
    model = make_model(wrapper(ToyEnv(SPACES[kind])), "MultiInputLstmPolicy", **kwargs, seed=1)
    model.learn(1, callback=WarmStart(tmp_path / "other"))
    assert_plays_alike(model, other)
    average = other.policy.predicting_net.state_dict()
    taken = model.q_net.state_dict()
    names = [name for name in average if name.startswith("predictor.")]
    assert len(names) == {"discrete": 0, "vector": 4}.get(kind, 7)
    assert [name for name in names if not th.equal(taken[name], average[name])] == []


@pytest.mark.parametrize("kind", ["vector", "image, channels first"])
@pytest.mark.parametrize("wrapper", [None, LastAction], ids=["bare", "a dict"])
def test_an_agent_that_observes_the_same_begins_by_acting_as_the_other(wrapper: Any, kind: str, tmp_path: Path) -> None:
    def env() -> gym.Env:
        bare = ToyEnv(SPACES[kind])
        return bare if wrapper is None else wrapper(bare)

    policy = "MultiInputLstmPolicy" if wrapper is not None else POLICIES.get(kind, "MlpLstmPolicy")
    other = save_trained(tmp_path / "other", env(), policy)
    model = make_model(env(), policy, seed=1)
    model.learn(1, callback=WarmStart(tmp_path / "other"))
    assert_plays_alike(model, other)


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


def test_the_copies_in_bfloat16_follow(tmp_path: Path) -> None:
    other = save_trained(tmp_path / "other", ToyEnv())
    model = make_model(ToyEnv(), precision="bfloat16", seed=1, learning_starts=7, train_freq=8, target_update_interval=1_000)
    expected = other.q_net.state_dict()["encoder.0.weight"].bfloat16()
    model.learn(8, callback=WarmStart(tmp_path / "other"))
    assert model._n_updates == 1
    target = model._learner.target.network.state_dict()["encoder.0.weight"]
    assert target.dtype == th.bfloat16
    assert th.equal(target, expected)
    acting = model._learner.acting_network.state_dict()["encoder.0.weight"].float()
    assert 0 < (acting - expected.float()).abs().max() < 0.02, "one step of Adam, of 0.01 at most, away"


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
    assert_plays_alike(unpredicting, other)


def test_a_run_that_goes_on_keeps_its_weights(tmp_path: Path) -> None:
    save_trained(tmp_path / "other", ToyEnv())
    ends = []
    for callback in (None, WarmStart(tmp_path / "other")):
        model = make_model(ToyEnv(), seed=1)
        model.learn(200)
        model.learn(100, callback=callback, reset_num_timesteps=False)
        ends.append(model.q_net.state_dict())
    assert_equal(*ends)


def test_an_agent_that_is_loaded_keeps_its_weights_though_its_steps_are_counted_anew(tmp_path: Path) -> None:
    save_trained(tmp_path / "other", ToyEnv())
    model = save_trained(tmp_path / "own", ToyEnv(), seed=1)
    loaded = DRQN.load(tmp_path / "own", env=ToyEnv())
    loaded.learn(1, callback=WarmStart(tmp_path / "other"))
    assert_equal(loaded.q_net.state_dict(), model.q_net.state_dict())


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


def test_a_run_that_is_resumed_does_without_the_file(tmp_path: Path) -> None:
    save_trained(tmp_path / "other.zip", ToyEnv())
    for n_steps in (100, 200):
        model = make_model(ToyEnv(), seed=1, exploration_steps=50)
        saving = RunCheckpointCallback(tmp_path / "run", save_freq=50, resume=True, verbose=0)
        model.learn(n_steps, callback=[saving, WarmStart(tmp_path / "other.zip")])
        (tmp_path / "other.zip").unlink(missing_ok=True)
    assert model.num_timesteps == 200


def test_nothing_that_is_drawn_later_changes(tmp_path: Path) -> None:
    save_trained(tmp_path / "other", ToyEnv())
    drawn = []
    for take in (False, True):
        model = make_model(ToyEnv(), seed=1)
        if take:
            take_weights(model.policy, tmp_path / "other")
        drawn.append((th.rand(3).tolist(), np.random.random(3).tolist()))
    assert drawn[0] == drawn[1]


def test_the_zoo_makes_it_from_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = save_trained(tmp_path / "other.zip", ToyEnv())
    callbacks = get_callback_list({"callback": [{"drqn_sb3.WarmStart": {"path": str(tmp_path / "other.zip"), "verbose": 1}}]})
    model = make_model(ToyEnv(), seed=1)
    model.learn(1, callback=callbacks)
    assert_plays_alike(model, other)
    assert capsys.readouterr().out == f"Begins with the weights of {tmp_path / 'other.zip'}\n"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "cell": ({"policy_kwargs": {"hidden_size": 9}}, r"cell.layers.0.bias_hh: 36 here, 32 there; .* and 3 more$"),
    "predictor": ({"policy_kwargs": {"predictor": [7]}}, r"predictor.layers.0.bias: 7 here, 6 there"),
    "dueling": ({"policy_kwargs": {"dueling": False}}, r"head.advantage.0.bias: none here, 3 there"),
    "activation": ({"policy_kwargs": {"activation_fn": th.nn.Tanh}}, r"activation_fn: .*Tanh.* here, .*ReLU.* there$"),
    "observations": (
        {"env": ToyEnv(spaces.Box(-1.0, 1.0, (4,)))},
        r" that observed Box\(-1.0, 1.0, \(4,\).* it observed Box\(-1.0, 1.0, \(3,\), float32\)$",
    ),
    "as many observations": (
        {"env": ToyEnv(spaces.Discrete(3)), "policy_kwargs": {"predictor": None}},
        r"observed Discrete\(3\)",
    ),
    "a dict without them": (
        {"env": ToyEnv(SPACES["dict"]), "policy": "MultiInputLstmPolicy", "policy_kwargs": {"predictor": None}},
        r"observed Dict\('image'",
    ),
    "a dict through another extractor": (
        {
            "env": LastAction(ToyEnv()),
            "policy": "MultiInputLstmPolicy",
            "policy_kwargs": {"features_extractor_class": CombinedExtractor},
        },
        r"MultiInputLstmPolicy with its own extractor",
    ),
    "actions": ({"env": ToyEnv(n_actions=4)}, r"the action space Discrete\(4\), its action space is Discrete\(3\)$"),
}


@pytest.mark.parametrize(("kwargs", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_another_agent_is_refused_and_nothing_is_taken(kwargs: dict[str, Any], words: str, tmp_path: Path) -> None:
    save_trained(tmp_path / "other", ToyEnv())
    model = make_model(**{"env": ToyEnv(), **kwargs}, seed=1)
    before = {name: weights.clone() for name, weights in model.policy.state_dict().items()}
    with pytest.raises(ValueError, match=r"other must hold an agent.*" + words):
        model.learn(1, callback=WarmStart(tmp_path / "other"))
    assert_equal(model.policy.state_dict(), before)


def test_pictures_that_are_standardised_are_others(tmp_path: Path) -> None:
    image = SPACES["image, channels first"]
    save_trained(tmp_path / "other", ToyEnv(image), "CnnLstmPolicy", policy_kwargs={"net_arch": []})
    standardized = {"net_arch": [], "features_extractor_kwargs": {"standardize": True}}
    model = make_model(LastAction(ToyEnv(image)), "MultiInputLstmPolicy", policy_kwargs=standardized)
    with pytest.raises(ValueError, match=r"which differ: standardize: True here, False there$"):
        model.learn(1, callback=WarmStart(tmp_path / "other"))


def test_other_files_and_algorithms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="path must be that of a saved model, got None"):
        WarmStart(None)  # type: ignore[arg-type]
    model, dqn = make_model(ToyEnv()), DQN("MlpPolicy", ToyEnv())
    with pytest.raises(FileNotFoundError, match="absent"):
        model.learn(1, callback=WarmStart(tmp_path / "absent.zip"))
    dqn.save(tmp_path / "dqn")
    with pytest.raises(ValueError, match="holds a model of DQN"):
        model.learn(1, callback=WarmStart(tmp_path / "dqn"))
    (tmp_path / "text.zip").write_text("no model")
    with pytest.raises(ValueError, match="no saved model"):
        model.learn(1, callback=WarmStart(tmp_path / "text.zip"))
    save_trained(tmp_path / "other", ToyEnv())
    with pytest.raises(TypeError, match="WarmStart is for DRQN, got DQN"):
        dqn.learn(1, callback=WarmStart(tmp_path / "other"))
