"""Learning that begins with the weights of another agent."""

import pathlib
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.save_util import load_from_zip_file

from drqn_sb3.extractors import CombinedConvolutions
from drqn_sb3.last_action import OBSERVATION
from drqn_sb3.model_files import read_model_data
from drqn_sb3.networks import RecurrentQNetwork
from drqn_sb3.policies import DRQNPolicy

_CONVOLUTIONS = "features_extractor.convolutions."
_PREDICTOR = "predictor."
_MOST_NAMED = 4  # weights in an error


class WarmStart(BaseCallback):
    """
    Have a DRQN begin with the weights of another one: of an agent that saw everything, say, for one that is to see half of it.

    All networks take the weights that the other agent plays with: the average of its weights, if it has one. What it observed
    has to be what this one observes, or the ``"observation"`` of a dict in which vectors or discrete values are told beside it
    (:class:`~drqn_sb3.last_action.LastAction`). Weights for what is added are zero at first, so that the agent acts as the
    other did. A predictor that only one of them has is left as it is. Statistics of ``VecNormalize`` are not taken over.

    Optimiser and replay buffer begin anew, and so does exploration. An agent that is not to forget what it can do among random
    actions needs a small ``exploration_initial_eps``, and few ``learning_starts``: those steps are all random. ``memory_span``
    has no effect, as it sets initial weights.

    A model that has learned already keeps its weights: one that is loaded, or a run that is resumed, in which case
    :class:`~drqn_sb3.checkpoints.RunCheckpointCallback` belongs before this callback. The steps that the other agent has
    learned for are not counted: tell of them where results are compared.

    In a zoo config::

        callback:
          - drqn_sb3.RunCheckpointCallback
          - drqn_sb3.WarmStart:
              path: agents/drqn/SlimeVolleyNoFrameskip-v0_1/SlimeVolleyNoFrameskip-v0.zip

    :param path: of a model that ``DRQN.save()`` or the zoo has written. Loading runs what is in it: load only what you trust
    :param verbose: 1 to tell when weights were taken
    :raises TypeError: if the path is something else; when training begins, if the algorithm is not DRQN
    :raises FileNotFoundError: when training begins, if there is no such file
    :raises ValueError: when training begins, if it is damaged, or holds no DRQN model, or if agents and observations are not
        alike
    """

    def __init__(self, path: str | pathlib.Path, verbose: int = 0) -> None:
        super().__init__(verbose)
        if not isinstance(path, str | pathlib.Path):
            raise TypeError(f"path must be that of a saved model, got {path!r}")
        self.path = pathlib.Path(path).expanduser()

    def _on_training_start(self) -> None:
        policy = self.model.policy
        if not isinstance(policy, DRQNPolicy):
            raise TypeError(f"WarmStart is for DRQN, got {type(self.model).__name__}")
        if self.num_timesteps > 0 or self.model._n_updates > 0:
            return
        take_weights(policy, self.path)
        if self.verbose >= 1:
            print(f"Begins with the weights of {self.path}")

    def _on_step(self) -> bool:
        return True


def take_weights(policy: DRQNPolicy, path: str | pathlib.Path) -> None:
    """
    Give a policy's networks the weights that a saved agent plays with, see :class:`WarmStart`.

    :param policy: the policy
    :param path: of the saved model
    :raises FileNotFoundError: if there is no such file
    :raises ValueError: if it holds no DRQN model, or agents and observations are not alike; then nothing is changed
    """
    other = _load_policy(path)
    is_told_more = _check_spaces(policy, other, path)
    ours, theirs = policy.q_net.state_dict(), other.predicting_net.state_dict()
    if is_told_more:
        theirs = _as_part_of_dict(theirs, policy.q_net)
    if not (_has_predictor(ours) and _has_predictor(theirs)):
        theirs = {name: weights for name, weights in theirs.items() if not name.startswith(_PREDICTOR)}
        expected = {name for name in ours if not name.startswith(_PREDICTOR)}
    else:
        expected = set(ours)
    wrong = [
        f"{name}: {_shape(ours, name)} here, {_shape(theirs, name)} there"
        for name in sorted(expected | set(theirs))
        if _shape(ours, name) != _shape(theirs, name)
    ]
    wrong += [
        f"{name}: {here!r} here, {there!r} there"
        for (name, here), there in zip(_settings(policy).items(), _settings(other).values(), strict=True)
        if here != there and not (is_told_more and name == "features_extractor_class")
    ]
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise ValueError(
            f"{path} must hold an agent whose policy_kwargs are those of this one, which differ: "
            f"{'; '.join(wrong[:_MOST_NAMED])}{more}"
        )
    for network in (policy.q_net, policy.q_net_target, policy.q_net_ema):
        if network is not None:
            network.load_state_dict({**ours, **theirs})


def _load_policy(path: str | pathlib.Path) -> DRQNPolicy:
    """The policy of a saved model, on the processor."""
    read_model_data(path)
    data, parameters, _ = load_from_zip_file(path, device="cpu")
    assert data is not None
    with th.random.fork_rng(devices=[]):  # initial weights, which are not to change what is drawn after them
        policy = data["policy_class"](data["observation_space"], data["action_space"], lambda _: 0.0, **data["policy_kwargs"])
    policy.load_state_dict(parameters["policy"])
    assert isinstance(policy, DRQNPolicy)
    return policy


def _check_spaces(policy: DRQNPolicy, other: DRQNPolicy, path: str | pathlib.Path) -> bool:
    """Whether the one agent is told more than the other was."""
    if policy.action_space != other.action_space:
        raise ValueError(
            f"{path} must hold an agent with the action space {policy.action_space}, its action space is {other.action_space}"
        )
    here, there = policy.observation_space, other.observation_space
    if here == there:
        return False
    is_part = isinstance(here, spaces.Dict) and here.spaces.get(OBSERVATION) == there
    if not is_part or type(policy.q_net.features_extractor) is not CombinedConvolutions:
        raise ValueError(
            f"{path} must hold an agent that observed {here}, or what is there the entry {OBSERVATION!r}, for "
            f"MultiInputLstmPolicy with its own extractor; it observed {there}"
        )
    return True


def _as_part_of_dict(weights: dict[str, th.Tensor], network: RecurrentQNetwork) -> dict[str, th.Tensor]:
    """Weights as a network has them that observes a dict, in which everything beside the observation counts for nothing."""
    convolutions = f"features_extractor.extractors.{OBSERVATION}.convolutions."
    weights = {name.replace(_CONVOLUTIONS, convolutions, 1): value for name, value in weights.items()}
    first = next(name for name in ("encoder.0.weight", "cell.layers.0.weight_ih") if name in weights)
    before, size, total = _place_of_observation(network)
    if weights[first].shape[1] == size:
        widened = th.zeros(len(weights[first]), total)
        widened[:, before : before + size] = weights[first]
        weights[first] = widened
    return weights


def _place_of_observation(network: RecurrentQNetwork) -> tuple[int, int, int]:
    """How many of a dict's features are before the observation's, how many these are, and how many there are in all."""
    extractor, space = network.features_extractor, network.observation_space
    assert isinstance(extractor, CombinedConvolutions) and isinstance(space, spaces.Dict)
    images = dict(extractor.extractors.items())
    sizes = [int(images[key].features_dim) if key in images else get_flattened_obs_dim(space[key]) for key in extractor.keys]  # type: ignore[arg-type]
    index = extractor.keys.index(OBSERVATION)
    return sum(sizes[:index]), sizes[index], sum(sizes)


def _settings(policy: DRQNPolicy) -> dict[str, Any]:
    """What of a policy its weights do not tell."""
    return {
        "activation_fn": policy.activation_fn,
        "features_extractor_class": policy.features_extractor_class,
        "normalize_images": policy.normalize_images,
        "recurrent_cell": type(policy.q_net.cell),
        "standardize": bool(policy.features_extractor_kwargs.get("standardize", False)),
    }


def _has_predictor(weights: dict[str, th.Tensor]) -> bool:
    return any(name.startswith(_PREDICTOR) for name in weights)


def _shape(weights: dict[str, th.Tensor], name: str) -> str:
    return "x".join(map(str, weights[name].shape)) or "one number" if name in weights else "none"
