"""The state of objects that have no ``state_dict``, or keep some of it elsewhere: metrics, losses, counters of a model.

What is looked at are an object's attributes, and those of the modules and objects of its own package that they lead to:
numbers, texts, tensors and containers of them, members of enumerations, named tuples and frozen dataclasses, buffers,
generators of random numbers, parameters that are saved nowhere else, and which parameters are trained. A container that
holds something else too is looked at entry by entry. Functions, files and whatever else stands for no number are left
alone.
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
from ptb.storage.codec import DecodeError, Decoder, EncodeError, Encoder, Node, raw

# What torch keeps in every module; hooks are no numbers, parameters and modules are looked at by themselves.
_OF_TORCH = set(vars(nn.Module())) - {"training"}
_OF_OPTIMIZERS = {"state", "param_groups", "defaults"}  # their state_dict tells these
_CONTAINERS = (list, tuple, dict, set)
_INDEXED = (list, tuple, dict)
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


def capture(root: object, path: str, writer: Encoder, known: Iterable[Tensor] = ()) -> Node:
    """The state of ``root`` as a node.

    Args:
        root: a metric, a loss, a model.
        path: what its tensors are called in the file.
        writer: collects the tensors.
        known: tensors that are saved elsewhere; neither they nor views of them are taken.

    Raises:
        EncodeError: ``state_dict`` of an object that has one gives something that cannot be saved.
    """
    return _Capture(root, writer, known).of(root, path)


def restore(root: object, node: Node, reader: Decoder) -> None:
    """Puts a captured state into an object that was built in the same way.

    Raises:
        DecodeError: it is the state of something else.
    """
    try:
        _Restore(root, reader).all(node)
    except DecodeError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        raise DecodeError(f"no state of a {type(root).__name__}: {one_line(error)}") from error


def grown(root: object, before: set[str]) -> list[str]:
    """The objects that ``outline`` did not name when it gave ``before``: what they hold cannot be read again."""
    return sorted(outline(root) - before)


def outline(root: object) -> set[str]:
    """The paths to the objects of the same package that an object leads to, over containers and other objects."""
    walk, found, pending = _Walk(root), set(), [("", root)]
    while pending:
        path, owner = pending.pop()
        inner = [] if _has_own_state(owner) else [(f"{path}.{name}", each) for name, each in walk.inner(owner)]
        found |= {name.removeprefix(".") for name, each in inner if not isinstance(each, _INDEXED)}
        pending += inner
    return found


class _Walk:
    """Which attributes belong to the state of an object."""

    def __init__(self, root: object) -> None:
        self._package = type(root).__module__.partition(".")[0]
        self.seen: set[int] = {id(root)}

    def attributes(self, owner: object) -> Iterator[tuple[str, Any]]:
        if isinstance(owner, dict):
            yield from zip(_names(owner), list(owner.values()), strict=True)
            return
        if isinstance(owner, list | tuple):
            yield from ((str(place), each) for place, each in enumerate(owner))
            return
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
        if isinstance(value, (nn.Module, *_INDEXED)):
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

    def inner(self, owner: object) -> list[tuple[str, object]]:
        """The objects and containers that an object leads to, by the path to each, every one once."""
        found = [*((f"_modules.{name}", each) for name, each in _parts(owner, "_modules")), *self.attributes(owner)]
        inner = []
        for name, each in found:
            if id(each) not in self.seen and self.leads_on(each):
                self.seen.add(id(each))
                inner.append((name, each))
        return inner


class _Capture(_Walk):
    def __init__(self, root: object, writer: Encoder, known: Iterable[Tensor]) -> None:
        super().__init__(root)
        self._writer = writer
        self._known = {_memory(tensor) for tensor in known}

    def of(self, owner: object, path: str) -> Node:
        if _has_own_state(owner):
            return {"state": self._writer.node(owner.state_dict(), path)}  # type: ignore[attr-defined]
        node: dict[str, Any] = {"values": {}, "made": {}, "generators": {}}
        for kind in ("buffers", "parameters"):
            node[kind] = {
                name: self._writer.node(tensor, f"{path}.{name}")
                for name, tensor in _parts(owner, f"_{kind}")
                if tensor is None or _memory(tensor) not in self._known
            }
        node["untrained"] = [
            name for name, each in _parts(owner, "_parameters") if not getattr(each, "requires_grad", 1)
        ]
        for name, value in self.attributes(owner):
            read = next((read for kind, (read, _) in _GENERATORS.items() if isinstance(value, kind)), None)
            if read is not None:
                node["generators"][name] = self._writer.node(read(value), f"{path}.{name}")
            elif not self._shared(value):
                self._value(node, name, value, f"{path}.{name}")
        node["objects"] = {
            name: inner
            for name, value in self.inner(owner)
            if name not in node["values"] and name not in node["made"] and (inner := self.of(value, f"{path}.{name}"))
        }
        return {key: each for key, each in node.items() if each}

    def _value(self, node: Node, name: str, value: object, path: str) -> None:
        try:
            node["values"][name] = self._writer.node(value, path)
        except EncodeError:  # no number: it is made or built again, or leads on
            with suppress(EncodeError):
                if (parts := self.made_of(value)) is not None and not self._shared(parts):
                    node["made"][name] = self._writer.node(parts, path)

    def _shared(self, value: object) -> bool:
        """Whether it holds a tensor that is trained, or saved elsewhere."""
        if isinstance(value, Tensor):  # what was computed from trained ones is a value
            return (value.requires_grad and value.is_leaf) or _memory(value) in self._known
        if isinstance(value, dict):
            return any(isinstance(key, Tensor) for key in value) or any(map(self._shared, value.values()))
        return isinstance(value, _CONTAINERS) and any(map(self._shared, value))


class _Restore(_Walk):
    def __init__(self, root: object, reader: Decoder) -> None:
        super().__init__(root)
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
            raise DecodeError(f"no state of a {type(owner).__name__}")
        if _has_own_state(owner):
            owner.load_state_dict(self._reader.value(node.get("state")))  # type: ignore[attr-defined]
            return
        inner = dict(self.inner(owner))  # as they are now: values may be put in their place below
        attributes = dict(self.attributes(owner))
        for what in ("buffers", "parameters"):
            there = dict(_parts(owner, f"_{what}"))
            for name, each in node.get(what, {}).items():
                if name not in there:
                    raise DecodeError(f"{type(owner).__name__} has no {name} among its {what}")
                self._put(there[name], self._reader.value(each), partial(_replace, owner, f"_{what}", name))
        for name, each in _parts(owner, "_parameters"):
            if each is not None:
                each.requires_grad_(name not in node.get("untrained", ()))
        for name, each in node.get("generators", {}).items():
            for kind, (_, write) in _GENERATORS.items():
                if isinstance(attributes[name], kind):
                    write(attributes[name], self._reader.value(each))
                    break
            else:
                raise DecodeError(f"{type(owner).__name__}.{name} is no generator of random numbers")
        for name, each in node.get("values", {}).items():
            own = None if isinstance(owner, _INDEXED) else getattr(type(owner), name, None)
            if callable(attributes.get(name)) or callable(own):
                raise DecodeError(f"{type(owner).__name__}.{name} is no value")
            self._put(attributes.get(name), self._reader.value(each), partial(_assign, owner, name))
        for name, each in node.get("made", {}).items():
            current, parts = attributes.get(name), self._reader.value(each)
            before = self.made_of(current)
            if before is not None and not _equal(before, parts):
                _assign(owner, name, _made(current, parts))
        for name, each in node.get("objects", {}).items():
            if name not in inner:
                told = "what was made in the training cannot be made again without its state_dict()"
                raise DecodeError(f"{type(owner).__name__} has no {name}: {told}")
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


def _parts(owner: object, kind: str) -> Iterator[tuple[str, Any]]:
    """What a module keeps under ``_modules``, ``_buffers`` or ``_parameters``."""
    if isinstance(owner, nn.Module):
        yield from getattr(owner, kind).items()


def _names(owner: dict[Any, Any]) -> list[str]:
    """What the entries are called: their keys if they are texts, else their places."""
    return [key if isinstance(key, str) and not key.startswith("#") else f"#{place}" for place, key in enumerate(owner)]


def _replace(owner: Any, kind: str, name: str, value: Tensor | None) -> None:
    """Puts another tensor in the place of a buffer or a parameter; that of a parameter stays where it can."""
    current = getattr(owner, kind)[name]
    if isinstance(current, nn.Parameter) and value is not None and value is not current:
        current.data = value
    else:
        getattr(owner, kind)[name] = value


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
    if isinstance(owner, list):
        owner[int(name)] = value
    elif isinstance(owner, dict):
        keys = dict(zip(_names(owner), owner, strict=True))
        if name not in keys and name.startswith("#"):
            raise DecodeError(f"it has no entry {name}")
        owner[keys.get(name, name)] = value
    elif isinstance(owner, tuple):
        return  # what it holds stays; the comparison after the reading tells if it is another value
    elif any(name in _slots(kind) for kind in type(owner).__mro__):
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
        and current.grad_fn is None
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
