"""
Plain data back into the objects that it was taken from, or others of the same kind.

Nothing is ever made of a class that a file names: the objects are there, and what is made anew is of a fixed few kinds.
"""

import copy
import random
from collections import OrderedDict, deque
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from drqn_sb3.checkpoints.object_graph import BIT_GENERATORS, PLAIN_KINDS, class_name, parts_of

_MISSING = object()
# What contents that no Recorder has written lead to.
_UNFIT = (LookupError, TypeError, AttributeError, OverflowError, RecursionError, BufferError)

# Of a generator's state, by field: below what its whole numbers are, or how many numbers its arrays have.
_HALF_DRAWN = {"has_uint32": 2, "uinteger": 2**32}
_PCG64 = {"state": {"state": 2**128, "inc": 2**128}, **_HALF_DRAWN}
_STATES: dict[str, dict[str, Any]] = {
    "PCG64": _PCG64,
    "PCG64DXSM": _PCG64,
    "MT19937": {"state": {"key": (624, np.uint32), "pos": 625}},
    "Philox": {
        "state": {"counter": (4, np.uint64), "key": (2, np.uint64)},
        **{"buffer": (4, np.uint64), "buffer_pos": 5},
        **_HALF_DRAWN,
    },
    "SFC64": {"state": {"state": (4, np.uint64)}, **_HALF_DRAWN},
}


class Restorer:
    """
    Puts what a :class:`Recorder` has saved into other objects.

    Generators and spaces that are there are put into the saved state, as others may refer to them. The rest is replaced, never
    written to: what is there may have been handed out, or be a constant of the program. Attributes that referred to the same
    thing do so again.

    :param objects: what ``Recorder.finish`` returned; it is not changed and can be used again
    """

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self._objects = objects
        self._made: dict[int, Any] = {}
        self._taken: dict[int, Any] = {}

    def attributes(self, owner: Any, state: dict[str, Any], names: Iterable[str]) -> None:
        """
        Put attributes back, and delete those that the saved object did not have.

        :param owner: whose
        :param state: what ``Recorder.attributes`` returned
        :param names: which attributes the owner has of those that were to be saved
        :raises ValueError: if they are those of another object, among them any that it may not get from a file: what is
            never saved of it, and methods and properties. Names alone are looked at before anything is changed
        """
        present, names = vars(owner), set(names)
        try:
            to_set = [name for name, saved in state.items() if not (isinstance(saved, dict) and "configuration" in saved)]
            for name in to_set:
                _check_name(owner, name, names)
            for name in names - set(state):
                del present[name]
            for name in to_set:
                present[name] = self._value(state[name], present.get(name, _MISSING))
        except _UNFIT as error:
            raise ValueError(f"the state is of no {type(owner).__name__}: {error!r}") from error

    def _take(self, thing: Any) -> bool:
        """Whether nothing has been put into a thing so far; from now on something has."""
        is_free = id(thing) not in self._taken
        self._taken[id(thing)] = thing
        return is_free

    def _value(self, saved: Any, present: Any) -> Any:
        if not isinstance(saved, dict):
            return saved
        if "tuple" in saved:
            items = present if type(present) is tuple else ()
            return tuple(self._value(item, _at(items, index)) for index, item in enumerate(saved["tuple"]))
        if "method of" in saved:
            # Drawing by it goes on where the generator does
            self._value(saved["method of"], getattr(present, "__self__", _MISSING))
            return present
        if "configuration" in saved:
            if present is _MISSING:
                raise ValueError(f"the state is of other environments: it needs a {saved['configuration']} that these lack")
            return present
        number = saved["object"]
        if number not in self._made:
            saved_object = self._objects[number]
            self._made[number] = getattr(self, "_make_" + saved_object["kind"].replace(" ", "_"))(
                number, saved_object, present
            )
        return self._made[number]

    def _make_list(self, number: int, saved: dict[str, Any], present: Any) -> list[Any]:
        container: list[Any] = []
        self._fill(container, number, saved, present)
        return container

    def _make_deque(self, number: int, saved: dict[str, Any], present: Any) -> deque[Any]:
        container: deque[Any] = deque(maxlen=saved["maxlen"])
        self._fill(container, number, saved, present)
        return container

    def _fill(self, container: Any, number: int, saved: dict[str, Any], present: Any) -> None:
        self._made[number] = container  # before its contents are made, which may refer to it
        before = present if type(present) is type(container) else ()
        container.extend(self._value(item, _at(before, index)) for index, item in enumerate(saved["items"]))

    def _make_dict(self, number: int, saved: dict[str, Any], present: Any) -> dict[Any, Any]:
        container: dict[Any, Any] = OrderedDict() if saved["kind"] == "ordered dict" else {}
        self._made[number] = container
        before = present if isinstance(present, dict) else {}
        for saved_key, item in saved["items"]:
            key = self._value(saved_key, _MISSING)
            container[key] = self._value(item, before.get(key, _MISSING))
        return container

    _make_ordered_dict = _make_dict

    def _make_array(self, _: int, saved: dict[str, Any], present: Any) -> np.ndarray:
        array: np.ndarray = saved["data"].copy(order="K")
        return array

    def _make_memory(self, _: int, saved: dict[str, Any], present: Any) -> np.ndarray:
        return saved["data"].copy()

    def _make_view(self, _: int, saved: dict[str, Any], present: Any) -> np.ndarray:
        memory = self._value({"object": saved["memory"]}, _MISSING)
        if not isinstance(saved["dtype"], str):
            raise ValueError(f"the state is of no environments: it has an array of {saved['dtype']!r}")
        shape, strides, dtype = tuple(saved["shape"]), tuple(saved["strides"]), np.dtype(saved["dtype"])
        if dtype.kind not in PLAIN_KINDS:
            raise ValueError(f"the state is of no environments: it has an array of {dtype}")
        return np.ndarray(shape, dtype, buffer=memory, offset=saved["offset"], strides=strides)

    def _make_tensor(self, _: int, saved: dict[str, Any], present: Any) -> th.Tensor:
        tensor = saved["data"].clone()
        return tensor.to(present.device) if isinstance(present, th.Tensor) else tensor

    def _make_generator(self, _: int, saved: dict[str, Any], present: Any) -> np.random.Generator:
        check_generator_state(saved["state"], saved["name"])
        is_alike = type(present) is np.random.Generator and type(present.bit_generator).__name__ == saved["name"]
        generator = present if is_alike and self._take(present) else np.random.Generator(BIT_GENERATORS[saved["name"]]())
        generator.bit_generator.state = copy.deepcopy(saved["state"])
        return generator

    def _make_random_state(self, _: int, saved: dict[str, Any], present: Any) -> np.random.RandomState:
        check_generator_state(saved["state"], "MT19937")
        generator = present if type(present) is np.random.RandomState and self._take(present) else np.random.RandomState()
        generator.set_state(copy.deepcopy(saved["state"]))
        return generator

    def _make_random(self, _: int, saved: dict[str, Any], present: Any) -> random.Random:
        generator = present if type(present) is random.Random and self._take(present) else random.Random()
        set_python_state(generator, saved["state"])
        return generator

    def _make_space(self, _: int, saved: dict[str, Any], present: Any) -> spaces.Space:
        parts = list(parts_of(present)) if isinstance(present, spaces.Space) else []
        if not isinstance(present, spaces.Space) or len(parts) != len(saved["parts"]):
            raise ValueError(f"the state is of other environments: it needs another space than {present!r}")
        present._np_random = self._value(saved["generator"], present._np_random)
        for saved_part, part in zip(saved["parts"], parts, strict=True):
            self._value(saved_part, part)
        return present

    def _make_instance(self, number: int, saved: dict[str, Any], present: Any) -> Any:
        if class_name(present) != saved["class"]:
            raise ValueError(f"the state is of other environments: it needs a {saved['class']}, not a {class_name(present)}")
        self._made[number] = present
        self.attributes(present, saved["attributes"], vars(present))
        return present


def _check_name(owner: Any, name: str, names: set[str]) -> None:
    """Refuse an attribute that a file may not set: names come from the file too."""
    of_class = next((vars(cls)[name] for cls in type(owner).__mro__ if name in vars(cls)), None)
    is_code = callable(of_class) or (hasattr(type(of_class), "__get__") and not isinstance(of_class, cached_property))
    if name in names:
        is_fit = not (is_code and callable(vars(owner)[name]))
    else:
        # Some appear with the first step, or the first draw
        is_fit = name not in vars(owner) and not is_code and name.isidentifier() and not name.startswith("__")
    if not is_fit:
        raise ValueError(f"the state is of other environments: it has {type(owner).__name__}.{name}, which is not saved")


def check_generator_state(state: Any, name: str | None = None) -> None:
    """
    Make sure that a state of one of numpy's generators can be drawn from. numpy takes any, and reads beyond its memory.

    :param state: what ``np.random.get_state(legacy=False)``, ``RandomState.get_state(legacy=False)`` or a bit generator's
        ``state`` returned
    :param name: of which bit generator it must be, such as "PCG64"; ``None`` for any of those known
    :raises ValueError: naming what is out of its bounds
    """
    found = state.get("bit_generator") if isinstance(state, dict) else None
    if not isinstance(found, str) or found not in _STATES or name not in (None, found):
        raise ValueError(f"the generator's state must be of {name or sorted(_STATES)}, got {found!r:.80}")
    _check_fields(state, _STATES[found], found)
    if "gauss" in state or "has_gauss" in state:
        _check_fields(state, {"has_gauss": 2}, found)
        if not isinstance(state.get("gauss"), float):
            raise ValueError(f"{found}'s gauss must be a float, got {state.get('gauss')!r:.80}")


def _check_fields(state: Any, fields: dict[str, Any], where: str) -> None:
    for name, wanted in fields.items():
        value = state.get(name) if isinstance(state, dict) else None
        if isinstance(wanted, dict):
            _check_fields(value, wanted, f"{where}'s {name}")
        elif isinstance(wanted, tuple):
            size, dtype = wanted
            if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != ((size,), dtype):
                raise ValueError(f"{where}'s {name} must be {size} numbers of {dtype.__name__}, got {value!r:.80}")
        elif isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < wanted:
            raise ValueError(f"{where}'s {name} must be from 0 to {wanted - 1}, got {value!r:.80}")


def set_python_state(generator: Any, state: Any) -> None:
    """
    Put one of Python's own generators into a saved state.

    :param generator: a ``random.Random``, or the module ``random`` for the process' own
    :param state: what its ``getstate`` returned; lists will do for tuples
    :raises ValueError: if it is none
    """
    try:
        version, internal, gauss = state
        if gauss is not None and not isinstance(gauss, float):
            raise ValueError(f"its gauss must be a float or None, got {gauss!r:.80}")
        generator.setstate((version, tuple(internal), gauss))
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"this is no state of Python's generator: {error}") from error


def _at(items: Any, index: int) -> Any:
    return items[index] if index < len(items) else _MISSING
