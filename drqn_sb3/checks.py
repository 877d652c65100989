"""Checks of single values that several modules share."""

from numbers import Integral, Real
from typing import Any


def is_number(value: Any) -> bool:
    """
    Tell whether a value is a real number.

    :param value: anything
    :return: whether it is; True and False are not
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def is_positive_integer(value: Any) -> bool:
    """
    Tell whether a value is a whole number of at least 1.

    :param value: anything
    :return: whether it is; True is not
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def check_integer(name: str, value: Any, least: int) -> None:
    """
    Check an argument that has to be a whole number of at least so much.

    :param name: the argument
    :param value: what was received
    :param least: its lower bound
    :raises TypeError: if it is no whole number
    :raises ValueError: if it is below the bound
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if int(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
