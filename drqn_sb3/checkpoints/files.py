"""
Files that are whole or not there at all.

A file is written beside its place under a name that ends in :data:`UNFINISHED`, flushed to the disk, and renamed: whoever is
killed meanwhile leaves the old file, or none, and a leftover that :func:`remove_unfinished` finds by its name.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished"


class DamagedFileError(ValueError):
    """A file is not what was written: truncated, edited, or missing."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """
    Open a file for writing that will be there as a whole or not at all, whenever the process or the machine stops.

    :param path: where to; a file that is there is replaced when the context ends
    :return: a context manager, of the file
    :raises OSError: if that fails, of which nothing is left behind
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomically(path: Path, parts: Iterable[bytes | memoryview]) -> str:
    """
    Write a file that will be there as a whole or not at all, see :func:`atomic_file`.

    :param path: where to
    :param parts: its contents, one behind the other
    :return: its SHA-256, in hexadecimal
    :raises OSError: if that fails, of which nothing is left behind
    """
    digest = hashlib.sha256()
    with atomic_file(path) as file:
        for part in parts:
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def read_verified(path: Path, sha256: str) -> bytes:
    """
    Read a file that must be what was written.

    :param path: the file
    :param sha256: what :func:`write_atomically` returned
    :return: its contents
    :raises DamagedFileError: if it is missing or differs
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedFileError(f"{path} is missing") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedFileError(f"{path} is damaged: its SHA-256 is not {sha256[:12]}..., as it was when it was written")
    return content


def sync_folder(folder: Path) -> None:
    """
    Have the names of a folder's files reach the disk, where the system lets one.

    :param folder: the folder
    """
    if os.name == "nt":
        return  # a folder can't be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path, pattern: str = "*") -> None:
    """
    Remove what writers that were killed have left in a folder.

    :param folder: the folder; nobody else may be writing into it
    :param pattern: of the names that the files were to have
    """
    for path in folder.glob(pattern + UNFINISHED):
        path.unlink()
