"""Learning that begins with the weights of another agent."""

import io
import pathlib
import zipfile

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.save_util import open_path

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
    Have a DRQN begin with the weights of another one, such as of an agent that sees everything, where it is to learn to see
    half of it.

    All networks take the weights that the other agent plays with: the average of its weights, if it has one. What it observes
    has to be what this one does, or what is there the ``"observation"`` in a dict, beside which more is told
    (:class:`~drqn_sb3.last_action.LastAction`): the weights for what is added are zero at first, so that it acts as the other
    would. A predictor that only one of them has is left as it is. Exploration, optimiser and replay buffer begin anew; set
    ``exploration_initial_eps`` for an agent that is not to forget what it can do among random actions, and leave out
    ``memory_span``, which is of initial weights.

    A run that is resumed goes on with its own weights. The steps that the other agent has learned for are not counted: say so
    where results are compared.

    In a zoo config::

        callback:
          - drqn_sb3.WarmStart:
              path: agents/drqn/SlimeVolleyNoFrameskip-v0_1/SlimeVolleyNoFrameskip-v0.zip

    :param path: of a model that ``DRQN.save()`` or the zoo has written. Nothing in it is executed
    :param verbose: 1 to tell what was taken
    :raises FileNotFoundError: if there is none
    :raises ValueError: if it is damaged, or no DRQN model; when training begins, if the networks are not alike
    :raises TypeError: when training begins, if the algorithm is not DRQN
    """

    def __init__(self, path: str | pathlib.Path, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.path = path
        read_model_data(path)

    def _on_training_start(self) -> None:
        policy = self.model.policy
        if not isinstance(policy, DRQNPolicy):
            raise TypeError(f"WarmStart is for DRQN, got {type(self.model).__name__}")
        if self.num_timesteps > 0:
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
    :raises ValueError: if its network is another one, of which nothing is taken then
    """
    ours = policy.q_net.state_dict()
    theirs = {_name_here(name, ours): weights for name, weights in _playing_weights(path).items()}
    has_predictors = [any(name.startswith(_PREDICTOR) for name in names) for names in (ours, theirs)]
    if not all(has_predictors):
        theirs = {name: weights for name, weights in theirs.items() if not name.startswith(_PREDICTOR)}
    _widen_first_layer(theirs, policy.q_net)
    expected = {name for name in ours if all(has_predictors) or not name.startswith(_PREDICTOR)}
    wrong = [
        f"{name}: {_shape(ours, name)} here, {_shape(theirs, name)} there"
        for name in sorted(expected | set(theirs))
        if _shape(ours, name) != _shape(theirs, name)
    ]
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise ValueError(
            f"{path} must hold a network like the policy's, with the same policy_kwargs and observations; these weights "
            f"differ: {'; '.join(wrong[:_MOST_NAMED])}{more}"
        )
    for network in (policy.q_net, policy.q_net_target, policy.q_net_ema):
        if network is not None:
            network.load_state_dict({**ours, **theirs})


def _playing_weights(path: str | pathlib.Path) -> dict[str, th.Tensor]:
    """Of the network that a saved agent's ``predict()`` asks, on the processor."""
    with open_path(path, "r", suffix="zip") as file, zipfile.ZipFile(file) as archive:
        weights = th.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu", weights_only=True)
    network = "q_net_ema." if any(name.startswith("q_net_ema.") for name in weights) else "q_net."
    return {name.removeprefix(network): value for name, value in weights.items() if name.startswith(network)}


def _name_here(name: str, ours: dict[str, th.Tensor]) -> str:
    """What a weight is called where its image is a part of a dict."""
    renamed = name.replace(_CONVOLUTIONS, f"features_extractor.extractors.{OBSERVATION}.convolutions.", 1)
    return renamed if name not in ours and renamed in ours else name


def _widen_first_layer(theirs: dict[str, th.Tensor], network: RecurrentQNetwork) -> None:
    """Have the layer behind the features take those of a dict, of which all but the observation's count as nothing."""
    name = next((name for name in ("encoder.0.weight", "cell.layers.0.weight_ih") if name in network.state_dict()), "")
    place = _place_of_observation(network)
    if place is None or name not in theirs or theirs[name].shape[1] != place.stop - place.start:
        return
    widened = th.zeros(len(theirs[name]), network.features_extractor.features_dim)
    widened[:, place] = theirs[name]
    theirs[name] = widened


def _place_of_observation(network: RecurrentQNetwork) -> slice | None:
    """Which of a dict's features are its observation's; ``None`` where there is no such dict."""
    extractor = network.features_extractor
    if not isinstance(extractor, CombinedConvolutions) or OBSERVATION not in extractor.keys:
        return None
    begin = 0
    for key in extractor.keys:
        if key in extractor.extractors:
            size = int(extractor.extractors[key].features_dim)  # type: ignore[arg-type]
        else:
            size = get_flattened_obs_dim(network.observation_space[key])  # type: ignore[index]
        if key == OBSERVATION:
            return slice(begin, begin + size)
        begin += size
    return None


def _shape(weights: dict[str, th.Tensor], name: str) -> str:
    return "x".join(map(str, weights[name].shape)) or "one number" if name in weights else "none"
