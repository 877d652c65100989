import random
from collections import OrderedDict, deque
from copy import deepcopy
from functools import cached_property, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pygame
import pytest
import torch as th
from env_worlds import assert_same, through_a_file
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from drqn_sb3.checkpoints.object_graph import EnvStateError, Recorder, check_plain, slots_of
from drqn_sb3.checkpoints.object_restorer import Restorer, check_generator_state, set_python_state

CONSTANT = np.arange(3.0)


class Holder:
    """An object with attributes."""

    shared: ClassVar[list[int]] = [1, 2]

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    late: int | None = None

    def tell(self) -> None: ...

    @property
    def told(self) -> int:
        return 3

    @cached_property
    def kept(self) -> int:
        return 4

    class Part: ...

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...


def saved(owner: Any, known: Any = ()) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    recorder = Recorder(known)
    attributes = recorder.attributes(owner, vars(owner))
    return through_a_file((attributes, recorder.finish()))


def moved(source: Any, target: Any) -> Any:
    """Put the attributes of one object into another."""
    attributes, objects = saved(source)
    Restorer(objects).attributes(target, attributes, list(vars(target)))
    return target


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
LEAVES |= st.sampled_from([np.float32(1.5), np.int64(-3), np.bool_(True)])
ARRAYS = st.lists(st.integers(-9, 9), max_size=4).map(np.array) | st.just(np.zeros((2, 3), np.uint8))
PLAIN = st.recursive(
    LEAVES | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers(), st.text()), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), PLAIN), st.dictionaries(st.sampled_from("abcd"), PLAIN))
def test_an_object_gets_the_attributes_of_another(source: dict[str, Any], target: dict[str, Any]) -> None:
    restored = vars(moved(Holder(**source), Holder(**target)))
    assert_same({name: restored[name] for name in source}, source)
    assert set(restored) == set(source)


def test_what_is_one_object_is_one_again() -> None:
    array, items, generator = np.arange(4.0), [1, 2], np.random.default_rng(0)
    cycle: list[Any] = [items]
    cycle.append(cycle)
    source = Holder(a=array, b=(array, {"x": array}), items=items, cycle=cycle, g=generator, more=[generator])
    restored = moved(source, Holder())
    assert restored.a is restored.b[0] is restored.b[1]["x"]
    assert restored.items is restored.cycle[0]
    assert restored.cycle[1] is restored.cycle
    assert restored.g is restored.more[0]


def test_what_are_several_objects_are_several_again() -> None:
    one = np.zeros(3)
    target = Holder(a=one, b=one, x=(shared := [0]), y=shared)
    restored = moved(Holder(a=np.ones(3), b=np.full(3, 2.0), x=[1], y=[2]), target)
    assert (restored.a.tolist(), restored.b.tolist()) == ([1, 1, 1], [2, 2, 2])
    assert (restored.x, restored.y) == ([1], [2])


@pytest.mark.parametrize("order", ["C", "F"])
def test_views_are_views_of_the_same_memory_again(order: Any) -> None:
    base = np.asarray(np.arange(24.0).reshape(4, 6), order=order)
    source = Holder(first=base[0], odd=base[:, 1::2], base=base, reversed=base[::-1])
    expected = {name: value.copy() for name, value in vars(source).items()}
    restored = moved(source, Holder())
    assert_same({name: value.copy() for name, value in vars(restored).items()}, expected)
    restored.base[0, 1] = -1.0
    assert restored.first[1] == restored.odd[0, 0] == restored.reversed[-1, 1] == -1.0


def test_a_view_alone_is_saved_without_the_rest() -> None:
    _, objects = saved(Holder(row=np.zeros((1000, 5))[3]))
    assert [saved_object["data"].shape for saved_object in objects] == [(5,)]


def test_others_that_refer_to_the_same_generator_see_it_change() -> None:
    target = Holder(g=np.random.default_rng(1))
    other, draw = target.g, target.g.random
    moved(Holder(g=np.random.default_rng(2)), target)
    assert target.g is other
    assert draw() == np.random.default_rng(2).random()


def test_a_generator_of_which_only_a_method_is_kept_goes_on() -> None:
    source, target = Holder(draw=np.random.default_rng(2).random), Holder(draw=np.random.default_rng(1).random)
    source.draw()
    draw = target.draw
    assert moved(source, target).draw() == source.draw()
    assert target.draw is draw


def test_what_has_been_handed_out_is_replaced() -> None:
    target = Holder(array=np.zeros(3), items=[0], names={"a": [0]}, last=deque([0], maxlen=2))
    before: Any = dict(vars(target))
    moved(Holder(array=np.ones(3), items=[1], names={"a": [1]}, last=deque([1], maxlen=2)), target)
    assert before["array"].tolist() == [0, 0, 0]
    assert (before["items"], before["names"], list(before["last"])) == ([0], {"a": [0]}, [0])
    assert target.array.tolist() == [1, 1, 1]
    assert (target.items, target.names, list(target.last)) == ([1], {"a": [1]}, [1])


LEVELS: dict[str, Any] = {"a": [np.arange(3)], "b": [np.zeros(3)]}


def test_constants_are_not_written_to() -> None:
    target = Holder(array=CONSTANT, row=CONSTANT[:2], items=Holder.shared, level=LEVELS["a"], grid=LEVELS["a"][0])
    moved(Holder(array=np.ones(3), row=np.ones(2), items=[7], level=LEVELS["b"], grid=LEVELS["b"][0]), target)
    assert CONSTANT.tolist() == [0, 1, 2] and Holder.shared == [1, 2] and LEVELS["a"][0].tolist() == [0, 1, 2]
    assert target.array.tolist() == [1, 1, 1] and target.row.tolist() == [1, 1] and target.items == [7]
    assert target.level[0] is target.grid and target.grid.tolist() == [0, 0, 0]


def test_configuration_is_left_alone() -> None:
    known, mine, surface = Holder(), Holder(), pygame.Surface((2, 2))
    source = Holder(f=len, cls=Holder, known=known, g=partial(max, 1), draw=[np.sin, 1], module=np, x=1, dtype=np.dtype("f4"))
    source.screen, source.method = surface, known.tell
    attributes, objects = saved(source, [known])
    target = Holder(f=min, cls=int, known=mine, g=None, draw=[np.cos, 5], module=None, x=2, dtype=None, screen=None, method=1)
    Restorer(objects).attributes(target, attributes, list(vars(target)))
    kept = {"f": min, "cls": int, "known": mine, "g": None, "module": None, "dtype": None, "screen": None, "method": 1}
    assert vars(target) == {**kept, "draw": [np.cos, 1], "x": 1}


GENERATORS: dict[str, Any] = {
    **{name: partial(lambda cls, seed: np.random.Generator(cls(seed)), cls) for name, cls in vars(np.random).items()
       if name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")},
    "RandomState": np.random.RandomState,
    "Random": random.Random,
}  # fmt: skip


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("is_there", [True, False])
def test_generators_go_on(name: str, is_there: bool) -> None:
    generator = GENERATORS[name](1)
    generator.random()
    draw = (lambda g: [g.gauss(0, 1) for _ in range(5)]) if name == "Random" else (lambda g: g.normal(size=5).tolist())
    draw(generator)
    present = GENERATORS[name](2)
    target = Holder(g=present) if is_there else Holder(g=np.random.default_rng(0) if name != "PCG64" else None)
    restored = moved(Holder(g=generator), target).g
    assert (restored is present) == is_there
    assert draw(restored) == draw(generator)


def test_spaces_draw_on() -> None:
    def make(seed: int | None) -> spaces.Space:
        space = spaces.Dict(
            a=spaces.Discrete(100),
            b=spaces.Tuple([spaces.Box(0, 1, (2,)), spaces.MultiBinary(3)]),
            c=spaces.Sequence(spaces.Discrete(9)),
        )
        if seed is not None:
            space.seed(seed)
        return space

    source, target = Holder(space=make(1)), Holder(space=make(2))
    source.space.sample()
    space = target.space
    moved(source, target)
    assert target.space is space
    assert_same([dict(space.sample()) for _ in range(9)], [dict(source.space.sample()) for _ in range(9)])
    assert moved(Holder(space=spaces.Discrete(2)), Holder(space=spaces.Discrete(2, seed=1))).space._np_random is None


def test_the_kinds_of_containers_and_tensors_stay() -> None:
    source = Holder(d=OrderedDict(x=1, a=2), q=deque([1, 2, 3], maxlen=3), t=th.arange(3.0), n=None)
    restored = moved(source, Holder(t=th.zeros(1)))
    assert type(restored.d) is OrderedDict and list(restored.d) == ["x", "a"]
    assert restored.q == deque([1, 2, 3]) and restored.q.maxlen == 3
    assert th.equal(restored.t, source.t)


def gappy() -> Holder:
    base = np.lib.stride_tricks.as_strided(np.zeros(9), (3,), (16,))
    return Holder(a=base[:2], b=base[1:])


def shared_tensors() -> Holder:
    tensor = th.zeros(4)
    return Holder(a=tensor, b=tensor[:2])


BAD: dict[str, tuple[Any, str]] = {
    "object": (Holder(x=[SimpleNamespace()]), r"Holder\.x\[0\] is a types\.SimpleNamespace, which cannot be saved as plain"),
    "set": (Holder(x={"a": {1}}), r"Holder\.x\['a'\] is a builtins\.set"),
    "array of objects": (Holder(x=np.array([None])), r"Holder\.x is a numpy\.ndarray"),
    "key": (Holder(x={np.sin: 1}), r"Holder\.x has the key <ufunc 'sin'>, a numpy\.ufunc"),
    "own generator": (Holder(x=type("Mine", (random.Random,), {})()), r"Holder\.x is a .*Mine"),
    "method of an object": (Holder(x=deque().append), r"Holder\.x is a builtins\.builtin_function_or_method"),
    "partial with state": (Holder(x=partial(max, [1])), r"Holder\.x is a functools\.partial"),
    "arrays with gaps": (gappy(), "share the memory of a float64 array"),
    "tensors": (shared_tensors(), r"Holder\.b shares its memory with another tensor"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_saved_is_named(case: str) -> None:
    owner, why = BAD[case]
    with pytest.raises(EnvStateError, match=why):
        saved(owner)


FOREIGN: dict[str, tuple[Holder, Holder, str]] = {
    "space": (Holder(x=spaces.Discrete(2)), Holder(x=1), "needs another space than 1"),
    "parts": (Holder(x=spaces.Dict()), Holder(x=spaces.Dict(a=spaces.Discrete(2))), "needs another space than Dict"),
    "configuration": (Holder(x=[1, len]), Holder(x=[1]), r"needs a builtins\.builtin_function_or_method that these lack"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_attributes_of_another_object_are_refused(case: str) -> None:
    source, target, why = FOREIGN[case]
    with pytest.raises(ValueError, match=f"the state is of other environments: it {why}"):
        moved(source, target)


def test_a_view_of_objects_is_never_made_from_memory() -> None:
    base = np.zeros(4)
    attributes, objects = saved(Holder(a=base[:2], b=base[1:]))
    next(item for item in objects if item["kind"] == "view")["dtype"] = "|O"
    with pytest.raises(ValueError, match="an array of object"):
        Restorer(objects).attributes(Holder(), attributes, [])


BROKEN: dict[str, tuple[Any, list[Any]]] = {
    "no objects": ({"a": {"object": 0}}, []),
    "an unknown kind": ({"a": {"object": 0}}, [{"kind": "file"}]),
    "no kind": ({"a": {"object": 0}}, [{}]),
    "no object": ({"a": {"something": 0}}, []),
    "a list of nothing": ({"a": {"object": 0}}, [{"kind": "list", "items": None}]),
    "an array of nothing": ({"a": {"object": 0}}, [{"kind": "array", "data": None}]),
    "a deque beyond all bounds": ({"a": {"object": 0}}, [{"kind": "deque", "items": [], "maxlen": 2**70}]),
    "a key of a list": (
        {"a": {"object": 0}},
        [{"kind": "dict", "items": [[{"object": 1}, 1]]}, {"kind": "list", "items": []}],
    ),
    "no attributes": (None, []),
    "a number for a name": ({3: 1}, []),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_nobody_recorded_is_refused(case: str) -> None:
    attributes, objects = BROKEN[case]
    with pytest.raises(ValueError, match="the state is of no Holder"):
        Restorer(objects).attributes(Holder(), attributes, [])


def test_a_view_has_a_type_and_stays_within_its_memory() -> None:
    memory = {"kind": "memory", "data": np.zeros(16, np.uint8)}
    view = {"kind": "view", "memory": 1, "offset": 0, "shape": (2,), "strides": (8,), "dtype": "<f8"}
    for change in ({"shape": (3,)}, {"offset": 1}, {"offset": -8}, {"strides": (16,)}, {"strides": (-8,)}, {"dtype": ["O"]}):
        with pytest.raises(ValueError):
            Restorer([view | change, memory]).attributes(Holder(), {"a": {"object": 0}}, [])
    Restorer([view, memory]).attributes(holder := Holder(), {"a": {"object": 0}}, [])
    assert holder.a.tolist() == [0, 0]


NAMES = ["tell", "told", "Part", "__class__", "__dict__", "__init__", "__reduce__", "no name", "", "path"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_sets_nothing_but_what_is_saved(name: str) -> None:
    """Names come from the file: methods, properties, and what is kept from the state are not for it to set."""
    target = Holder(x=1, path="/mine")
    with pytest.raises(ValueError, match=rf"other environments: it has Holder\.{name}, which is not saved"):
        Restorer([]).attributes(target, {"x": 2, name: "theirs"}, ["x"])
    assert vars(target) == {"x": 1, "path": "/mine"}, "nothing was changed"
    assert target.told == 3


def test_a_file_sets_no_method_that_an_object_has_replaced() -> None:
    target = Holder(tell=len)
    with pytest.raises(ValueError, match=r"it has Holder\.tell, which is not saved"):
        Restorer([]).attributes(target, {"tell": 1}, ["tell"])
    moved(Holder(tell=min), target)
    assert vars(target) == {"tell": len}


def test_attributes_that_appear_late_are_set() -> None:
    """With the first draw, say, as gymnasium's generator and its seed."""
    source = Holder(late=5, new=[1], _np_random_seed=3, _own=np.ones(2))
    assert source.kept == 4
    restored = moved(source, Holder())
    assert_same(vars(restored), {"late": 5, "new": [1], "_np_random_seed": 3, "_own": np.ones(2), "kept": 4})


def test_data_under_a_methods_name_are_data() -> None:
    assert moved(Holder(told=1, tell=2), Holder(told=5, tell=6)).tell == 2


def state_of(generator: Any) -> dict[str, Any]:
    is_older = isinstance(generator, np.random.RandomState)
    state: dict[str, Any] = generator.get_state(legacy=False) if is_older else generator.bit_generator.state
    return deepcopy(state)


SPOILED: dict[str, tuple[str, tuple[str, ...], Any, str]] = {
    "beyond its numbers": ("RandomState", ("state", "pos"), 625, "pos must be from 0 to 624, got 625"),
    "before its numbers": ("RandomState", ("state", "pos"), -1, "pos must be from 0 to 624, got -1"),
    "far beyond": ("MT19937", ("state", "pos"), 2**31 - 1, "pos must be from 0 to 624"),
    "a fraction": ("MT19937", ("state", "pos"), 1.5, "pos must be from 0 to 624, got 1.5"),
    "a truth": ("MT19937", ("state", "pos"), True, "pos must be from 0 to 624, got True"),
    "no place": ("MT19937", ("state",), {}, "MT19937's state's key must be 624 numbers of uint32, got None"),
    "no state": ("MT19937", ("state",), None, "MT19937's state's key must be"),
    "too few numbers": ("MT19937", ("state", "key"), np.zeros(10, np.uint32), "key must be 624 numbers of uint32"),
    "other numbers": ("RandomState", ("state", "key"), np.zeros(624), "key must be 624 numbers of uint32"),
    "two values waiting": ("RandomState", ("has_gauss",), 2, "has_gauss must be from 0 to 1"),
    "no number waiting": ("RandomState", ("gauss",), "0", "gauss must be a float, got '0'"),
    "beyond the buffer": ("Philox", ("buffer_pos",), 5, "buffer_pos must be from 0 to 4, got 5"),
    "before the buffer": ("Philox", ("buffer_pos",), -1, "buffer_pos must be from 0 to 4"),
    "a short buffer": ("Philox", ("buffer",), np.zeros(1, np.uint64), "buffer must be 4 numbers of uint64"),
    "a short counter": ("Philox", ("state", "counter"), np.zeros(1, np.uint64), "counter must be 4 numbers of uint64"),
    "a short key": ("Philox", ("state", "key"), np.zeros(1, np.uint64), "key must be 2 numbers of uint64"),
    "a short state": ("SFC64", ("state", "state"), np.zeros(3, np.uint64), "state must be 4 numbers of uint64"),
    "too large": ("PCG64", ("state", "state"), 2**128, "state must be from 0 to"),
    "below 0": ("PCG64DXSM", ("state", "inc"), -1, "inc must be from 0 to"),
    "half a number": ("PCG64", ("uinteger",), 2**32, "uinteger must be from 0 to 4294967295"),
    "another kind": ("PCG64", ("bit_generator",), "MT19937", "MT19937"),
    "an unknown kind": ("PCG64", ("bit_generator",), "Mine", "state must be of .*, got 'Mine'"),
    "no kind": ("PCG64", ("bit_generator",), None, "state must be of .*, got None"),
}


def spoiled(case: str) -> tuple[dict[str, Any], str, str]:
    name, path, value, why = SPOILED[case]
    state = place = state_of(GENERATORS[name](1))
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return state, name, why


@pytest.mark.parametrize("case", SPOILED)
def test_a_generators_state_that_would_crash_is_refused(case: str) -> None:
    state, name, why = spoiled(case)
    with pytest.raises(ValueError, match=why):
        check_generator_state(state)
    kind = {"kind": "random state"} if name == "RandomState" else {"kind": "generator", "name": name}
    target = Holder(g=GENERATORS[name](7))
    with pytest.raises(ValueError, match=why):
        Restorer([{**kind, "state": state}]).attributes(target, {"g": {"object": 0}}, ["g"])
    assert target.g.random() == GENERATORS[name](7).random()


@pytest.mark.parametrize("name", [name for name in GENERATORS if name != "Random"])
def test_generators_states_are_accepted_at_any_time(name: str) -> None:
    generator = GENERATORS[name](1)
    for _ in range(700):
        generator.normal(size=1)
        if name != "RandomState":
            generator.integers(9, dtype=np.int32)
        state = state_of(generator)
        check_generator_state(state)
        check_generator_state(state, "MT19937" if name == "RandomState" else name)
    check_generator_state(through_a_file(state))


@pytest.mark.parametrize("state", [None, 3, [], {}, ("MT19937", np.zeros(624), 1)], ids=str)
def test_what_is_no_generators_state_is_refused(state: Any) -> None:
    with pytest.raises(ValueError, match="the generator's state must be of PCG64, got None"):
        check_generator_state(state, "PCG64")


_VERSION, _NUMBERS, _ = random.Random(1).getstate()
NO_PYTHON: dict[str, Any] = {
    "nothing": None,
    "two parts": [3, []],
    "too few": [3, [1, 2], None],
    "beyond its numbers": [3, [*_NUMBERS[:-1], 625], None],
    "before its numbers": [3, [*_NUMBERS[:-1], -1], None],
    "fractions": [3, [0.5] * 625, None],
    "too large": [3, [2**70] * 625, None],
    "no numbers": [3, 3, None],
    "an unknown version": [9, list(_NUMBERS), None],
    "text waiting": [3, list(_NUMBERS), "0"],
}


@pytest.mark.parametrize("case", NO_PYTHON)
def test_a_broken_state_of_pythons_generator_is_refused(case: str) -> None:
    generator = random.Random(7)
    with pytest.raises(ValueError, match="this is no state of Python's generator"):
        set_python_state(generator, NO_PYTHON[case])
    assert generator.random() == random.Random(7).random()


@pytest.mark.parametrize(
    ("value", "why"),
    [([{1}], r"it\[0\] is a builtins\.set"), ({"a": len}, r"it\['a'\] is a"), ({(1, 2): 3}, r"it has the key \(1, 2\)")],
    ids=str,
)
def test_what_is_not_plain_is_named(value: Any, why: str) -> None:
    check_plain([1, (None, {"a": np.zeros(2)}, deque([b""])), th.zeros(1), {3: 1.0}], "it")
    with pytest.raises(EnvStateError, match=why):
        check_plain(value, "it")


def test_slots_are_found() -> None:
    class Slotted(Holder):
        __slots__ = ("hidden",)

    assert slots_of(Slotted()) == ["hidden"]
    assert slots_of(Holder()) == []
