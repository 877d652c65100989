"""
A model's zip, as SB3 writes it, without what only its training needed: about a quarter as large for a DQN or DRQN, a fifth
for a DRQN that averages its weights.
"""

import io
import json
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch as th

LEFT_BEHIND = (
    *("_last_obs", "_last_original_obs", "_last_episode_starts", "ep_info_buffer", "ep_success_buffer"),
    *("start_time", "tensorboard_log"),
)
"""Attributes of the moment at which training ended, and of where it was; a loaded model has its constructor's."""
_MACHINE = "system_info.txt"
"""A member that says which machine the agent was trained on. SB3 reads it to print it, and has no need of it."""
_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, EOFError, RuntimeError),
    *(ValueError, KeyError, AttributeError, TypeError),
)
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_TARGET, _AVERAGE = "_target.", "_ema."


def strip_model(source: Path, target: Path) -> None:
    """
    Write a model anew that acts as before, and can be trained on: by a fresh optimiser, the target networks set to the online
    ones, and both to their average where there is one, which is what acts. Nothing that is pickled in it is run. The same
    model gives the same bytes.

    :param source: the model's zip
    :param target: the zip to write
    :raises ValueError: if it is no model of SB3
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = {name: archive.read(name) for name in archive.namelist() if name != _MACHINE}
        small = {name: _stripped(name, content) for name, content in members.items()}
    except _DAMAGES as error:
        # PyTorch's further lines advise to run what is pickled
        told = str(error).partition("\n")[0]
        raise ValueError(f"{source} is no model of Stable-Baselines3, or damaged: {told}") from error
    if "data" not in small or "policy.pth" not in small:
        raise ValueError(
            f"{source} must be a model of Stable-Baselines3, got a zip of {', '.join(sorted(small)) or 'nothing'}"
        )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in small.items():
            info = zipfile.ZipInfo(name, _EARLIEST)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)


def _stripped(name: str, content: bytes) -> bytes:
    if name == "data":
        attributes = json.loads(content)
        if not isinstance(attributes, dict):
            raise ValueError(f"its attributes must be a dict, got {type(attributes).__name__}")
        return json.dumps({key: value for key, value in attributes.items() if key not in LEFT_BEHIND}, indent=4).encode()
    if name.endswith("optimizer.pth"):
        # As SB3's own loading of an optimiser has it: no state at all is that before the first step
        return _saved({**_loaded(content), "state": {}})
    return _saved(_with_shared_copies(_loaded(content))) if name == "policy.pth" else content


def _with_shared_copies(weights: dict[str, Any]) -> dict[str, Any]:
    """Put the very tensors of what acts in the place of the other networks': storage that is shared is written once."""
    averages = {key.replace(_AVERAGE, ".", 1): key for key in weights if _AVERAGE in key}
    for key in weights:
        online = key.replace(_TARGET, ".", 1)
        acting = weights.get(averages.get(online, online))
        if acting is not None and acting.shape == weights[key].shape:
            weights[key] = acting
    return weights


def _loaded(content: bytes) -> dict[str, Any]:
    found = th.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(found, dict):
        raise ValueError(f"its weights must be a dict, got {type(found).__name__}")
    return found


def _saved(weights: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    th.save(weights, file)
    return file.getvalue()
