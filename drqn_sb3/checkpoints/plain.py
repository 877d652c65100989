"""
Plain data as JSON and arrays: what a checkpoint consists of.

Plain data are ``None``, booleans, numbers, strings, bytes, numpy arrays and scalars, tensors, and lists, tuples, deques and
dicts of these. Nothing else can be written, and reading makes nothing else: no file can have code run, as a pickle can.
"""

from collections import deque
from typing import Any

import numpy as np
import torch as th

# A JSON object with a key of this kind stands for what JSON lacks.
_TAG = "!"
_LONG = 16  # lists of so many numbers become arrays
PLAIN_DTYPES = "biufcSUmM"
"""numpy's letters for the types that arrays may have."""


class NotPlainError(TypeError):
    """Something is not plain data."""


def pack(data: Any) -> tuple[Any, list[np.ndarray]]:
    """
    Take plain data apart.

    :param data: plain data
    :return: what ``json.dumps`` takes, and the arrays that it refers to by their place in the list
    :raises NotPlainError: if there is anything else in it, naming where
    """
    arrays: list[np.ndarray] = []
    return _pack(data, arrays, ""), arrays


def unpack(structure: Any, arrays: list[np.ndarray]) -> Any:
    """
    Put plain data together again.

    :param structure: what :func:`pack` returned, or what ``json.loads`` made of that
    :param arrays: the arrays
    :return: the data, equal to what was packed; tensors are on the host
    :raises ValueError: if it does not fit together
    """
    try:
        return _unpack(structure, dict(enumerate(arrays)))
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"this is not packed data: {error!r}") from error


def is_plain(data: Any) -> bool:
    """
    Tell whether something is plain data.

    :param data: anything
    :return: whether :func:`pack` takes it
    """
    try:
        pack(data)
    except NotPlainError:
        return False
    return True


def _pack(data: Any, arrays: list[np.ndarray], where: str) -> Any:
    if data is None or type(data) in (bool, int, float, str):
        return data
    if isinstance(data, np.ndarray | np.generic | th.Tensor | bytes):
        return _pack_array(data, arrays, where)
    if type(data) in (list, tuple, deque):
        return _pack_sequence(data, arrays, where)
    if isinstance(data, dict):  # ordered ones too, as of a network's weights
        items = [(key, _pack(value, arrays, f"{where}[{key!r}]")) for key, value in data.items()]
        if all(type(key) is str and not key.startswith(_TAG) for key in data):
            return dict(items)
        return {"!dict": [[_pack(key, arrays, f"a key of {where}"), value] for key, value in items]}
    raise NotPlainError(f"{where or 'this'} is a {type(data).__module__}.{type(data).__qualname__}, which is not plain data")


def _pack_array(data: Any, arrays: list[np.ndarray], where: str) -> Any:
    tag: dict[str, Any]
    if isinstance(data, bytes):
        tag, array = {"!bytes": len(arrays)}, np.frombuffer(data, dtype=np.uint8)
    elif isinstance(data, th.Tensor):
        on_host, dtype = data.detach().cpu().contiguous(), str(data.dtype).removeprefix("torch.")
        # numpy has no bfloat16
        array = (on_host.view(th.int16) if data.dtype == th.bfloat16 else on_host).numpy()
        tag = {"!tensor": len(arrays), "dtype": dtype}
    else:
        tag, array = {"!scalar" if isinstance(data, np.generic) else "!array": len(arrays)}, np.asarray(data)
    if array.dtype.kind not in PLAIN_DTYPES or not array.dtype.itemsize:
        raise NotPlainError(f"{where or 'this'} is an array of {array.dtype}, which is not plain data")
    arrays.append(array)
    return tag


def _pack_sequence(data: Any, arrays: list[np.ndarray], where: str) -> Any:
    types = {type(value) for value in data} if type(data) is list and len(data) >= _LONG else set()
    if types == {float} or (types == {int} and all(-(2**63) <= value < 2**63 for value in data)):
        arrays.append(np.array(data, np.int64 if types == {int} else np.float64))
        return {"!list": len(arrays) - 1}
    values = [_pack(value, arrays, f"{where}[{index}]") for index, value in enumerate(data)]
    if isinstance(data, tuple):
        return {"!tuple": values}
    return {"!deque": values, "maxlen": data.maxlen} if isinstance(data, deque) else values


def _unpack(structure: Any, arrays: dict[int, np.ndarray]) -> Any:
    if isinstance(structure, list):
        return [_unpack(value, arrays) for value in structure]
    if not isinstance(structure, dict):
        return structure
    tag = next(iter(structure), "")
    if not tag.startswith(_TAG):
        return {key: _unpack(value, arrays) for key, value in structure.items()}
    content = structure[tag]
    if tag == "!dict":
        return {_unpack(key, arrays): _unpack(value, arrays) for key, value in content}
    if tag == "!tuple":
        return tuple(_unpack(value, arrays) for value in content)
    if tag == "!deque":
        return deque((_unpack(value, arrays) for value in content), maxlen=structure["maxlen"])
    # An array has one place: one that a file puts in many places would fill the memory
    return _unpack_array(tag, arrays.pop(content), structure)


def _unpack_array(tag: str, array: np.ndarray, structure: dict[str, Any]) -> Any:
    if tag == "!array":
        return array
    if tag == "!scalar" and array.shape == ():
        return array[()]
    if tag == "!bytes" and array.dtype == np.uint8:
        return array.tobytes()
    if tag == "!list" and array.ndim == 1 and array.dtype in (np.int64, np.float64):
        return array.tolist()
    if tag == "!tensor":
        tensor = th.from_numpy(array)
        return tensor.view(th.bfloat16) if structure["dtype"] == "bfloat16" else tensor
    raise ValueError(f"this is not packed data: it has {tag!r} of shape {array.shape} and type {array.dtype}")
