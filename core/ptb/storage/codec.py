"""Nested Python values as JSON and tensors, and back, without pickle: what a checkpoint holds.

``None``, bools, ints, finite floats, strings, lists, and dicts with string keys are JSON as they are. Any other value
is a dict with one key that names its type, such as ``{":tuple": [0.9, 0.999]}``. A tensor is
``{":tensor": "optimizer.state.0.exp_avg"}``, and its data is stored under that name. Other types are refused.
"""

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ptb.device import is_memory_error
from ptb.errors import one_line

MAX_DEPTH = 64
_AS_THEY_ARE = {int, bool, str, type(None)}
Node = Any  # a JSON value


@dataclass(frozen=True)
class State:
    """An encoded value: JSON, and the tensors that it names."""

    node: Node
    tensors: dict[str, Tensor]


class EncodeError(TypeError):
    """A value that a checkpoint cannot hold; the message says which, and where it stands."""


class DecodeError(ValueError):
    """JSON that stands for no value."""


def encode(value: Any) -> State:
    """Encode numbers, strings, tensors, NumPy arrays, dtypes, devices and containers of them; tensors are copied.

    One tensor in several places is stored once, and is one tensor again after ``decode``. Raises ``EncodeError`` if
    something else is among them.
    """
    encoder = _Encoder()
    return State(encoder.node(value, ""), encoder.tensors)


def decode(state: State, device: torch.device | None = None) -> Any:
    """The value of an encoded state, its tensors in memory of their own, laid out as those that were encoded.

    Tensors that were not on the CPU go to ``device``. Raises ``DecodeError`` for what ``encode`` does not return.
    """
    try:
        # A dict of numbers is a dict, a list and pairs, so three levels.
        return _Decoder(state.tensors, device or torch.device("cpu")).value(state.node, 3 * MAX_DEPTH)
    except (TypeError, ValueError, LookupError, RuntimeError, AttributeError, OverflowError) as error:
        if isinstance(error, DecodeError) or is_memory_error(error):
            raise
        raise DecodeError(one_line(error)) from error


class _Encoder:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._kept: list[Tensor] = []  # an id is good only while its object lives

    def node(self, value: Any, path: str, depth: int = MAX_DEPTH) -> Node:
        """The JSON of a value that stands at ``path``, after which its tensors are named."""
        if depth == 0:
            raise EncodeError(f"{path} is nested too deeply")
        kind = type(value)
        if kind in _AS_THEY_ARE or (kind is float and math.isfinite(value)):
            return value
        if isinstance(value, Tensor) and _is_plain(value):
            return self._tensor(value, path)

        def inner(each: Any, name: object) -> Node:
            return self.node(each, f"{path}.{name}".removeprefix("."), depth - 1)

        if kind is list and depth > 1 and {*map(type, value)} <= _AS_THEY_ARE:  # the state of a random generator
            return [*value]
        if kind is list:
            return [inner(each, place) for place, each in enumerate(value)]
        if kind is dict and all(type(key) is str and not key.startswith(":") for key in value):
            return {key: inner(each, key) for key, each in value.items()}
        if kind in _MAPPINGS:
            pairs = []
            for key, each in value.items():
                name = key if isinstance(key, str | int) else "key"
                pairs.append([inner(key, "key"), inner(each, name)])
            return {_MAPPINGS[kind]: pairs}
        form = _FORMS.get(next((base for base in _BASES if isinstance(value, base)), kind))
        if form is None or not form.fits(value):
            what = f"{kind.__module__}.{kind.__qualname__}"
            if isinstance(value, _BASES):
                what += f" of {value.layout if isinstance(value, Tensor) else value.dtype}"
            raise EncodeError(f"{path or 'the value'} is a {what}, not a number, a text or a tensor")
        return {form.tag: self.node(form.flatten(value), path, depth - 1)}

    def _tensor(self, tensor: Tensor, path: str) -> Node:
        if id(tensor) in self._names:
            return {":tensor": self._names[id(tensor)]}
        name = path
        while name in self.tensors:
            name += "~"
        self._names[id(tensor)] = name
        self._kept.append(tensor)
        plain = tensor.detach()
        # A copy: training goes on while the file is written, and safetensors refuses tensors that share memory.
        copied = torch.empty(plain.shape, dtype=plain.dtype).copy_(plain)
        self.tensors[name] = torch.view_as_real(copied) if plain.is_complex() else copied
        node: dict[str, Any] = {":tensor": name}
        if plain.is_complex():
            node["complex"] = True
        if plain.device.type != "cpu":
            node["on"] = plain.device.type
        if not plain.is_contiguous() and _is_dense(plain.shape, plain.stride()):
            node["stride"] = list(plain.stride())
        return node


class _Decoder:
    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self._tensors = tensors
        self._device = device
        self._decoded: dict[str, Tensor] = {}

    def value(self, node: Node, depth: int) -> Any:
        if depth == 0:
            raise DecodeError("nested too deeply")
        if isinstance(node, list):
            return [self.value(inner, depth - 1) for inner in node]
        if not isinstance(node, dict):
            return node
        tag = next((key for key in node if key.startswith(":")), None)
        if tag is None:
            return {key: self.value(inner, depth - 1) for key, inner in node.items()}
        if tag == ":tensor":
            return self._tensor(node)
        if tag not in _REBUILD or len(node) != 1:
            raise DecodeError(f"unknown type {tag}")
        return _REBUILD[tag](self.value(node[tag], depth - 1))

    def _tensor(self, node: Mapping[str, Any]) -> Tensor:
        name = node[":tensor"]
        if name not in self._decoded:
            saved = self._tensors[name]
            if node.get("complex"):
                saved = torch.view_as_complex(saved.contiguous())
            device = self._device if "on" in node else torch.device("cpu")
            stride = node.get("stride")
            if stride is None:
                made = torch.empty(saved.shape, dtype=saved.dtype, device=device)
            elif _is_dense(saved.shape, tuple(stride)):  # others could reach beyond the memory, or ask for much of it
                made = torch.empty_strided(saved.shape, stride, dtype=saved.dtype, device=device)
            else:
                raise DecodeError(f"{name} cannot have the strides {stride}")
            self._decoded[name] = made.copy_(saved)
        return self._decoded[name]


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_meta or tensor.is_nested)


def _is_dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether every value has a place of its own, and there are no places between them."""
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def _flatten_array(array: Any) -> list[Any]:
    data = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
    return [array.dtype.str, list(array.shape), data]


def _rebuild_array(parts: list[Any]) -> Any:
    dtype, shape, data = parts
    kind = np.dtype(dtype)
    if kind.kind not in _ARRAYS:
        raise DecodeError(f"no NumPy array of {dtype}")
    return np.frombuffer(data.numpy().tobytes(), kind).reshape(shape).copy()


def _rebuild_sparse(parts: list[Any]) -> Tensor:
    shape, coalesced, indices, values = parts
    return torch.sparse_coo_tensor(indices, values, shape, is_coalesced=coalesced, check_invariants=True)


def _rebuild_dtype(name: str) -> torch.dtype:
    if not isinstance(dtype := getattr(torch, name), torch.dtype):
        raise DecodeError(f"unknown dtype {name}")
    return dtype


class _Form(NamedTuple):
    """How values of a type become a value that JSON has or that has a form itself, and come back."""

    tag: str
    flatten: Callable[[Any], Any]
    rebuild: Callable[[Any], Any]
    fits: Callable[[Any], bool] = lambda value: True


_ARRAYS = "biuf"  # numbers; objects would be read with pickle
_BASES = (Tensor, np.ndarray, np.generic)
_MAPPINGS: dict[type, str] = {dict: ":dict", OrderedDict: ":ordered", Counter: ":counter"}
_FORMS: dict[type, _Form] = {
    float: _Form(":float", repr, {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}.__getitem__),
    tuple: _Form(":tuple", list, tuple),
    # A set of strings has another order in every process.
    set: _Form(":set", lambda items: sorted(items, key=repr), set),
    frozenset: _Form(":frozenset", lambda items: sorted(items, key=repr), frozenset),
    torch.Size: _Form(":size", list, torch.Size),
    deque: _Form(":deque", lambda items: [items.maxlen, list(items)], lambda parts: deque(parts[1], parts[0])),
    bytes: _Form(":bytes", bytes.hex, bytes.fromhex),
    complex: _Form(":complex", lambda number: [number.real, number.imag], lambda parts: complex(*parts)),
    torch.dtype: _Form(":dtype", lambda dtype: str(dtype).removeprefix("torch."), _rebuild_dtype),
    torch.device: _Form(":device", str, torch.device),
    np.ndarray: _Form(":array", _flatten_array, _rebuild_array, lambda array: array.dtype.kind in _ARRAYS),
    np.generic: _Form(
        ":scalar", _flatten_array, lambda parts: _rebuild_array(parts)[()], lambda scalar: scalar.dtype.kind in _ARRAYS
    ),
    Tensor: _Form(
        ":sparse",
        lambda tensor: [list(tensor.shape), tensor.is_coalesced(), tensor._indices(), tensor._values()],
        _rebuild_sparse,
        lambda tensor: tensor.layout is torch.sparse_coo,
    ),
}
_REBUILD: dict[str, Callable[[Any], Any]] = {
    ":dict": dict,
    ":ordered": OrderedDict,
    ":counter": lambda pairs: Counter(dict(pairs)),
    **{form.tag: form.rebuild for form in _FORMS.values()},
}
