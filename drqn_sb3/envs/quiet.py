"""Importing packages that print, warn and change the process when they are imported, without any of it getting out."""

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Iterator
from types import ModuleType

import numpy as np


@contextlib.contextmanager
def _environment_restored() -> Iterator[None]:
    """Put ``os.environ`` back as it was, changing only the variables that differ."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


def import_quietly(name: str) -> ModuleType:
    """
    Import a module; what the import prints or changes in the process does not get out.

    Importing gym prints an obituary on stderr, adds a warnings filter and sets SDL variables that change how
    pygame sounds; importing slimevolleygym changes how numpy prints. Standard output and error, the warnings filters,
    numpy's print options and the environment variables are afterwards as before. Errors are raised as usual.

    SB3 imports gym too, so whoever wants ``import stable_baselines3`` to be silent imports gym through this function
    first.

    :param name: full name of the module, e.g. ``"slimevolleygym.slimevolley"``
    :return: the module
    :raises ImportError: if there is no such module, or it fails to import
    """
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
        np.printoptions(),
        _environment_restored(),
    ):
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
