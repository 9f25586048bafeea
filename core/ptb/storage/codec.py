"""Python values as JSON and tensors, and back: what a checkpoint holds, without pickle.

A value is written as itself where JSON has it: None, bools, ints, finite floats, strings, lists, and dicts of strings.
Everything else is a table of one key that tells its type, ``{":tuple": [0.9, 0.999]}``; a tensor is
``{":tensor": "optimizer.state.0.exp_avg"}``, its bytes stand in the file under that name. Types that are not listed
here are neither written nor read.
"""

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptb.errors import one_line

MAX_DEPTH = 64
Node = Any  # a JSON value


@dataclass(frozen=True)
class State:
    """A tree of JSON, and the tensors whose names stand in it."""

    node: Node
    tensors: dict[str, Tensor]


class EncodeError(TypeError):
    """A value that a checkpoint cannot hold; the message names it and where it stands."""


class DecodeError(ValueError):
    """A node that stands for no value."""


class Encoder:
    """Writes values; the tensors are collected under the names that the nodes tell.

    One tensor that stands in several places is written once, and is one tensor again when it is read.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # an id is good while its object lives

    def node(self, value: Any, path: str) -> Node:
        """The node of a value that stands at ``path``.

        Raises:
            EncodeError: there is something else than tensors, numbers, texts and containers of them.
        """
        return self._node(value, path, MAX_DEPTH)

    def _node(self, value: Any, path: str, depth: int) -> Node:
        kind = type(value)
        if depth == 0:
            raise EncodeError(f"{path} is nested too deeply")
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {":float": repr(value)}
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if kind is dict and all(type(key) is str and not key.startswith(":") for key in value):
            return {key: self._node(inner, f"{path}.{key}", depth - 1) for key, inner in value.items()}
        if kind in _PAIRED:
            pairs = [
                [self._node(key, f"{path}.key", depth - 1), self._node(inner, f"{path}.{_short(key)}", depth - 1)]
                for key, inner in value.items()
            ]
            return {_PAIRED[kind]: pairs}
        if kind in _LISTED:
            # The order of a set of texts is another one in every process.
            ordered = sorted(value, key=repr) if kind in (set, frozenset) else value
            items = [self._node(inner, f"{path}.{place}", depth - 1) for place, inner in enumerate(ordered)]
            return items if kind is list else {_LISTED[kind]: items}
        if kind is deque:
            items = [self._node(inner, f"{path}.{place}", depth - 1) for place, inner in enumerate(value)]
            return {":deque": [value.maxlen, items]}
        if isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
            if array.dtype.kind not in "biuf":
                raise EncodeError(f"{path} is a NumPy array of {array.dtype}")
            words = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
            form = [array.dtype.str, list(array.shape), isinstance(value, np.ndarray)]
            return {":numpy": [form, self._tensor(words, path)]}
        if kind is bytes:
            return {":bytes": value.hex()}
        if kind is complex:
            return {":complex": [self._node(value.real, path, 1), self._node(value.imag, path, 1)]}
        if kind is torch.dtype:
            return {":dtype": str(value).removeprefix("torch.")}
        if kind is torch.device:
            return {":device": str(value)}
        raise EncodeError(f"{path} is a {kind.__module__}.{kind.__qualname__}, not a number, a text or a tensor")

    def _tensor(self, tensor: Tensor, path: str) -> Node:
        if id(tensor) in self._names:
            return {":tensor": self._names[id(tensor)]}
        plain = tensor.detach()
        if plain.layout is torch.sparse_coo:
            parts = [
                self._tensor(part, f"{path}.{name}")
                for name, part in (("indices", plain._indices()), ("values", plain._values()))
            ]
            return {":sparse": [list(plain.shape), plain.is_coalesced(), *parts]}
        if plain.layout is not torch.strided or plain.is_quantized or plain.is_meta or plain.is_nested:
            raise EncodeError(f"{path} is a tensor of layout {plain.layout}")
        name = path
        while name in self.tensors:
            name += "~"
        self._names[id(tensor)] = name
        self._kept.append(tensor)
        # A copy: the training goes on while the file is written, and views and tied weights get memory of their own.
        copied = torch.empty(plain.shape, dtype=plain.dtype).copy_(plain)
        self.tensors[name] = torch.view_as_real(copied) if plain.is_complex() else copied
        facts: dict[str, Any] = {":tensor": name}
        if plain.is_complex():
            facts["complex"] = True
        if plain.device.type != "cpu":
            facts["on"] = plain.device.type
        if not plain.is_contiguous() and _dense(plain.shape, plain.stride()):
            facts["stride"] = list(plain.stride())
        return facts


class Decoder:
    """Reads nodes back; each tensor in memory of its own, allocated as that of a run which was never stopped."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | None = None) -> None:
        self._tensors = tensors
        self._device = device or torch.device("cpu")
        self._made: dict[str, Tensor] = {}

    def value(self, node: Node) -> Any:
        """The value of a node.

        Raises:
            DecodeError: it is none that a ``Encoder`` gives.
        """
        try:
            return self._value(node, 2 * MAX_DEPTH + 2)  # a tuple is a table and a list
        except DecodeError:
            raise
        except (TypeError, ValueError, LookupError, RuntimeError, AttributeError, OverflowError) as error:
            raise DecodeError(one_line(error)) from error

    def _value(self, node: Node, depth: int) -> Any:
        if depth == 0:
            raise DecodeError("nested too deeply")
        if isinstance(node, list):
            return [self._value(inner, depth - 1) for inner in node]
        if not isinstance(node, dict):
            return node
        tag = next((key for key in node if key.startswith(":")), None)
        if tag is None:
            return {key: self._value(inner, depth - 1) for key, inner in node.items()}
        if tag == ":tensor":
            return self._tensor(node)
        if tag not in _READ or len(node) != 1:
            raise DecodeError(f"unknown type {tag}")
        return _READ[tag](self, node[tag], depth - 1)

    def _tensor(self, node: Mapping[str, Any]) -> Tensor:
        name = node[":tensor"]
        if name not in self._made:
            saved = self._tensors[name]
            if node.get("complex"):
                saved = torch.view_as_complex(saved.contiguous())
            device = self._device if "on" in node else torch.device("cpu")
            stride = node.get("stride")
            if stride is None:
                made = torch.empty(saved.shape, dtype=saved.dtype, device=device)
            elif _dense(saved.shape, tuple(stride)):
                made = torch.empty_strided(saved.shape, stride, dtype=saved.dtype, device=device)
            else:
                raise DecodeError(f"{name} cannot have the strides {stride}")
            self._made[name] = made.copy_(saved)
        return self._made[name]

    def _pairs(self, node: Node, depth: int) -> dict[Any, Any]:
        return {self._value(key, depth): self._value(inner, depth) for key, inner in node}

    def _sparse(self, node: Node, depth: int) -> Tensor:
        shape, coalesced, indices, values = node
        return torch.sparse_coo_tensor(
            self._value(indices, depth),
            self._value(values, depth),
            shape,
            is_coalesced=coalesced,
            check_invariants=True,
        )

    def _numpy(self, node: Node, depth: int) -> Any:
        (dtype, shape, is_array), words = node
        kind = np.dtype(dtype)
        if kind.kind not in "biuf":
            raise DecodeError(f"no NumPy array of {dtype}")
        array = np.frombuffer(self._value(words, depth).numpy().tobytes(), kind).reshape(shape)
        return array.copy() if is_array else array[()]


def raw(tensor: Tensor) -> Tensor:
    """The bytes of a tensor in the order of its values, uint8 ``[N]``, on its device."""
    dense = tensor.detach().contiguous()
    # Of one value, the strides may be any: torch calls it contiguous and does not view it as bytes.
    return dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise DecodeError(f"unknown dtype {name}")
    return found


def _dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether every value has a place of its own and there are no places between them."""
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def _short(key: Any) -> str:
    return str(key) if isinstance(key, str | int) else "key"


_PAIRED: dict[type, str] = {dict: ":dict", OrderedDict: ":ordered", Counter: ":counter"}
_LISTED: dict[type, str] = {list: "", tuple: ":tuple", set: ":set", frozenset: ":frozenset", torch.Size: ":size"}
_READ: dict[str, Callable[[Decoder, Node, int], Any]] = {
    ":float": lambda _, node, __: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[node],
    ":dict": lambda reader, node, depth: reader._pairs(node, depth),
    ":ordered": lambda reader, node, depth: OrderedDict(reader._pairs(node, depth)),
    ":counter": lambda reader, node, depth: Counter(reader._pairs(node, depth)),
    ":tuple": lambda reader, node, depth: tuple(reader._value(node, depth)),
    ":set": lambda reader, node, depth: set(reader._value(node, depth)),
    ":frozenset": lambda reader, node, depth: frozenset(reader._value(node, depth)),
    ":size": lambda reader, node, depth: torch.Size(reader._value(node, depth)),
    ":deque": lambda reader, node, depth: deque(reader._value(node[1], depth), node[0]),
    ":bytes": lambda _, node, __: bytes.fromhex(node),
    ":complex": lambda reader, node, depth: complex(*reader._value(node, depth)),
    ":dtype": lambda _, node, __: _dtype(node),
    ":device": lambda _, node, __: torch.device(node),
    ":sparse": lambda reader, node, depth: reader._sparse(node, depth),
    ":numpy": lambda reader, node, depth: reader._numpy(node, depth),
}
