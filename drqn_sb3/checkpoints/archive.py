"""
A checkpoint's file: a zip archive that any zip program opens, without anything in it that could be executed.

::

    manifest.json     format, versions, a summary, and the SHA-256 of each of the others
    state.json        plain data (see plain.py)
    arrays/0000.npy   the arrays in it

The archive's comment is the manifest's SHA-256.
"""

import errno
import hashlib
import io
import json
import math
import platform
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from drqn_sb3.checkpoints.files import DamagedFileError, atomic_file
from drqn_sb3.checkpoints.plain import PLAIN_DTYPES, pack, unpack
from drqn_sb3.version import __version__

FORMAT = 1
_PACKAGES = ("stable_baselines3", "torch", "numpy", "gymnasium", "ale_py", "slimevolleygym")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What comes of contents that nobody has written so. RuntimeError includes NotImplementedError and RecursionError
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, SyntaxError, EOFError, LookupError),
    *(ValueError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError),
)


def write_archive(path: Path, state: Any, summary: dict[str, Any]) -> None:
    """
    Write a checkpoint, as a whole or not at all.

    :param path: where to
    :param state: plain data
    :param summary: what can be read without reading all, as JSON has it
    :raises OSError: if it can't be written; of what was written nothing is left
    """
    structure, arrays = pack(state)
    sha256 = {}
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [("state.json", json.dumps(structure).encode()), *_array_files(arrays)]:
            sha256[name] = hashlib.sha256(content).hexdigest()
            archive.writestr(name, content)
        manifest = {"format": FORMAT, "versions": versions(), "summary": summary, "sha256": sha256}
        text = json.dumps(manifest, indent=1).encode()
        archive.writestr("manifest.json", text)
        archive.comment = hashlib.sha256(text).hexdigest().encode()


def read_summary(path: Path) -> dict[str, Any]:
    """
    Read a checkpoint's summary.

    :param path: the checkpoint
    :return: what was given to :func:`write_archive`
    :raises DamagedFileError: if it is none, or damaged
    :raises ValueError: if it is of another format
    :raises OSError: if the disk fails, which says nothing about the file
    """
    with _open(path) as archive:
        summary: dict[str, Any] = _read_manifest(archive, path)["summary"]
        return summary


def read_archive(path: Path) -> tuple[Any, dict[str, str]]:
    """
    Read a checkpoint. Whoever made it, arrays take no more memory than the file's size, and nothing in it is executed.

    :param path: the checkpoint
    :return: the state, and the versions of the libraries it was written with
    :raises DamagedFileError: if it is damaged
    :raises ValueError: if it is of another format
    :raises OSError: if the disk fails, which says nothing about the file
    """
    with _open(path) as archive:
        manifest = _read_manifest(archive, path)
        contents = {name: _read(archive, name, sha256, path) for name, sha256 in manifest["sha256"].items()}
    with _damage_named(path):
        structure = json.loads(contents.pop("state.json"))
        arrays = [_decode_array(name, contents[name]) for name in sorted(contents)]
        return unpack(structure, arrays), manifest["versions"]


def is_archive(path: Path) -> bool:
    """
    Tell a checkpoint from other files, such as a model's zip file.

    :param path: the file
    :return: whether it is a checkpoint, be it a damaged one
    :raises OSError: if it can't be read
    """
    if not path.is_file():
        return False
    try:
        with _open(path) as archive:
            return "manifest.json" in archive.namelist()
    except DamagedFileError:
        return False


def versions() -> dict[str, str]:
    """
    Versions of what a run depends on.

    :return: by name; what is not installed is left out
    """
    found = {"python": platform.python_version(), "drqn_sb3": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _array_files(arrays: list[np.ndarray]) -> Any:
    for index, array in enumerate(arrays):
        content = io.BytesIO()
        np.lib.format.write_array(content, array, allow_pickle=False)
        yield f"arrays/{index:06d}.npy", content.getbuffer()


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Make :class:`DamagedFileError` of what wrong contents lead to, but not of a disk that fails for a while."""
    try:
        yield
    except DamagedFileError:
        raise
    except OSError as error:
        # How a system answers when a broken table of contents has sent the reader to a place before the file's beginning
        if error.errno != errno.EINVAL:
            raise
        raise DamagedFileError(f"{path} is damaged: {error}") from error
    except _UNREADABLE as error:
        raise DamagedFileError(f"{path} is damaged: {str(error) or type(error).__name__}") from error


def _open(path: Path) -> zipfile.ZipFile:
    with _damage_named(path):
        try:
            archive = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise DamagedFileError(f"{path} is missing") from error
        except zipfile.BadZipFile as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None  # it was the disk, of which zipfile makes its own error
            raise DamagedFileError(f"{path} is damaged, or no checkpoint: {error}") from error
    n_bytes = sum(info.compress_size for info in archive.infolist())
    if n_bytes > path.stat().st_size:  # parts on top of one another: a small file that would fill the memory
        archive.close()
        raise DamagedFileError(f"{path} is damaged: it can't hold {n_bytes:,} bytes")
    return archive


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    text = _read(archive, "manifest.json", archive.comment.decode(errors="replace"), path)
    with _damage_named(path):
        manifest: dict[str, Any] = json.loads(text)
        _check_manifest(manifest)
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"{path} is a checkpoint of format {manifest['format']} (written by drqn_sb3 {manifest['versions']['drqn_sb3']}), "
            f"and this version, drqn_sb3 {__version__}, reads format {FORMAT}: resume it with that version"
        )
    return manifest


def _check_manifest(manifest: Any) -> None:
    """Refuse what nobody has written so. Another format has to have its number and who wrote it, the rest is its own."""
    _check_type(manifest, dict, "its manifest")
    _check_type(manifest.get("format"), int, "its format")
    _check_type(manifest.get("versions"), dict, "its versions")
    _check_type(manifest["versions"].get("drqn_sb3"), str, "its version of drqn_sb3")
    if manifest["format"] == FORMAT:
        _check_type(manifest.get("summary"), dict, "its summary")
        _check_type(manifest.get("sha256"), dict, "its SHA-256 sums")
        for name, text in (*manifest["versions"].items(), *manifest["sha256"].items()):
            _check_type(text, str, f"what its manifest says of {name}")


def _check_type(value: Any, kind: type, what: str) -> None:
    if type(value) is not kind:
        raise ValueError(f"{what} must be of type {kind.__name__}, got {type(value).__name__}")


def _read(archive: zipfile.ZipFile, name: str, sha256: str, path: Path) -> bytes:
    with _damage_named(path):
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"{name} was not written so")
        content = archive.read(info)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"the SHA-256 of {name} differs from when it was written")
    return content


def _decode_array(name: str, content: bytes) -> np.ndarray:
    """Make an array of a .npy file's content, having made sure that it is as long as its header says."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{name} must be of .npy version (1, 0) or (2, 0), got {version}")
    shape, is_fortran, dtype = _HEADERS[version](file)
    if dtype.kind not in PLAIN_DTYPES or not dtype.itemsize:
        raise ValueError(f"{name} must hold numbers or strings, got {dtype}")
    n_bytes, n_left = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if n_bytes != n_left or min(shape, default=0) < 0:
        raise ValueError(f"{name} must be {shape} {dtype}, {n_bytes:,} bytes, got {n_left:,}")
    view: np.ndarray = np.ndarray(shape, dtype, content, file.tell(), order="F" if is_fortran else "C")
    if dtype.kind == "b" and view.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"{name} must be true or false, got other bytes")
    return view.copy(order="K")
