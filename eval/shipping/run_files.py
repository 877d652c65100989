"""The files that the zoo keeps beside a model, without places of this machine and without what needs this harness."""

import base64
import binascii
import json
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from eval.evaluation.models import read_zoo_yaml
from eval.provenance import ROOT, without_places

STATISTICS = "vecnormalize.pkl"
TEXTS = ("config.yml", "args.yml", "env_kwargs.yml")
_OF_TRAINING = ("callback", "resume")
"""Hyperparameters that say how a run is watched and gone on with. The harness' own callbacks can't be had elsewhere."""


def copy_run_files(source: Path, target: Path) -> None:
    """
    Copy what playing needs of a run's parameters.

    :param source: the folder with the run's ``args.yml``
    :param target: the folder to make
    :raises ValueError: if a file can't be read
    """
    target.mkdir(parents=True)
    for name in TEXTS:
        if (source / name).exists():
            content = without_places(_without_training(read_zoo_yaml(source / name)))
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
    pickled in them.

    :param folder: what is to be shipped
    :param private: folders whose names are nobody's business, beside the checkout, the interpreter's and the user's
    :raises ValueError: if something does
    """
    places = {str(path.resolve()) for path in (ROOT, Path.home(), Path(sys.prefix), *private)} - {"/"}
    found = [
        f"{name} names {place}" for name, content in _contents(folder) for place in sorted(places) if _names(content, place)
    ]
    host = platform.node()
    if len(host) > 3 and host != "localhost":
        word = re.compile(rb"(?<![\w.-])" + re.escape(host.encode()) + rb"(?![\w-])")
        is_text = (".yml", ".json", ".md")
        found += [
            f"{name} names {host}" for name, content in _contents(folder) if name.endswith(is_text) and word.search(content)
        ]
    if found:
        raise ValueError(
            f"what is shipped must name no place of this machine: {'; '.join(found)}. Change that in the training"
        )


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
    """Decode what SB3 has pickled into a model's attributes, without loading any of it."""
    parts = []
    for value in json.loads(data).values():
        if isinstance(value, dict) and isinstance(value.get(":serialized:"), str):
            try:
                parts.append(base64.b64decode(value[":serialized:"]))
            except binascii.Error:
                continue
    return b"\n".join(parts)
