"""Loads plugins apart from each other and from this process: one may hang, print, or end the process it is in.

``python -m ptb_doctor.probe SECONDS NAME...`` is the other side. For several plugins it forks, which costs
milliseconds where a new interpreter costs a tenth of a second, so a thousand plugins are loaded in seconds. One that
does not answer there, or changes the process, is tried again in a new interpreter of its own, which ends as a command
does; what comes of that counts.
"""

import atexit
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from time import perf_counter
from typing import Any

from ptb.registry.component import Component
from ptb.registry.discovery import BUILT_IN, FoundPlugin, LoadedPlugin, RejectedPlugin, find_plugins, load_plugin
from ptb_doctor.processes import Child, Ended, python

MODULE = "ptb_doctor.probe"
AT_ONCE = 4
FORK_SECONDS = 5.0  # for a plugin in a fork; slower ones get all of their time alone
START_SECONDS = 10.0
END_SECONDS = 5.0  # for the end of an interpreter, after the plugin has answered
TIME_IS_UP = {None, *([-signal.SIGALRM] if hasattr(signal, "SIGALRM") else [])}
# What a plugin is not to import while it registers: each of these costs every command a tenth of a second, or seconds.
HEAVY = (
    *("torch", "torchvision", "torchaudio", "torchmetrics", "lightning", "transformers", "tensorflow", "jax"),
    *("numpy", "scipy", "pandas", "polars", "pyarrow", "sklearn", "cv2", "PIL", "matplotlib"),
)


@dataclass(frozen=True)
class Probed:
    """A plugin that was loaded elsewhere.

    Args:
        plugin: what it provides, or why it is set aside.
        milliseconds: what its import and its hooks took, ptb itself apart; None where they never came to an end.
        heavy: those of ``HEAVY`` that it imported on the way.
        missing: the module that was not there, if that is why it failed.
        changes: what it changed for the whole process, in words.
        end: how an interpreter ends in which it was loaded, empty if it ends as it should.
    """

    plugin: LoadedPlugin | RejectedPlugin
    milliseconds: float | None = None
    heavy: tuple[str, ...] = ()
    missing: str = ""
    changes: tuple[str, ...] = ()
    end: str = ""

    @property
    def found(self) -> FoundPlugin:
        """The plugin as it was found."""
        return self.plugin.found

    @property
    def fatal(self) -> bool:
        """Whether it takes every command with it: no exception came of it that could be caught."""
        return self.milliseconds is None


def probe(plugins: Sequence[FoundPlugin], seconds: float) -> list[Probed]:
    """Loads each of them, and stops one that takes longer than ``seconds``.

    Args:
        plugins: some of those that ``find_plugins()`` gives; they must be installed, not only made up.
        seconds: the time limit for each.
    """
    names = [plugin.name for plugin in plugins]
    at_once = min(AT_ONCE, os.cpu_count() or 1)
    answers: dict[str, dict[str, Any]] = {}
    if hasattr(os, "fork"):
        shares = [share for first in range(at_once) if (share := names[first::at_once])]
        for ended in _ask(shares, min(FORK_SECONDS, seconds)):
            answers |= _answers(ended)
    suspects = [name for name in names if name not in answers or answers[name]["changes"]]
    ends: dict[str, Ended] = {}
    for first in range(0, len(suspects), at_once):
        batch = suspects[first : first + at_once]
        for name, ended in zip(batch, _ask([[name] for name in batch], seconds), strict=True):
            answers |= _answers(ended)
            ends[name] = ended
    return [
        _probed(found, answers[found.name], ends.get(found.name))
        if found.name in answers
        else _silent(found, ends[found.name], seconds)
        for found in plugins
    ]


def _ask(shares: Sequence[Sequence[str]], seconds: float) -> Iterator[Ended]:
    """Each share of the names in an interpreter of its own, at the same time."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(python("-m", MODULE, str(seconds), *share))) for share in shares]
        for child, share in zip(children, shares, strict=True):
            yield child.wait(START_SECONDS + END_SECONDS + seconds * len(share))


def _answers(ended: Ended) -> dict[str, dict[str, Any]]:
    answers = {}
    for line in ended.output.splitlines():
        with suppress(ValueError):  # killed in the middle of a line
            answer = json.loads(line)
            answers[answer["name"]] = answer
    return answers


def _probed(found: FoundPlugin, answer: dict[str, Any], ended: Ended | None) -> Probed:
    plugin: LoadedPlugin | RejectedPlugin
    if answer["status"] == "ok":
        records = tuple((kind, Component(**fields)) for kind, fields in answer["components"])
        plugin = LoadedPlugin(found, records)
    else:
        plugin = RejectedPlugin(found, answer["status"], answer["reason"])
    end = ""
    if ended is not None and ended.status != 0:
        end = Ended(None, "", "").how if ended.status in TIME_IS_UP else ended.how
    heavy, changes = tuple(answer["heavy"]), tuple(answer["changes"])
    return Probed(plugin, answer["milliseconds"], heavy, answer["missing"], changes, end)


def _silent(found: FoundPlugin, ended: Ended, seconds: float) -> Probed:
    if ended.status in TIME_IS_UP:
        return Probed(RejectedPlugin(found, "failed", f"it does not come back from its import within {seconds:g} s"))
    last = f", its last words: {ended.last_line}" if ended.last_line else ""
    return Probed(RejectedPlugin(found, "failed", f"it ends the process that imports it ({ended.how}{last})"))


def _answer(found: FoundPlugin) -> dict[str, Any]:
    """Loads the plugin here, and tells how that went."""
    before = set(sys.modules)
    with _observed() as changes:
        start = perf_counter()
        plugin = load_plugin(found)
        seconds = perf_counter() - start
    answer = {
        "name": found.name,
        "milliseconds": round(1000 * seconds, 1),
        "heavy": [name for name in HEAVY if name in sys.modules and name not in before],
        "missing": "",
        "changes": changes,
    }
    if isinstance(plugin, LoadedPlugin):
        return answer | {"status": "ok", "components": [(kind, asdict(c)) for kind, c in plugin.components]}
    if isinstance(plugin.cause, ModuleNotFoundError):
        answer["missing"] = plugin.cause.name or ""
    return answer | {"status": plugin.status, "reason": plugin.reason}


@contextmanager
def _observed() -> Iterator[list[str]]:
    """What the block changes for the whole process, told when it is over."""
    changes: list[str] = []
    before, threads, register = _state(), set(threading.enumerate()), atexit.register

    def noted(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
        module = str(sys._getframe(1).f_globals.get("__name__"))
        if module.partition(".")[0] not in {*sys.stdlib_module_names, *HEAVY}:  # nor what these tidy up
            changes.append(f"a function of {module} that runs at exit")
        return register(function, *args, **kwargs)

    atexit.register = noted  # type: ignore[assignment]  # there is no other way to learn who registers
    try:
        yield changes
    finally:
        atexit.register = register
    started = [thread for thread in threading.enumerate() if thread not in threads]
    changes += [f"a thread, '{thread.name}'" for thread in started]
    after = _state()
    changes += [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _state() -> dict[str, object]:
    """What all code of a process shares and an import is to leave alone, by its name in a message."""
    mask = os.umask(0)
    os.umask(mask)
    filters = [f for f in warnings.filters if not (f[1] or f[3]) and f[2].__module__ == "builtins"]
    return {
        "the current folder": os.stat(".")[1:3],  # its inode and device: it may have been deleted
        "the umask": mask,
        "sys.path": list(sys.path),
        **{f"sys.{name}": getattr(sys, name, None) for name in ("stdin", "stdout", "stderr", "excepthook")},
        "warnings.filters": filters,  # those that hide or raise other people's warnings
        **{f"the handler of {number.name}": signal.getsignal(number) for number in signal.Signals},
        **{f"${name}": value for name, value in os.environ.items()},
        **_torch_state(),
    }


def _global_hooks(torch: Any) -> int:
    modules = torch.nn.modules.module, sys.modules[torch.optim.Optimizer.__module__]
    shared = [value for module in modules for name, value in vars(module).items() if name.startswith("_global_")]
    return sum(len(value) for value in shared if isinstance(value, dict))


# How torch's switches are read, and what an import of torch leaves them at.
_TORCH: dict[str, tuple[Callable[[Any], object], object]] = {
    "torch.get_default_dtype()": (lambda torch: str(torch.get_default_dtype()), "torch.float32"),
    "torch.get_default_device()": (lambda torch: str(torch.get_default_device()), "cpu"),
    "torch.get_float32_matmul_precision()": (lambda torch: torch.get_float32_matmul_precision(), "highest"),
    "torch.use_deterministic_algorithms": (lambda torch: torch.are_deterministic_algorithms_enabled(), False),
    "torch.backends.cudnn.deterministic": (lambda torch: torch.backends.cudnn.deterministic, False),
    "torch.backends.cudnn.benchmark": (lambda torch: torch.backends.cudnn.benchmark, False),
    "torch.is_grad_enabled()": (lambda torch: torch.is_grad_enabled(), True),
    "torch.is_anomaly_enabled()": (lambda torch: torch.is_anomaly_enabled(), False),
    "torch's global hooks": (_global_hooks, 0),
}


def _torch_state() -> dict[str, object]:
    torch, state = sys.modules.get("torch"), {}
    for name, (read, fresh) in _TORCH.items():
        state[name] = fresh
        with suppress(Exception):  # it has not been imported, or not to its end, or is not in order
            state[name] = read(torch)
    return state


def main(seconds: float, names: Sequence[str]) -> None:
    """Loads the plugins of these names and writes a line of JSON for each, which is all that standard output gets."""
    import packaging.requirements  # noqa: F401  # not at the expense of the first plugin that states requirements

    with os.fdopen(os.dup(1), "w", encoding="utf-8") as results:
        os.dup2(2, 1)
        plugins = {plugin.name: plugin for plugin in find_plugins()}
        version(BUILT_IN)  # the lists of the folders on the path are kept from now on
        for name in names:
            if len(names) > 1 and (child := os.fork()):
                os.waitpid(child, 0)
                continue
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, seconds)  # its signal ends the process
            results.write(json.dumps(_answer(plugins[name])) + "\n")
            results.flush()
            if len(names) > 1:
                os._exit(0)  # whatever the plugin has planned for the end
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, END_SECONDS)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
