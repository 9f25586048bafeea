"""Loads a plugin in a fresh process, which shows what its imports cost and change. Itself it imports no torch."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ptb.internals import LoadedPlugin, load_plugin
from ptb_testing.subject import Folder, Point

HEAVY = ("torch", "numpy", "cv2", "pandas", "sklearn")
CODE = """
import json, sys
sys.path[:], points, packages = json.load(sys.stdin)
from ptb_testing.elsewhere import answer
answer(points, packages)
"""


@cache
def loaded_elsewhere(points: tuple[Point, ...], packages: tuple[str, ...], path: tuple[str, ...]) -> dict[str, Any]:
    """What a fresh process says of loading a plugin.

    Args:
        points: the names and values of its entry points.
        packages: those that are its own.
        path: ``sys.path`` of the process.

    Returns:
        ``reason`` (why it cannot be loaded), or ``seconds``, ``registration`` (the heavy modules that this imports) and
        ``settings`` (those that each settings model imports first). Unless the process ends before, ``changes`` has
        what importing each of its modules changes, in words, and under ``""`` what registering changes.
    """
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, input=json.dumps([path, points, packages]), capture_output=True, text=True)
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        with suppress(ValueError):  # the plugin may write to descriptor 1 too
            found |= json.loads(line)
    if not found:
        found["reason"] = f"the process ended with {done.returncode}: {' '.join(done.stderr.split())[-300:]}"
    return found


def answer(points: Iterable[Point], packages: Sequence[str]) -> None:
    """Writes down what ``loaded_elsewhere`` returns, and ends the process."""
    import pydantic  # noqa: F401  # every command that shows settings has it already

    found = Folder("plugin", "0", dict(points), Path()).found()
    began = time.perf_counter()
    loaded = load_plugin(found)
    answer: dict[str, Any] = {"seconds": time.perf_counter() - began, "registration": _heavy()}
    if isinstance(loaded, LoadedPlugin):
        answer["settings"] = {}
        for module in sorted({_module(each.settings or "") for _, each in loaded.components} - {""}):
            before = _heavy()
            _try(importlib.import_module, module)
            answer["settings"][module] = [name for name in _heavy() if name not in before]
    else:
        answer["reason"] = loaded.reason
    _write(answer)
    _write({"changes": imported_twice(points, packages)})
    os._exit(0)  # a plugin may have left a thread that never ends


def imported_twice(points: Iterable[Point], packages: Sequence[str]) -> dict[str, list[str]]:
    """What importing the modules of a plugin changes in this process, in words, by the module; by ``""`` registering.

    The modules of its packages are imported, forgotten, and imported again, which is what counts: what the libraries
    under them do when they are first imported is none of the plugin's doing. It is for a process that ends after it.
    """
    _imported(points, packages)
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]
    return _imported(points, packages)


def _imported(points: Iterable[Point], packages: Sequence[str]) -> dict[str, list[str]]:
    found = Folder("plugin", "0", dict(points), Path()).found()
    loaded, registering = _observed(load_plugin, found)
    modules: Iterable[str] = ()
    if isinstance(loaded, LoadedPlugin):
        records = [each for _, each in loaded.components]
        references = [each.target for each in records] + [each.settings or "" for each in records]
        references += [command.target for command in loaded.commands]
        modules = sorted(set(map(_module, references)))
    own = [module for module in modules if module.partition(".")[0] in packages]
    return {"": registering} | {module: _observed(importlib.import_module, module)[1] for module in own}


def _observed(action: Callable[[Any], Any], argument: Any) -> tuple[Any, list[str]]:
    """What it returns, None where it raises, and what it changes."""
    from ptb_testing.process import Snapshot, guarded  # imports torch

    with guarded():
        before = Snapshot.take()
        result = _try(action, argument)
        after = Snapshot.take()
        drawn = [f"the global generator of {name}" for name in before.moved_generators(after)]
        return result, [*before.changed_switches(after).values(), *drawn]


def _try(action: Callable[[Any], Any], argument: Any) -> Any:
    with suppress(BaseException):  # other checks tell why it cannot be imported
        return action(argument)


def _heavy() -> list[str]:
    return [name for name in HEAVY if name in sys.modules]


def _module(reference: str) -> str:
    return reference.partition(":")[0]


def _write(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), file=sys.__stdout__, flush=True)
