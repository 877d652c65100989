"""Where a result comes from: the code, the libraries, the machine and the command."""

import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eval.conditions import as_list, class_name
from eval.machine import describe_machine

_DIVISION = r"(?!\d+(?:\.\d*)?(?:[\s,)}\]]|$))"
_PLACE = re.compile(
    rf"""(?:^|(?<=[\s'"=:,({{\[]))(?:~[^\s/]*/|(?:\.\./)+|/+(?=[^\s'"=:,(){{}}\[\]/]){_DIVISION})"""
    r"""(?:[^\s'"=:,(){}\[\]/]*/)*([^\s'"=:,(){}\[\]/]*)"""
)
"""A path from the root, from a home or upwards; not a slash between two numbers."""
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("drqn_sb3", "torch", "stable_baselines3", "sb3_contrib", "rl_zoo3", "gymnasium", "ale_py", "slimevolleygym"),
    *("numpy", "pandas", "rliable", "arch"),
)


def provenance(command: Sequence[str], device: Any = None) -> dict[str, Any]:
    """
    :param command: the words of the command that led to the result, without the interpreter
    :param device: PyTorch's, that agents are on; None where there is none
    :return: ``command``, ``versions``, ``git`` (None outside a checkout) and ``machine``, as a result's facts have them
    """
    machine = {**describe_machine(), "device": describe_device(device)}
    return {
        "command": shlex.join(map(without_places, command)),
        "versions": versions(),
        "git": git_state(),
        "machine": machine,
    }


def describe_device(device: Any) -> str | None:
    """
    :param device: PyTorch's, or its name
    :return: ``"cpu"``, the GPU's name, or None
    """
    if device is None:
        return None
    import torch as th

    device = th.device(device)
    return th.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)


def without_places(value: Any) -> Any:
    """
    Leave out where things lie on this machine, which is nobody else's business.

    :param value: a text, or lists and dicts of these and other values
    :return: the same; of absolute paths, and of those that begin with ``~`` or ``..``, their last part is kept
    """
    if isinstance(value, str):
        return _PLACE.sub(r"\1", value)
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if isinstance(value, dict):
        return {name: without_places(item) for name, item in value.items()}
    return value


TEACHING = frozenset({"WarmStart", "FlickerCurriculum"})
"""Names of the callbacks by which an agent learns otherwise; all others are taken to watch a run."""


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param config: hyperparameters, as the zoo reads them
    :return: those that a result tells: without callbacks, but for :data:`TEACHING` ones
    """
    teaching = [callback for callback in as_list(config.get("callback")) if class_name(callback) in TEACHING]
    settings = {name: value for name, value in config.items() if name != "callback"}
    return settings | ({"callback": teaching} if teaching else {})


def versions() -> dict[str, str]:
    """
    :return: versions of the libraries that results depend on, as far as they are installed
    """
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    # The checkout's own: an installed one may be older
    text = (ROOT / "drqn_sb3" / "version.py").read_text(encoding="utf-8")
    found["drqn_sb3"] = re.findall(r'__version__ = "(.*)"', text)[0]
    return found


def git_state(folder: Path = ROOT) -> dict[str, Any] | None:
    """
    :param folder: of the checkout
    :return: ``commit`` and whether files that git tracks differ from it (``dirty``); None where there is no git or checkout
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return run.stdout.strip()
