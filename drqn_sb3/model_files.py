"""Checks of a file that a model is to be loaded from: whose it is, whether it is whole, and which version wrote it."""

import io
import json
import pathlib
import re
import warnings
import zipfile
from collections.abc import Collection
from typing import Any

from stable_baselines3.common.save_util import open_path

from drqn_sb3.version import __version__

VERSION_KEY = "drqn_sb3_version"
"""The attribute of a model, saved with it, that tells which version of this package wrote it."""
SET_UP_ATTRIBUTES = frozenset(
    {
        *("action_space", "observation_space", "n_envs", "lr_schedule", "exploration_schedule"),
        *("batch_norm_stats", "batch_norm_stats_target", VERSION_KEY),
    }
)
"""What a model that is set up is saved with, beyond the attributes that its constructor gives it."""


def read_model_data(path: str | pathlib.Path | io.BufferedIOBase) -> dict[str, Any]:
    """
    Read what a saved model says about itself, without executing any of it. A stream is left where it was.

    :param path: a file, its ending ``.zip`` given or not, or a stream
    :return: attributes by name; those that are no JSON are described by dicts
    :raises ValueError: if it is damaged, or no DRQN model: a run checkpoint, another algorithm's, or something else
    """
    file = open_path(path, "r", suffix="zip")
    is_stream = file is path
    start = file.tell()
    data, damaged = None, None
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
            if "data" in names and damaged is None:
                data = json.loads(archive.read("data"))
    except OSError:
        raise
    except Exception as error:  # there is no telling what a damaged archive raises
        raise ValueError(
            f"{path} is no saved model, or a damaged one, or the part of one that an interruption has left: {error}"
        ) from error
    finally:
        if is_stream:
            file.seek(start)
        else:
            file.close()
    if damaged is not None:
        raise ValueError(f"{path} is damaged: the checksum of its part {damaged!r} is wrong. Take another copy")
    if "manifest.json" in names and data is None:
        raise ValueError(
            f"{path} is a run checkpoint, not a model: resume it with RunCheckpointCallback, or with the zoo's --trained-agent"
        )
    if not isinstance(data, dict) or "policy.pth" not in names:
        raise ValueError(f"{path} is no saved model, or a damaged one: it holds {names[:8]}")
    if "sequence_length" not in data or "initial_state" not in data:
        raise ValueError(f"{path} holds a model of {_guess_algorithm(data)}, not of DRQN: load it with that class")
    return data


def check_version(data: dict[str, Any], known: Collection[str], path: Any) -> list[str]:
    """
    Warn of a model that a newer version has written.

    :param data: what the model says about itself
    :param known: names of the attributes that models of this version have
    :param path: where it was
    :return: names of attributes that a newer version has written and this one does not know; they are not to be taken over
    """
    saved = data.get(VERSION_KEY)
    if saved is None or _minor(saved) <= _minor(__version__):
        return []
    unknown = sorted(set(data) - set(known) - SET_UP_ATTRIBUTES)
    ignored = f"; what this version does not know is left out: {', '.join(unknown)}" if unknown else ""
    warnings.warn(
        f"{path} was saved by drqn_sb3 {saved}, this is {__version__}: it may act or learn otherwise than there{ignored}",
        stacklevel=3,
    )
    return unknown


def _minor(version: Any) -> tuple[float, ...]:
    """Major and minor number; what can't be read counts as newer than anything."""
    match = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return tuple(int(number) for number in match.groups()) if match else (float("inf"),)


def _guess_algorithm(data: dict[str, Any]) -> str:
    """Name the algorithm that wrote a model: it does not say so itself."""
    policy = data.get("policy_class")
    module = str(policy.get("__module__", "")) if isinstance(policy, dict) else ""
    package = module.split(".")[-2:-1]
    if "recurrent" in package:
        return "RecurrentPPO"
    if module.startswith(("stable_baselines3.", "sb3_contrib.")) and package != ["common"]:
        return package[0].upper()
    signs = {"clip_range": "PPO", "cg_max_steps": "TRPO", "gae_lambda": "A2C", "exploration_fraction": "DQN"}
    return next((f"{name}, as it seems" for sign, name in signs.items() if sign in data), "another algorithm")
