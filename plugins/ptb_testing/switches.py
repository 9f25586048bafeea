"""What all code of a process shares and a component must leave alone, as far as it is Python's own.

Imports no torch: a process in which a plugin is only registered has none.
"""

import atexit
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Switch(NamedTuple):
    """One thing of the whole process: how to read it, and how to put it back, unless that cannot be done."""

    read: Callable[[], Any]
    write: Callable[[Any], Any] | None = None


def attributes(owner: Any, *names: str) -> Switch:
    """Some attributes of a module."""

    def write(values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(owner, name, value)

    return Switch(lambda: {name: getattr(owner, name) for name in names}, write)


def _set_environment(values: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _umask() -> int:
    mask = os.umask(0)  # there is no other way to read it
    os.umask(mask)
    return mask


def _set_handlers(values: Mapping[str, Any]) -> None:
    for name, handler in values.items():
        if signal.getsignal(signal.Signals[name]) != handler and handler is not None:
            signal.signal(signal.Signals[name], handler)


def _set_filters(values: list[Any]) -> None:
    warnings.filters = values


THREADS = "the threads that the process waits for"
OF_PYTHON = {
    "the current folder": Switch(os.getcwd, os.chdir),
    "os.environ": Switch(lambda: dict(os.environ), _set_environment),
    "the umask": Switch(_umask, os.umask),
    "the handlers of signals": Switch(
        lambda: {number.name: signal.getsignal(number) for number in signal.Signals}, _set_handlers
    ),
    "sys": attributes(sys, "stdin", "stdout", "stderr", "excepthook"),
    "sys.path": Switch(lambda: list(sys.path), lambda values: sys.path.__setitem__(slice(None), values)),
    "warnings.filters": Switch(lambda: list(warnings.filters), _set_filters),
    THREADS: Switch(lambda: [t for t in threading.enumerate() if not t.daemon]),
    "the functions of atexit": Switch(atexit._ncallbacks),
}


def read(switches: Mapping[str, Switch]) -> dict[str, Any]:
    """How they stand now."""
    return {name: switch.read() for name, switch in switches.items()}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Those that have changed, each in words."""
    changed = [name for name, value in before.items() if _has_changed(name, value, after[name])]
    return {name: f"{name}{_how(before[name], after[name])}" for name in changed}


def put_back(switches: Mapping[str, Switch], before: Mapping[str, Any]) -> None:
    """Writes those that have changed."""
    for name in changes(before, read(switches)):
        if write := switches[name].write:
            write(before[name])


def _has_changed(name: str, one: Any, other: Any) -> bool:
    """Threads that have only ended meanwhile were somebody else's."""
    return any(thread not in one for thread in other) if name == THREADS else bool(one != other)


def _how(one: Any, other: Any) -> str:
    if isinstance(one, Mapping):
        changed = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    elif isinstance(one, list):
        changed = [str(value) for value in other if value not in one]
    else:
        return f" from {one} to {other}"
    return f" ({', '.join(changed[:5])})" if changed else ""
