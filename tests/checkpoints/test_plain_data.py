import json
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drqn_sb3.checkpoints.plain import NotPlainError, is_plain, pack, unpack

DTYPES = st.sampled_from([np.uint8, np.int64, np.float16, np.float32, np.float64, np.bool_, np.complex64])
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
SCALARS = ARRAYS.filter(lambda array: array.size > 0).map(lambda array: array.reshape(-1)[0])
TENSORS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=3)).map(th.from_numpy)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5), ARRAYS, SCALARS, TENSORS
)
LONG_LISTS = st.one_of(st.lists(st.floats(), min_size=14, max_size=20), st.lists(st.integers(), min_size=14, max_size=20))
KEYS = st.one_of(st.text(max_size=3), st.sampled_from(["!", "!tuple", "!array"]), st.integers())
PLAIN = st.recursive(
    LEAVES | LONG_LISTS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(lambda values: deque(values, maxlen=7)),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=15,
)


def round_trip(data: Any) -> Any:
    structure, arrays = pack(data)
    return unpack(json.loads(json.dumps(structure)), arrays)


def assert_same(left: Any, right: Any) -> None:
    """Compare type by type: 1 is not 1.0, a list no tuple, and NaN is itself."""
    assert type(left) is type(right)
    if isinstance(left, np.ndarray | np.generic):
        assert left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    elif isinstance(left, th.Tensor):
        assert left.dtype == right.dtype
        assert th.equal(left.view(th.uint8) if left.dim() else left, right.view(th.uint8) if right.dim() else right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple | deque):
        assert len(left) == len(right)
        assert getattr(left, "maxlen", None) == getattr(right, "maxlen", None)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right or (left != left and right != right)


@given(PLAIN)
def test_plain_data_come_back_as_they_were(data: Any) -> None:
    assert_same(round_trip(data), data)


CASES = {
    "bfloat16": th.tensor([[1.5, -2.0]], dtype=th.bfloat16),
    "int64 tensor": th.tensor(3),
    "bool tensor": th.tensor([True]),
    "a number beyond 64 bits": [2**70] * 20,
    "many floats": [0.1 * index for index in range(100)],
    "minus zero": -0.0,
    "an array of text": np.array(["a", "bc"]),
    "a transposed array": np.arange(6).reshape(2, 3).T,
    "numpy's generator": np.random.default_rng(1).bit_generator.state,
    "the older one": np.random.RandomState(1).get_state(legacy=False),
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES.keys())
def test_special_data_come_back_as_they_were(data: Any) -> None:
    assert_same(round_trip(data), data)


def test_an_ordered_dict_becomes_a_plain_one() -> None:
    assert_same(round_trip(OrderedDict(b=1, a=2)), {"b": 1, "a": 2})


def test_what_was_packed_is_not_tied_to_what_is_unpacked() -> None:
    tensor = th.nn.Parameter(th.ones(2))
    unpacked = round_trip({"weight": tensor})["weight"]
    assert not unpacked.requires_grad


NOT_PLAIN = {
    "an object": (object(), "this is a builtins.object"),
    "a class within": ({"a": [1, (int,)]}, r"\['a'\]\[1\]\[0\] is a builtins.type"),
    "a set": ({1}, "builtins.set"),
    "an array of objects": ({"x": np.array([None])}, r"\['x'\] is an array of object"),
    "a generator": (np.random.default_rng(), "Generator"),
    "a key": ({(1, object()): 2}, "a key of"),
}


@pytest.mark.parametrize(("data", "words"), NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_anything_else_is_refused_by_name(data: Any, words: str) -> None:
    assert not is_plain(data)
    with pytest.raises(NotPlainError, match=words):
        pack(data)


BROKEN = {
    "an array that is not there": {"!array": 3},
    "an unknown tag": {"!os.system": 0},
    "no place": {"!array": "x"},
    "no pairs": {"!dict": [1]},
    "no length": {"!deque": []},
}


@pytest.mark.parametrize("structure", BROKEN.values(), ids=BROKEN.keys())
def test_what_was_not_packed_is_refused(structure: Any) -> None:
    with pytest.raises(ValueError, match="not packed data"):
        unpack(structure, [np.zeros(1)])


MISFITS: dict[str, tuple[Any, np.ndarray]] = {
    "a list of bytes": ({"!list": 0}, np.zeros(20, np.uint8)),
    "a list of lists": ({"!list": 0}, np.zeros((20, 0))),
    "a list of one number": ({"!list": 0}, np.array(1.0)),
    "a scalar of many": ({"!scalar": 0}, np.zeros(2)),
    "bytes of numbers": ({"!bytes": 0}, np.zeros(2)),
    "a tensor of text": ({"!tensor": 0, "dtype": "float32"}, np.array(["a"])),
    "one array in two places": ([{"!array": 0}, {"!array": 0}], np.zeros(2)),
    "a deque beyond all bounds": ({"!deque": [], "maxlen": 2**70}, np.zeros(2)),
}


@pytest.mark.parametrize("case", MISFITS)
def test_arrays_that_nobody_packed_so_are_refused(case: str) -> None:
    structure, array = MISFITS[case]
    with pytest.raises(ValueError, match="not packed data"):
        unpack(structure, [array])
