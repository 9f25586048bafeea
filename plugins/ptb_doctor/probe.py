"""Imports a plugin in an interpreter of its own: it may hang, print, or end the process that it is in.

``python -m ptb_doctor.probe SECONDS NAME`` is the other side. It writes one line of JSON about the plugin, and then
ends as every command does that has imported it.
"""

import atexit
import faulthandler
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from ptb import Component
from ptb.internals import FoundPlugin, LoadedPlugin, RejectedPlugin, find_plugins, load_plugin, own_version
from ptb_doctor.processes import python, run

START_SECONDS = 20.0  # for a new interpreter on a busy machine
END_SECONDS = 5.0  # for its end, after the plugin has registered
# What a plugin should not import while it registers: each costs every command a tenth of a second, or seconds.
HEAVY = (
    *("torch", "torchvision", "torchaudio", "torchmetrics", "lightning", "transformers", "tensorflow", "jax"),
    *("numpy", "scipy", "pandas", "polars", "pyarrow", "sklearn", "cv2", "PIL", "matplotlib"),
)
# torch's switches and their values after `import torch`.
SWITCHES = {
    "torch.get_default_dtype()": "torch.float32",
    "torch.get_default_device()": "cpu",
    "torch.get_float32_matmul_precision()": "highest",
    "torch.are_deterministic_algorithms_enabled()": "False",
    "torch.backends.cudnn.deterministic": "False",
    "torch.backends.cudnn.benchmark": "False",
    "torch.is_grad_enabled()": "True",
    "torch.is_anomaly_enabled()": "False",
}


@dataclass(frozen=True)
class Probed:
    """A plugin that was imported in another process.

    Args:
        plugin: what it provides, or why it is not used.
        milliseconds: the time of its import and its hooks, without ptb itself; None if they did not return.
        heavy: those of ``HEAVY`` that it imported.
        missing: the module that does not exist, if that is why it failed.
        changes: what it changed for the whole process, in words.
        end: how the process ended, empty if it ended normally.
    """

    plugin: LoadedPlugin | RejectedPlugin
    milliseconds: float | None = None
    heavy: tuple[str, ...] = ()
    missing: str = ""
    changes: tuple[str, ...] = ()
    end: str = ""


def probe(found: FoundPlugin, seconds: float) -> Probed:
    """Imports a plugin that is installed, for at most so many seconds."""
    limit = START_SECONDS + seconds + END_SECONDS
    ended = run(python("-m", "ptb_doctor.probe", str(seconds), found.name), seconds=limit)
    hangs = ended.status is None or (ended.status == 1 and "Timeout (" in ended.errors)  # as faulthandler writes
    try:
        answer = json.loads(ended.output)
    except ValueError:
        reason = f"its import does not return within {seconds:g} s"
        return Probed(RejectedPlugin(found, "failed", reason if hangs else f"it ends the process: {ended}"))
    if answer["reason"]:
        plugin: LoadedPlugin | RejectedPlugin = RejectedPlugin(found, answer["status"], answer["reason"])
    else:
        plugin = LoadedPlugin(found, tuple((kind, Component(**fields)) for kind, fields in answer["components"]))
    end = "does not end" if hangs else ended.how if ended.status else ""
    facts = {name: tuple(answer[name]) for name in ("heavy", "changes")}
    return Probed(plugin, milliseconds=answer["milliseconds"], missing=answer["missing"], end=end, **facts)


def describe(found: FoundPlugin) -> dict[str, Any]:
    """Imports a plugin in this process, and describes how that went."""
    before = set(sys.modules)
    with observed() as changes:
        start = perf_counter()
        plugin = load_plugin(found)
        seconds = perf_counter() - start
    facts: dict[str, Any] = {
        "milliseconds": round(1000 * seconds, 1),
        "heavy": [name for name in HEAVY if name in sys.modules and name not in before],
        "changes": changes,
        "missing": "",
        "reason": "",
    }
    if isinstance(plugin, LoadedPlugin):
        return facts | {"components": [(kind, asdict(component)) for kind, component in plugin.components]}
    missing = plugin.cause.name if isinstance(plugin.cause, ModuleNotFoundError) else None
    return facts | {"status": plugin.status, "reason": plugin.reason, "missing": missing or ""}


@contextmanager
def observed() -> Iterator[list[str]]:
    """Yields a list that holds, after the block, what the block changed for the whole process."""
    changes: list[str] = []
    before, threads, register = _state(), set(threading.enumerate()), atexit.register

    def noted(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
        module = str(sys._getframe(1).f_globals.get("__name__"))
        if module.partition(".")[0] not in {*sys.stdlib_module_names, *HEAVY}:  # they tidy up after themselves
            changes.append(f"a function of {module} that runs at exit")
        return register(function, *args, **kwargs)

    atexit.register = noted  # type: ignore[assignment]  # Python keeps no list of who has registered
    try:
        yield changes
    finally:
        atexit.register = register
    changes += [f"a thread, '{thread.name}'" for thread in threading.enumerate() if thread not in threads]
    after = _state()
    changes += [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _state() -> dict[str, object]:
    """What all code of a process shares and an import should not change, by its name in a message."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "the current folder": os.stat(".")[1:3],  # its inode and device: it may have been deleted
        "the umask": mask,
        "sys.path": list(sys.path),
        **{f"sys.{name}": getattr(sys, name, None) for name in ("stdin", "stdout", "stderr", "excepthook")},
        # those that hide or raise the warnings of all modules
        "warnings.filters": [f for f in warnings.filters if not (f[1] or f[3]) and f[2].__module__ == "builtins"],
        **{f"the handler of {number.name}": signal.getsignal(number) for number in signal.Signals},
        **{f"${name}": value for name, value in os.environ.items()},
        **{name: _switch(name) for name in SWITCHES},
        "torch's global hooks": _global_hooks(),
    }


def _switch(name: str) -> str:
    """The value of a switch, which is the default as long as torch is not imported or only in part."""
    value: Any = sys.modules.get("torch")
    try:
        for part in name.removesuffix("()").split(".")[1:]:
            value = getattr(value, part)
        return str(value() if name.endswith("()") else value)
    except Exception:
        return SWITCHES[name]


def _global_hooks() -> int:
    """How many hooks torch calls for every module or optimizer."""
    modules = [sys.modules.get(name) for name in ("torch.nn.modules.module", "torch.optim.optimizer")]
    values = [(name, value) for module in modules if module for name, value in vars(module).items()]
    return sum(len(value) for name, value in values if name.startswith("_global_") and isinstance(value, dict))


def main(seconds: float, name: str) -> None:
    """Imports a plugin and writes a line of JSON about it, which is all that standard output gets."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as results:
        os.dup2(2, 1)
        (found,) = [plugin for plugin in find_plugins() if plugin.name == name]
        own_version()  # not in the time of the plugin
        faulthandler.dump_traceback_later(seconds, exit=True, file=os.dup(2))
        results.write(json.dumps(describe(found)) + "\n")
    faulthandler.dump_traceback_later(END_SECONDS, exit=True, file=os.dup(2))


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
