"""The files that the zoo keeps beside a model, without places of this machine and without what needs this harness."""

import base64
import binascii
import json
import pickletools
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from eval.evaluation.models import read_zoo_yaml
from eval.provenance import ROOT, without_places

STATISTICS = "vecnormalize.pkl"
TEXTS = ("config.yml", "args.yml", "env_kwargs.yml")
_WITH_TEXT = (".yml", ".json", ".md", ".txt", ".csv", "/data")
"""Ends of the names of files, and of members of zips, in which the machine's name would be that and no chance."""
_OF_THE_SYSTEM = {"/", "/usr", "/usr/local", "/opt", "/var", "/tmp", "/home", "/mnt"}
_OF_TRAINING = ("callback", "resume")
"""
Hyperparameters that say how a run is made and gone on with, which no game needs. Callbacks that teach are on the card, and the
harness' own can't be had elsewhere.
"""


def copy_run_files(source: Path, target: Path) -> None:
    """
    Copy what playing needs of a run's parameters. ``n_timesteps`` becomes the budget that the run had, where the command line
    gave one.

    :param source: the folder with the run's ``args.yml``
    :param target: the folder to make
    :raises ValueError: if a file can't be read
    """
    target.mkdir(parents=True)
    texts = {name: read_zoo_yaml(source / name) for name in TEXTS if (source / name).exists()}
    budget = texts.get("args.yml", {}).get("n_timesteps", -1)
    if "config.yml" in texts and budget > 0:
        texts["config.yml"]["n_timesteps"] = budget
    for name, text in texts.items():
        content = without_places(_without_training(text))
        (target / name).write_bytes(yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
    if (source / STATISTICS).exists():
        shutil.copyfile(source / STATISTICS, target / STATISTICS)


def _without_training(content: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in content.items() if name not in _OF_TRAINING}
    if isinstance(kept.get("hyperparams"), dict):  # those of the command line
        kept["hyperparams"] = {name: value for name, value in kept["hyperparams"].items() if name not in _OF_TRAINING}
    return kept


def check_no_places(folder: Path, *private: Path) -> None:
    """
    Make sure that nothing says where on this machine things lie, and which machine it is. Looks into zips, and into what is
    pickled in them; prefixes of the system itself, such as ``/usr``, are no places.

    :param folder: what is to be shipped
    :param private: folders whose names are nobody's business, beside the checkout, the interpreter's and the user's
    :raises ValueError: if something does
    """
    contents, host = list(_contents(folder)), platform.node()
    found = [f"{name} names {place}" for name, content in contents for place in _places(private) if _names(content, place)]
    if len(host) > 3 and host != "localhost":
        word = re.compile(rb"(?<![\w.-])" + re.escape(host.encode()) + rb"(?![\w-])")
        found += [f"{name} names {host}" for name, content in contents if name.endswith(_WITH_TEXT) and word.search(content)]
    if found:
        raise ValueError(
            f"what is shipped must name no place of this machine: {'; '.join(found)}. Change that in the training"
        )


def _places(private: Sequence[Path]) -> list[str]:
    """Private folders as they are named, and as they are once links are followed."""
    checkout = Path(__file__).absolute().parents[2]
    folders = (ROOT, checkout, Path.home(), Path(sys.prefix), *private)
    return sorted({str(name) for folder in folders for name in (folder.absolute(), folder.resolve())} - _OF_THE_SYSTEM)


def _names(content: bytes, place: str) -> bool:
    return re.search(re.escape(place.encode()) + rb"(?![\w.-])", content) is not None


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    content = archive.read(member)
                    yield f"{path.name}/{member}", content + (_unpacked(content) if member == "data" else b"")
        elif path.is_file():
            yield path.name, path.read_bytes()


def _unpacked(data: bytes) -> bytes:
    """Decode what SB3 has pickled into a model's attributes, and the texts in it, without loading any of it."""
    parts = []
    for value in json.loads(data).values():
        if isinstance(value, dict) and isinstance(value.get(":serialized:"), str):
            try:
                pickled = base64.b64decode(value[":serialized:"])
            except binascii.Error:
                continue
            parts += [pickled, *_texts(pickled)]
    return b"\n".join(parts)


def _texts(pickled: bytes) -> list[bytes]:
    """As far as it is a pickle: texts apart from what tells their lengths, which may look like a letter before them."""
    texts = []
    try:
        for _, argument, _ in pickletools.genops(pickled):
            if isinstance(argument, str):
                texts.append(argument.encode(errors="replace"))
    except ValueError:  # the end of what can be read
        pass
    return texts
