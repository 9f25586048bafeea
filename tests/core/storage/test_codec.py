import json
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptb.storage.checkpoint import load_checkpoint, save_checkpoint
from ptb.storage.codec import MAX_DEPTH, DecodeError, EncodeError, State, decode, encode
from ptb.storage.digest import raw

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
EIGHTHS = (torch.float8_e4m3fn, torch.float8_e5m2)
COMPLEX = (torch.complex64, torch.complex128)
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)
DTYPES = (*FLOATS, *EIGHTHS, *COMPLEX, *WHOLE, torch.bool)


class Loud(str):
    pass


SHAPES = st.lists(st.integers(0, 3), max_size=4)


def again(value, folder):
    """``value`` as it comes out of a checkpoint file."""
    return load_checkpoint(save_checkpoint(folder, 1, {"value": value}, {})).decode()["value"]


def bits(tensor):
    """All that makes a tensor what it is, as bytes."""
    if tensor.layout is torch.sparse_coo:
        parts = (bits(tensor._indices()), bits(tensor._values()))
        return ("sparse", tuple(tensor.shape), tensor.is_coalesced(), *parts)
    plain = tensor.detach().contiguous()
    flat = torch.view_as_real(plain) if plain.is_complex() else plain
    data = raw(flat).numpy().tobytes()
    return (tensor.dtype, tuple(tensor.shape), data)


def shown(value):
    """A value with its types, so that 1, True and 1.0 differ, NaN is like NaN, and -0.0 unlike 0.0."""
    kind = type(value)
    if isinstance(value, torch.Tensor):
        return (torch.Tensor, bits(value))
    if isinstance(value, np.ndarray | np.generic):
        return (kind, value.dtype, value.shape, value.tobytes())
    if kind is float:
        return (float, "nan" if math.isnan(value) else struct.pack("d", value))
    if kind is complex:
        return (complex, shown(value.real), shown(value.imag))
    if kind in (dict, OrderedDict, Counter):
        return (kind, [(shown(key), shown(inner)) for key, inner in value.items()])
    if kind is deque:
        return (kind, value.maxlen, [shown(inner) for inner in value])
    if kind in (set, frozenset):
        return (kind, sorted(repr(shown(inner)) for inner in value))
    if isinstance(value, list | tuple):
        return (kind, [shown(inner) for inner in value])
    return (kind, value)


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(SHAPES)
    size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    data = draw(st.binary(min_size=size, max_size=size))
    if dtype is torch.bool:
        data = bytes(byte & 1 for byte in data)
    flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
    made = flat.reshape(shape)
    if made.ndim > 1 and draw(st.booleans()):
        made = made.transpose(0, 1)
    if made.ndim and made.shape[0] > 1 and draw(st.booleans()):
        made = made[1:]
    if made.ndim and draw(st.booleans()):
        made = made[..., :1].expand(made.shape) if made.shape[-1] else made
    return made


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(["?", "i1", "<i8", ">i4", "u2", "<u8", "f2", ">f4", "<f8"])))
    shape = draw(SHAPES)
    size = math.prod(shape) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if dtype.kind == "b":
        data = bytes(byte & 1 for byte in data)
    array = np.frombuffer(data, dtype).reshape(shape)
    return array if array.size == 0 or draw(st.booleans()) else array.flatten()[0]


KEYS = st.one_of(
    st.text(max_size=4), st.integers(), st.booleans(), st.none(), st.tuples(st.integers(), st.text(max_size=2))
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**63, 2**90),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(max_size=5),
    st.sampled_from([*DTYPES, torch.device("cpu"), torch.device("cuda", 1), torch.Size([2, 3]), torch.Size([])]),
    tensors(),
    arrays(),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict),
        st.dictionaries(KEYS, st.integers(), max_size=3).map(Counter),
        st.sets(KEYS, max_size=3),
        st.frozensets(KEYS, max_size=3),
        st.builds(deque, st.lists(inner, max_size=3), st.sampled_from([None, 2, 5])),
    ),
    max_leaves=8,
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(VALUES)
def test_a_value_comes_out_of_a_file_as_it_went_in(tmp_path, value):
    assert shown(again(value, tmp_path)) == shown(value)


@pytest.mark.reliability
@settings(
    max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(VALUES)
def test_any_value_comes_out_of_a_file_as_it_went_in(tmp_path, value):
    assert shown(again(value, tmp_path)) == shown(value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3)], ids=str)
def test_every_dtype_and_shape_keeps_its_bits(tmp_path, dtype, shape):
    size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    data = bytearray(byte % 2 if dtype is torch.bool else byte * 37 % 256 for byte in range(size))
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    assert bits(again(flat.reshape(shape), tmp_path)) == bits(flat.reshape(shape))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 2.0**-1074, 1e308, 0.1])
def test_a_float_keeps_its_bits(tmp_path, number):
    assert shown(again([number, complex(number, -0.0)], tmp_path)) == shown([number, complex(number, -0.0)])


def test_a_nan_keeps_its_payload_in_a_tensor(tmp_path):
    payload = torch.tensor([0x7FC12345, 0x7F800001], dtype=torch.int32).view(torch.float32)
    assert bits(again(payload, tmp_path)) == bits(payload)


@pytest.mark.parametrize(
    ("tensor", "dense"),
    [
        (torch.arange(24.0).view(2, 3, 4), True),
        (torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1), True),
        (torch.arange(48.0).view(2, 3, 2, 4).to(memory_format=torch.channels_last), True),
        (torch.arange(6.0).view(2, 3).t(), True),
        (torch.arange(10.0)[::2], False),
        (torch.arange(3.0)[:, None].expand(3, 4), False),
        (torch.arange(20.0).view(4, 5)[1:3, 1:4], False),
        (torch.arange(6.0).as_strided((3, 3), (1, 1)), False),
    ],
    ids=["plain", "permuted", "channels-last", "transposed", "every-other", "expanded", "window", "overlapping"],
)
def test_a_tensor_is_laid_out_as_before_where_it_fills_its_memory(tmp_path, tensor, dense):
    read = again(tensor, tmp_path)
    assert torch.equal(read, tensor)
    assert read.untyped_storage().nbytes() == tensor.numel() * 4
    if dense:
        assert read.stride() == tensor.stride()
    else:
        assert read.is_contiguous()


def test_a_conjugated_and_a_negated_view_keep_their_values(tmp_path):
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    assert torch.equal(again(tensor.conj(), tmp_path), tensor.conj())
    assert torch.equal(again(tensor.conj().imag, tmp_path), tensor.conj().imag)


@pytest.mark.parametrize("coalesced", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.int64, torch.bool], ids=str)
def test_a_sparse_tensor_keeps_its_entries_in_their_order(tmp_path, coalesced, dtype):
    indices, values = torch.tensor([[2, 0, 2], [1, 1, 1]]), torch.tensor([1, 0, 1]).to(dtype)
    tensor = torch.sparse_coo_tensor(indices, values, (3, 2), check_invariants=True)
    tensor = tensor.coalesce() if coalesced and dtype is not torch.bool else tensor
    read = again({"grad": tensor}, tmp_path)["grad"]
    assert bits(read) == bits(tensor)
    hybrid = torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.ones(2, 3), (4, 3), check_invariants=True)
    assert bits(again(hybrid, tmp_path)) == bits(hybrid)


def test_what_is_one_tensor_in_several_places_is_one_again(tmp_path):
    tensor = torch.ones(2)
    read = again({"a": tensor, "b": [tensor, torch.ones(2)], "view": tensor[:]}, tmp_path)
    assert read["a"] is read["b"][0]
    assert read["a"] is not read["b"][1]
    read["a"] += 1
    assert read["view"].tolist() == [1, 1]


def test_one_sparse_tensor_in_two_places_keeps_its_bits(tmp_path):
    tensor = torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (2,), check_invariants=True)
    read = again([tensor, tensor], tmp_path)
    assert [bits(each) for each in read] == [bits(tensor)] * 2


def test_a_parameter_comes_back_as_a_plain_tensor(tmp_path):
    read = again(torch.nn.Parameter(torch.ones(2)), tmp_path)
    assert (type(read), read.requires_grad) == (torch.Tensor, False)


def test_what_is_written_is_a_copy():
    tensor = torch.zeros(3)
    state = encode([tensor, np.zeros(2)])
    tensor += 1
    assert decode(state)[0].tolist() == [0, 0, 0]


def test_what_is_read_is_writable_and_apart_from_the_file():
    state = encode([torch.zeros(3), np.zeros(2)])
    tensor, array = decode(state)
    tensor += 1
    array += 1
    assert [each.tolist() for each in decode(state)] == [[0, 0, 0], [0, 0]]


@pytest.mark.parametrize("value", [1, None, (1, 2.5), torch.ones(2), {"a": {3: torch.ones(1)}}], ids=repr)
def test_any_value_may_stand_alone(value):
    assert shown(decode(encode(value))) == shown(value)


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_is_the_same_json_in_every_process(kind):
    words = [f"word {number}" for number in range(100, 130)]
    assert encode(kind(words)).node == {f":{kind.__name__}": words}


def test_a_tensor_is_named_after_its_place():
    state = encode({"model": {"layer.weight": torch.ones(1)}, "optimizer": {"state": {0: {"step": torch.ones(1)}}}})
    assert [*state.tensors] == ["model.layer.weight", "optimizer.state.0.step"]


def test_a_tensor_of_another_device_goes_where_it_is_wanted():
    state = encode([torch.ones(2), torch.ones(2)])
    state.node[1]["on"] = "meta"
    assert [each.device.type for each in decode(state, torch.device("meta"))] == ["cpu", "meta"]
    assert [each.device.type for each in decode(state)] == ["cpu", "cpu"]


def test_names_that_meet_do_not_lose_a_tensor(tmp_path):
    value = {"a.0": torch.zeros(1), "a": [torch.ones(1)], 1: torch.full((1,), 2.0), "1": torch.full((1,), 3.0)}
    assert shown(again(value, tmp_path)) == shown(value)


def test_keys_that_look_like_types_are_only_keys(tmp_path):
    value = {":tensor": "optimizer", ":tuple": [1], "plain": {":": 0}}
    assert again(value, tmp_path) == value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [1, (object(),)]}, "a.1.0 is a builtins.object"),
        ({"a": {3: len}}, "a.3 is a builtins.builtin_function_or_method"),
        (Fraction(1, 2), "the value is a fractions.Fraction"),
        ({"made": defaultdict(list)}, "made is a collections.defaultdict"),
        ({"kind": int}, "kind is a builtins.type"),
        ([np.array(["text"])], "0 is a numpy.ndarray of <U4"),
        ([np.array([object()])], "0 is a numpy.ndarray of object"),
        ([np.array([1j])], "0 is a numpy.ndarray of complex128"),
        ([np.array(["text"])[0]], "0 is a numpy.str_ of <U4"),
        ([np.zeros(2, [("a", "i4")])], "0 is a numpy.ndarray of"),
        ({"t": torch.empty(2, device="meta")}, "t is a torch.Tensor of torch.strided"),
        ([Loud("a")], "Loud, not a number, a text or a tensor"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,  # repr has addresses
)
def test_what_cannot_be_written_is_named_with_its_place(value, told):
    with pytest.raises(EncodeError) as error:
        encode(value)
    assert told in str(error.value)


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:.*quantiz")
@pytest.mark.parametrize(
    "made",
    [lambda: torch.eye(2).to_sparse_csr(), lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)],
    ids=["csr", "quantized"],
)
def test_a_tensor_of_another_layout_is_refused(made):
    with pytest.raises(EncodeError, match=r"t is a torch.Tensor of torch\."):
        encode({"t": made()})


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(EncodeError, match="is nested too deeply"):
        encode(value)


def test_what_can_be_written_can_be_read_however_deep(tmp_path):
    for wrap in (lambda value: [value], lambda value: (value,), lambda value: {"a": value}, lambda value: {1: value}):
        value = 1
        for _ in range(MAX_DEPTH):
            with suppress(EncodeError):
                encode({"value": wrap(value)})
                value = wrap(value)
        assert again(value, tmp_path) == value
        with pytest.raises(EncodeError, match="is nested too deeply"):
            encode({"value": wrap(value)})


NODES = [
    {":pickle": "x"},
    {":tensor": "other"},
    {":tensor": None},
    {":tensor": ["kept"]},
    {":tensor": {"a": 1}},
    {":tensor": "kept", "stride": [10**15, 1]},
    {":tensor": "kept", "stride": [6, 2]},
    {":tensor": "kept", "stride": [0, 0]},
    {":tensor": "kept", "stride": [-3, 1]},
    {":tensor": "kept", "stride": [1]},
    {":tensor": "kept", "stride": "ab"},
    {":tensor": "kept", "stride": 7},
    {":tensor": "kept", "stride": [1.0, 2.0]},
    {":tensor": "kept", "stride": [True, 2]},
    {":tensor": "kept", "complex": True},
    {":tensor": "whole", "complex": True},
    {":tuple": 5},
    {":tuple": None},
    {":tuple": [1], "more": 2},
    {":set": [[1]]},
    {":set": [{"a": 1}]},
    {":dict": [[1]]},
    {":dict": [[[1], 2]]},
    {":dict": 3},
    {":ordered": [1, 2]},
    {":counter": "ab"},
    {":deque": []},
    {":deque": [-1, []]},
    {":deque": ["a", []]},
    {":deque": [10**30, []]},
    {":float": "1.5"},
    {":float": 1.5},
    {":float": ["nan"]},
    {":complex": [1, 2, 3]},
    {":complex": ["a", "b"]},
    {":complex": 4},
    {":bytes": "xyz"},
    {":bytes": 3},
    {":size": ["a"]},
    {":size": [1.5]},
    {":dtype": "nn"},
    {":dtype": "load"},
    {":dtype": "__name__"},
    {":dtype": 3},
    {":device": "moon"},
    {":device": 10**30},
    {":device": None},
    {":sparse": [[2], True]},
    {":sparse": [[2], True, {":tensor": "kept"}, {":tensor": "whole"}]},
    {":sparse": [[10**18], False, {":tensor": "whole"}, {":tensor": "kept"}]},
    {":sparse": [["a"], False, {":tensor": "index"}, {":tensor": "vector"}]},
    {":sparse": [[1], False, {":tensor": "index"}, {":tensor": "vector"}]},
    {":array": ["O", [1], {":tensor": "bytes"}]},
    {":array": ["<f8", [10**12], {":tensor": "bytes"}]},
    {":array": ["<f8", [-1, -1], {":tensor": "bytes"}]},
    {":array": ["V8", [1], {":tensor": "bytes"}]},
    {":array": ["<U2", [1], {":tensor": "bytes"}]},
    {":array": [["a"], [1], {":tensor": "bytes"}]},
    {":array": ["<f8", [1], [1, 2]]},
    {":array": ["<f8", "x", {":tensor": "bytes"}]},
    {":array": [None, None]},
    {":scalar": ["O", [], {":tensor": "bytes"}]},
    {":scalar": 1},
    {":": 1},
]
KEPT = {
    "kept": torch.zeros(2, 3),
    "whole": torch.zeros(2, 2, dtype=torch.int64),
    "index": torch.tensor([[5, 0]]),
    "vector": torch.ones(2),
    "bytes": torch.zeros(8, dtype=torch.uint8),
}


@pytest.mark.parametrize("node", NODES, ids=lambda node: json.dumps(node)[:50])
@pytest.mark.parametrize("around", [lambda node: node, lambda node: {"a": [node]}], ids=["bare", "inside"])
def test_a_node_that_no_writer_gives_is_unreadable(node, around):
    with pytest.raises(DecodeError):
        decode(State(around(node), KEPT))


@pytest.mark.parametrize("wrap", [lambda node: [node], lambda node: {"a": node}, lambda node: {":tuple": [node]}])
def test_a_node_that_is_nested_without_end_is_unreadable(wrap):
    node = 1
    for _ in range(5000):
        node = wrap(node)
    with pytest.raises(DecodeError, match="nested too deeply"):
        decode(State(node, {}))


TYPES = ("tensor", "float", "dict", "ordered", "counter", "tuple", "set", "frozenset", "size", "deque", "bytes")
TYPES += ("complex", "dtype", "device", "sparse", "array", "scalar")
JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from([*KEPT, "nan", "<f8", "O", "float32"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from([*(f":{name}" for name in TYPES), "stride", "complex", "on", "a"]),
            inner,
            max_size=2,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JUNK)
def test_a_node_is_a_value_or_unreadable(node):
    try:
        value = decode(State(node, KEPT))
    except DecodeError:
        return
    encode(value)


@pytest.mark.reliability
@settings(max_examples=20_000, deadline=None)
@given(JUNK)
def test_any_node_is_a_value_or_unreadable(node):
    try:
        decode(State(node, KEPT))
    except DecodeError:
        return
