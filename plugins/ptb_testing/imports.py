"""What importing the modules of a plugin costs, and what it changes."""

import importlib
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from io import StringIO
from typing import Any

from ptb_testing.process import Snapshot, guarded
from ptb_testing.subject import Point

HEAVY = ("torch", "numpy", "cv2", "pandas", "sklearn")
# It writes one line, whatever the plugin writes, and ends without waiting for threads that the plugin has left.
PROBE = """
import importlib, json, os, random, sys, time
sys.path[:], heavy, points = json.load(sys.stdin)
import pydantic
from contextlib import suppress
from pathlib import Path
from ptb.internals import LoadedPlugin, load_plugin
from ptb_testing.subject import Folder
from ptb_testing.switches import OF_PYTHON, changes, put_back, read
found = Folder("plugin", "0", dict(points), Path()).found()
before, began = read(OF_PYTHON), time.perf_counter()
loaded = load_plugin(found)
answer = {"seconds": time.perf_counter() - began, "registration": [name for name in heavy if name in sys.modules]}
answer["settings"] = {}
put_back(OF_PYTHON, before)
own = {value.partition(":")[0].partition(".")[0] for _, value in points}
for name in [name for name in sys.modules if name.partition(".")[0] in own]:
    del sys.modules[name]
before, drawn = read(OF_PYTHON), random.getstate()
load_plugin(found)  # the second time, because libraries under it may change something when they are first imported
answer["changes"] = list(changes(before, read(OF_PYTHON)).values())
answer["changes"] += ["the global generator of random"] * (drawn != random.getstate())
if not isinstance(loaded, LoadedPlugin):
    answer["reason"] = loaded.reason
else:
    for module in sorted({each.settings.partition(":")[0] for _, each in loaded.components if each.settings}):
        before = set(sys.modules)
        with suppress(BaseException):  # another check tells why it cannot be imported
            importlib.import_module(module)
        answer["settings"][module] = [name for name in heavy if name in sys.modules and name not in before]
print(json.dumps(answer), file=sys.__stdout__, flush=True)
os._exit(0)
"""


@cache
def registered_elsewhere(points: tuple[Point, ...], path: tuple[str, ...]) -> dict[str, Any]:
    """What a fresh process says of loading a plugin.

    Args:
        points: the names and values of its entry points.
        path: ``sys.path`` of the process.

    Returns:
        ``reason`` (why it cannot be loaded), or ``seconds``, ``registration`` (the heavy modules that this imports),
        ``changes`` (what that changes, in words) and ``settings`` (by module the heavy ones that it imports first).
    """
    question = json.dumps([path, HEAVY, points])
    done = subprocess.run([sys.executable, "-c", PROBE], input=question, capture_output=True, text=True)
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"reason": f"the process ended with {done.returncode}: {' '.join(done.stderr.split())[-300:]}"}
    return answer


@cache
def changes_of_importing(module: str) -> list[str]:
    """What importing a module and its package changes in this process, in words; all of it is put back.

    They are imported, forgotten, and imported again, which is what counts.
    """
    package = module.partition(".")[0]
    with guarded(), suppress(BaseException):  # other checks tell why it cannot be imported
        importlib.import_module(module)
    own = {name: each for name, each in sys.modules.items() if name.partition(".")[0] == package}
    for name in own:
        del sys.modules[name]
    try:
        with guarded(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it has said already what it says
            before = Snapshot.take()
            with suppress(BaseException):
                importlib.import_module(module)
            after = Snapshot.take()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
        sys.modules.update(own)
    drawn = [f"the global generator of {name}" for name in before.moved_generators(after)]
    return [*before.changed_switches(after).values(), *drawn]
