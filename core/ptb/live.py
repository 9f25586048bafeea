"""The state of objects that have no ``state_dict``, or keep some of it elsewhere: metrics, losses, counters of a model.

What is looked at are an object's attributes, and those of the modules and objects of its own package that they lead to:
numbers, texts, tensors and containers of them, members of enumerations, named tuples and frozen dataclasses, buffers,
and generators of random numbers. Functions, files and whatever else stands for no number are left alone.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.errors import one_line
from ptb.tree import Node, Reader, Unreadable, Unwritable, Writer, raw

# What torch keeps in every module; hooks are no numbers, parameters and modules are looked at by themselves.
_OF_TORCH = set(vars(nn.Module())) - {"training"}
_OF_OPTIMIZERS = {"state", "param_groups", "defaults"}  # their state_dict tells these
_CONTAINERS = (list, tuple, dict, set)
_GENERATORS: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], object]]] = {
    torch.Generator: (torch.Generator.get_state, torch.Generator.set_state),
    random.Random: (random.Random.getstate, random.Random.setstate),
    np.random.RandomState: (
        lambda random: random.get_state(legacy=False),
        lambda random, state: random.set_state(state),
    ),
    np.random.Generator: (
        lambda random: random.bit_generator.state,
        lambda random, state: setattr(random.bit_generator, "state", state),
    ),
}


def capture(root: object, path: str, writer: Writer, known: Iterable[Tensor] = ()) -> Node:
    """The state of ``root`` as a node.

    Args:
        root: a metric, a loss, a model.
        path: what its tensors are called in the file.
        writer: collects the tensors.
        known: tensors that are saved elsewhere; neither they nor views of them are taken.

    Raises:
        Unwritable: ``state_dict`` of an object that has one gives something that cannot be saved.
    """
    return _Capture(root, writer, known).of(root, path)


def restore(root: object, node: Node, reader: Reader) -> None:
    """Puts a captured state into an object that was built in the same way.

    Raises:
        Unreadable: it is the state of something else.
    """
    try:
        _Restore(root, reader).all(node)
    except Unreadable:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        raise Unreadable(f"no state of a {type(root).__name__}: {one_line(error)}") from error


class _Walk:
    """Which attributes belong to the state of an object."""

    def __init__(self, root: object) -> None:
        self._package = type(root).__module__.partition(".")[0]
        self.seen: set[int] = set()

    def attributes(self, owner: object) -> Iterator[tuple[str, Any]]:
        if isinstance(owner, Optimizer) and type(owner).__module__.startswith("torch."):
            return  # their state_dict tells all
        for name, value in list(getattr(owner, "__dict__", {}).items()):
            module = isinstance(owner, nn.Module) and name in _OF_TORCH
            if not module and not (isinstance(owner, Optimizer) and (name in _OF_OPTIMIZERS or "_hooks" in name)):
                yield name, value
        for kind in type(owner).__mro__:
            for name in _slots(kind):
                if hasattr(owner, name):
                    yield name, getattr(owner, name)

    def leads_on(self, value: object) -> bool:
        """Whether the state goes on in this object."""
        if isinstance(value, nn.Module):
            return True
        if isinstance(value, (type, Tensor, Enum, *_GENERATORS)):
            return False
        if not hasattr(value, "__dict__") and not any(map(_slots, type(value).__mro__)):
            return False
        return self._of_package(value) and not _is_frozen(value)

    def made_of(self, value: object) -> Any:
        """The parts of an object that is made anew, like the one that is there when it is read; None of others."""
        if type(value) is defaultdict:
            return dict(value)
        if not self._of_package(value):
            return None
        if isinstance(value, Enum):
            return value.name
        if isinstance(value, tuple) and hasattr(value, "_make"):  # a named one
            return list(value)
        if _is_frozen(value):
            return {each.name: getattr(value, each.name) for each in fields(value)}  # type: ignore[arg-type]
        return None

    def _of_package(self, value: object) -> bool:
        return type(value).__module__.partition(".")[0] == self._package

    def inner(self, owner: object) -> Iterator[tuple[str, object]]:
        """The objects that an object leads to, by the path to each, every one once."""
        if isinstance(owner, nn.Module):
            yield from self._once((f"_modules.{name}", module) for name, module in owner._modules.items())
        for name, value in self.attributes(owner):
            if isinstance(value, list | tuple):
                yield from self._once((f"{name}.{place}", each) for place, each in enumerate(value))
            elif isinstance(value, dict):
                yield from self._once((f"{name}.{key}", each) for key, each in value.items())
            else:
                yield from self._once([(name, value)])

    def _once(self, pairs: Iterable[tuple[str, object]]) -> Iterator[tuple[str, object]]:
        for name, value in pairs:
            if id(value) not in self.seen and self.leads_on(value):
                self.seen.add(id(value))
                yield name, value


class _Capture(_Walk):
    def __init__(self, root: object, writer: Writer, known: Iterable[Tensor]) -> None:
        super().__init__(root)
        self.seen.add(id(root))
        self._writer = writer
        self._known = {_memory(tensor) for tensor in known}

    def of(self, owner: object, path: str) -> Node:
        if _has_own_state(owner):
            return {"state": self._writer.node(owner.state_dict(), path)}  # type: ignore[attr-defined]
        node: dict[str, Any] = {"values": {}, "made": {}, "generators": {}, "objects": {}}
        buffers = owner._buffers.items() if isinstance(owner, nn.Module) else ()
        node["buffers"] = {
            name: self._writer.node(buffer, f"{path}.{name}")
            for name, buffer in buffers
            if buffer is None or _memory(buffer) not in self._known
        }
        for name, value in self.attributes(owner):
            read = next((read for kind, (read, _) in _GENERATORS.items() if isinstance(value, kind)), None)
            if read is not None:
                node["generators"][name] = self._writer.node(read(value), f"{path}.{name}")
            elif not self._shared(value):
                try:
                    node["values"][name] = self._writer.node(value, f"{path}.{name}")
                except Unwritable:  # no number: it is built again, or leads on
                    with suppress(Unwritable):
                        if (parts := self.made_of(value)) is not None and not self._shared(parts):
                            node["made"][name] = self._writer.node(parts, f"{path}.{name}")
        node["objects"] = {name: self.of(value, f"{path}.{name}") for name, value in self.inner(owner)}
        return {key: inner for key, inner in node.items() if inner}

    def _shared(self, value: object) -> bool:
        """Whether it holds a tensor that is trained, or saved elsewhere."""
        if isinstance(value, Tensor):
            return value.requires_grad or _memory(value) in self._known
        if isinstance(value, dict):
            return any(map(self._shared, value.values()))
        return isinstance(value, _CONTAINERS) and any(map(self._shared, value))


class _Restore(_Walk):
    def __init__(self, root: object, reader: Reader) -> None:
        super().__init__(root)
        self.seen.add(id(root))
        self._root = root
        self._reader = reader
        self._placed: dict[int, Tensor] = {}  # by the id of what was read: one tensor becomes one again
        self._filled: list[tuple[Callable[[Tensor], None], Tensor, Tensor]] = []

    def all(self, node: Node) -> None:
        self._into(self._root, node)
        # Those that share memory here may have had values of their own; the last one has it now.
        for write, current, value in self._filled:
            if not _same(current, value):
                write(value)

    def _into(self, owner: object, node: Node) -> None:
        if not isinstance(node, dict):
            raise Unreadable(f"no state of a {type(owner).__name__}")
        if _has_own_state(owner):
            owner.load_state_dict(self._reader.value(node.get("state")))  # type: ignore[attr-defined]
            return
        inner = dict(self.inner(owner))  # as they are now: values may be put in their place below
        attributes = dict(self.attributes(owner))
        for name, each in node.get("buffers", {}).items():
            if not isinstance(owner, nn.Module) or name not in owner._buffers:
                raise Unreadable(f"{type(owner).__name__} has no buffer {name}")
            self._put(owner._buffers[name], self._reader.value(each), partial(owner._buffers.__setitem__, name))
        for name, each in node.get("generators", {}).items():
            for kind, (_, write) in _GENERATORS.items():
                if isinstance(attributes[name], kind):
                    write(attributes[name], self._reader.value(each))
                    break
            else:
                raise Unreadable(f"{type(owner).__name__}.{name} is no generator of random numbers")
        for name, each in node.get("values", {}).items():
            if callable(attributes.get(name)) or callable(getattr(type(owner), name, None)):
                raise Unreadable(f"{type(owner).__name__}.{name} is no value")
            self._put(attributes.get(name), self._reader.value(each), partial(_assign, owner, name))
        for name, each in node.get("made", {}).items():
            current, parts = attributes.get(name), self._reader.value(each)
            before = self.made_of(current)
            if before is not None and not _equal(before, parts):
                _assign(owner, name, _made(current, parts))
        for name, each in node.get("objects", {}).items():
            if name not in inner:
                raise Unreadable(f"{type(owner).__name__} has no {name}")
            self._into(inner[name], each)

    def _put(self, current: Any, value: Any, write: Callable[[Any], None]) -> None:
        """Writes ``value``, into the memory of the tensor that is there, to which others may refer."""
        if isinstance(value, Tensor):
            if id(value) not in self._placed and _fits(current, value):
                with torch.no_grad():
                    self._placed[id(value)] = current.copy_(value)
            placed = self._placed.setdefault(id(value), value)
            self._filled.append((write, placed, value))
            value = placed
        write(value)


def _is_frozen(value: object) -> bool:
    return getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False)


def _made(like: Any, parts: Any) -> object:
    """Another object of its type, of these parts."""
    if isinstance(like, Enum):
        return type(like)[parts]
    if isinstance(like, defaultdict):
        return defaultdict(like.default_factory, parts)
    return type(like)(*parts) if isinstance(like, tuple) else replace(like, **parts)


def _equal(one: object, other: object) -> bool:
    """Whether they are known to be equal; containers of tensors may not be."""
    try:
        return bool(one == other)
    except (RuntimeError, ValueError):
        return False


def _slots(kind: type) -> list[str]:
    """Names of the attributes that a class keeps outside of ``__dict__``."""
    slots = vars(kind).get("__slots__", ())
    return [name for name in ([slots] if isinstance(slots, str) else slots) if not name.startswith("__")]


def _assign(owner: object, name: str, value: object) -> None:
    """Sets an attribute past the ``__setattr__`` of a module, which would see a buffer or a parameter in a tensor."""
    if any(name in _slots(kind) for kind in type(owner).__mro__):
        object.__setattr__(owner, name, value)
    else:
        vars(owner)[name] = value


def _has_own_state(owner: object) -> bool:
    """``state_dict`` of torch's classes tells no attributes; that of any other is what its author wrote."""
    methods = ("state_dict", "load_state_dict")
    return not isinstance(owner, nn.Module | Optimizer) and all(
        callable(getattr(owner, name, None)) for name in methods
    )


def _fits(current: object, value: Tensor) -> bool:
    """Whether there is a tensor that can take these values."""
    return (
        isinstance(current, Tensor)
        and not current.is_inference()
        and current.layout is value.layout is torch.strided
        and (current.shape, current.dtype, current.device) == (value.shape, value.dtype, value.device)
        and not any(step == 0 and size > 1 for step, size in zip(current.stride(), current.shape, strict=True))
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether they are one tensor, or have the same bits."""
    return one is other or torch.equal(raw(one), raw(other))


def _memory(tensor: Tensor) -> int:
    where = tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0
    return where or id(tensor)  # tensors without values have no memory
