"""
What hangs on an object's attributes, as plain data.

Lists, dicts, arrays and generators may be referred to from several places, and arrays may be views of others: each is saved
once, under a number, so that ``Restorer`` can make it one object again.

::

    value in an attribute                               what is saved in its place
    None, bool, int, float, str, bytes, numpy scalar    itself
    tuple                                               {"tuple": [...]}
    list, dict, deque, array, tensor, generator, space  {"object": its number}
    function, class, module, another layer, ...         {"configuration": its type}, left alone when restored

Not seen is what only a function's closure, a class or a module holds.
"""

import copy
import random
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers.utils import RunningMeanStd as GymnasiumRunningMeanStd
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations


class EnvStateError(ValueError):
    """An environment holds something that cannot be saved as plain data."""


_LEAVES = (type(None), bool, int, float, str, bytes)
PLAIN_KINDS = "biufcSU"
"""numpy's letters for the types of numbers and strings."""
_CODE = (type, types.FunctionType, types.ModuleType, np.ufunc, np.dtype, EnvSpec)
_METHODS = (types.MethodType, types.BuiltinMethodType)
# Of pygame's: made anew, or drawn upon anew, when something is next drawn. Rectangles and vectors are state.
_DRAWING = {"Surface", "Clock", "Font", "Window", "PixelArray", "Sound"}
DICTS: dict[type, str] = {dict: "dict", OrderedDict: "ordered dict"}
"""The kinds of dicts, and what they are called in a saved state."""
_INSTANCES = (RunningMeanStd, StackedObservations, GymnasiumRunningMeanStd)
BIT_GENERATORS: dict[str, Callable[[], np.random.BitGenerator]] = {
    "PCG64": np.random.PCG64,
    "PCG64DXSM": np.random.PCG64DXSM,
    "MT19937": np.random.MT19937,
    "Philox": np.random.Philox,
    "SFC64": np.random.SFC64,
}
"""The only bit generators that are made anew."""


def class_name(thing: Any) -> str:
    """
    Name a thing's class.

    :param thing: any object
    :return: module and name
    """
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def check_plain(value: Any, where: str) -> None:
    """
    Make sure that something is plain data: numbers, strings, arrays, tensors, and lists, tuples, dicts and deques of them.

    :param value: anything
    :param where: what it is called in the error
    :raises EnvStateError: if it is not
    """
    if type(value) in _LEAVES or _is_scalar(value) or _is_array(value) or type(value) is th.Tensor:
        return
    if type(value) in (list, tuple, deque):
        for index, item in enumerate(value):
            check_plain(item, f"{where}[{index}]")
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) not in (str, int):
                raise EnvStateError(f"{where} has the key {key!r}, which must be a str or an int")
            check_plain(item, f"{where}[{key!r}]")
    else:
        raise EnvStateError(f"{where} is a {class_name(value)}, which is not plain data")


def _is_drawing(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "pygame" and type(value).__name__ in _DRAWING


def _is_scalar(value: Any) -> bool:
    return isinstance(value, np.generic) and value.dtype.kind in PLAIN_KINDS


def _is_array(value: Any) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in PLAIN_KINDS


def root_of(array: np.ndarray) -> np.ndarray:
    """
    Find the array whose memory another one is a view of.

    :param array: any array
    :return: that array, itself if it is no view
    """
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def parts_of(space: spaces.Space) -> Iterator[spaces.Space]:
    """
    Tell what a space is made of.

    :param space: any space
    :return: the spaces right under it, always in the same order
    """
    for value in vars(space).values():
        candidates = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
        yield from (part for part in candidates if isinstance(part, spaces.Space))


class Recorder:
    """
    Turns attributes into plain data. What is referred to several times, by whichever attributes, is saved once.

    :param known: objects that are saved elsewhere or belong to the configuration: references to them are left alone
    """

    def __init__(self, known: Iterable[Any] = ()) -> None:
        self._known = {id(thing): thing for thing in known}
        self._seen: dict[int, tuple[int, Any]] = {}  # the object too, lest another one gets its id
        self._objects: list[dict[str, Any]] = []
        self._arrays: list[tuple[int, np.ndarray]] = []
        self._storages: set[int] = set()

    def alike(self) -> "Recorder":
        """
        Make a recorder that nothing has been recorded with, to see whether something can be.

        :return: one that knows the same objects
        """
        return Recorder(self._known.values())

    def attributes(self, owner: Any, names: Iterable[str]) -> dict[str, Any]:
        """
        Save attributes.

        :param owner: whose
        :param names: which
        :return: name to value, which may refer to :meth:`finish`'s objects
        :raises EnvStateError: if one cannot be saved
        """
        of = type(owner).__name__
        return {name: self._value(vars(owner)[name], f"{of}.{name}") for name in names}

    def finish(self) -> list[dict[str, Any]]:
        """
        Save the arrays' contents; afterwards nothing more can be recorded.

        :return: the objects that the attributes refer to
        :raises EnvStateError: if arrays share memory in a way that cannot be saved
        """
        sharing: dict[int, list[tuple[int, np.ndarray]]] = {}
        for number, array in self._arrays:
            sharing.setdefault(id(root_of(array)), []).append((number, array))
        for group in sharing.values():
            if len(group) == 1:
                number, array = group[0]
                self._objects[number] = {"kind": "array", "data": array.copy(order="K")}
            else:
                self._save_views(group)
        return self._objects

    def _save_views(self, group: list[tuple[int, np.ndarray]]) -> None:
        root = root_of(group[0][1])
        if not root.flags.forc:
            raise EnvStateError(f"arrays share the memory of a {root.dtype} array of shape {root.shape} that has gaps")
        start = root.__array_interface__["data"][0]
        memory = len(self._objects)
        self._objects.append({"kind": "memory", "data": root.ravel(order="K").view(np.uint8).copy()})
        for number, array in group:
            self._objects[number] = {
                "kind": "view",
                "memory": memory,
                "offset": array.__array_interface__["data"][0] - start,
                "shape": array.shape,
                "strides": array.strides,
                "dtype": array.dtype.str,
            }

    def _value(self, value: Any, where: str) -> Any:
        if type(value) in _LEAVES or _is_scalar(value):
            return value
        if type(value) is tuple:
            return {"tuple": [self._value(item, f"{where}[{index}]") for index, item in enumerate(value)]}
        if isinstance(value, _METHODS) and isinstance(value.__self__, np.random.Generator):
            return {"method of": self._value(value.__self__, where)}
        if self._is_configuration(value):
            return {"configuration": class_name(value)}
        if id(value) not in self._seen:
            number = len(self._objects)
            self._seen[id(value)] = number, value
            self._objects.append({})
            self._objects[number] = self._object(value, where, number)
        return {"object": self._seen[id(value)][0]}

    def _is_configuration(self, value: Any) -> bool:
        if id(value) in self._known or isinstance(value, _CODE) or _is_drawing(value):
            return True
        if isinstance(value, _METHODS):
            owner = value.__self__
            return owner is None or self._is_configuration(owner)
        if type(value) is partial:
            values = [value.func, *value.args, *value.keywords.values()]
            return all(type(part) in _LEAVES or self._is_configuration(part) for part in values)
        return False

    def _object(self, value: Any, where: str, number: int) -> dict[str, Any]:
        if _is_array(value):
            self._arrays.append((number, value))
            return {}  # finish() knows which of them share memory
        if type(value) in (list, deque):
            is_simple = all(type(item) in _LEAVES for item in value)  # thousands of episodes' rewards, say
            items = list(value) if is_simple else [self._value(item, f"{where}[{i}]") for i, item in enumerate(value)]
            size = {"maxlen": value.maxlen} if isinstance(value, deque) else {}
            return {"kind": type(value).__name__, "items": items, **size}
        if type(value) in DICTS:
            items = [[self._key(key, where), self._value(item, f"{where}[{key!r}]")] for key, item in value.items()]
            return {"kind": DICTS[type(value)], "items": items}
        if isinstance(value, spaces.Space):
            parts = [self._value(part, f"{where}'s part {index}") for index, part in enumerate(parts_of(value))]
            return {"kind": "space", "generator": self._value(value._np_random, f"{where}._np_random"), "parts": parts}
        if type(value) in _INSTANCES:
            return {"kind": "instance", "class": class_name(value), "attributes": self.attributes(value, vars(value))}
        return self._tensor(value, where) if type(value) is th.Tensor else _generator(value, where)

    def _key(self, key: Any, where: str) -> Any:
        encoded = self._value(key, f"a key of {where}")
        if isinstance(encoded, dict) and "tuple" not in encoded:
            raise EnvStateError(f"{where} has the key {key!r}, a {class_name(key)}, which cannot be saved as plain data")
        return encoded

    def _tensor(self, tensor: th.Tensor, where: str) -> dict[str, Any]:
        storage = tensor.untyped_storage().data_ptr()
        if storage in self._storages and tensor.numel():
            raise EnvStateError(f"{where} shares its memory with another tensor, which cannot be saved")
        self._storages.add(storage)
        return {"kind": "tensor", "data": tensor.detach().cpu().clone()}


def _generator(value: Any, where: str) -> dict[str, Any]:
    """Save a random generator, the last kind of thing that can be saved."""
    if type(value) is np.random.Generator and type(value.bit_generator).__name__ in BIT_GENERATORS:
        name = type(value.bit_generator).__name__
        return {"kind": "generator", "name": name, "state": copy.deepcopy(value.bit_generator.state)}
    if type(value) is np.random.RandomState:
        return {"kind": "random state", "state": copy.deepcopy(value.get_state(legacy=False))}
    if type(value) is random.Random:
        return {"kind": "random", "state": value.getstate()}
    raise EnvStateError(
        f"{where} is a {class_name(value)}, which cannot be saved as plain data; "
        "give the class that holds it the methods get_state() and set_state(state)"
    )


def slots_of(layer: gym.Env | Any) -> list[str]:
    """
    Name attributes that ``vars`` does not show.

    :param layer: an environment or a wrapper
    :return: the names of those that its classes keep in ``__slots__``
    """
    slots = [vars(cls).get("__slots__", ()) for cls in type(layer).__mro__]
    names = [name for names in slots for name in ((names,) if isinstance(names, str) else names)]
    return [name for name in names if name not in ("__dict__", "__weakref__")]
