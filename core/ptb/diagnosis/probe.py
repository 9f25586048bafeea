"""Loads plugins apart from each other and from this process: one may hang, print, or end the process it is in.

``python -m ptb.diagnosis.probe SECONDS NAME...`` is the other side. For several plugins it forks, which costs
milliseconds where a new interpreter costs a tenth of a second, so a thousand plugins are loaded in seconds. One that
does not answer there is tried again in a new interpreter of its own; what comes of that counts.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from time import perf_counter
from typing import Any

from ptb.component import Component
from ptb.diagnosis.processes import Child, Ended, python
from ptb.discovery import BUILT_IN, FoundPlugin, LoadedPlugin, SetAside, find_plugins, load_plugin

MODULE = "ptb.diagnosis.probe"
AT_ONCE = 4
FORK_SECONDS = 5.0  # for a plugin in a fork; slower ones get all of their time alone
START_SECONDS = 10.0
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
    """

    plugin: LoadedPlugin | SetAside
    milliseconds: float | None = None
    heavy: tuple[str, ...] = ()
    missing: str = ""

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
    silent = [name for name in names if name not in answers]
    ends: dict[str, Ended] = {}
    for first in range(0, len(silent), at_once):
        batch = silent[first : first + at_once]
        for name, ended in zip(batch, _ask([[name] for name in batch], seconds), strict=True):
            answers |= _answers(ended)
            ends[name] = ended
    return [
        _probed(found, answers[found.name]) if found.name in answers else _silent(found, ends[found.name], seconds)
        for found in plugins
    ]


def _ask(shares: Sequence[Sequence[str]], seconds: float) -> Iterator[Ended]:
    """Each share of the names in an interpreter of its own, at the same time."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(python("-m", MODULE, str(seconds), *share))) for share in shares]
        for child, share in zip(children, shares, strict=True):
            yield child.wait(START_SECONDS + seconds * len(share))


def _answers(ended: Ended) -> dict[str, dict[str, Any]]:
    answers = {}
    for line in ended.output.splitlines():
        with suppress(ValueError):  # killed in the middle of a line
            answer = json.loads(line)
            answers[answer["name"]] = answer
    return answers


def _probed(found: FoundPlugin, answer: dict[str, Any]) -> Probed:
    plugin: LoadedPlugin | SetAside
    if answer["status"] == "ok":
        records = tuple((kind, Component(**fields)) for kind, fields in answer["components"])
        plugin = LoadedPlugin(found, records)
    else:
        plugin = SetAside(found, answer["status"], answer["reason"])
    return Probed(plugin, answer["milliseconds"], tuple(answer["heavy"]), answer["missing"])


def _silent(found: FoundPlugin, ended: Ended, seconds: float) -> Probed:
    if ended.status in TIME_IS_UP:
        return Probed(SetAside(found, "failed", f"it does not come back from its import within {seconds:g} s"))
    last = f", its last words: {ended.last_line}" if ended.last_line else ""
    return Probed(SetAside(found, "failed", f"it ends the process that imports it ({ended.how}{last})"))


def _answer(found: FoundPlugin) -> dict[str, Any]:
    """Loads the plugin here, and tells how that went."""
    before = set(sys.modules)
    start = perf_counter()
    plugin = load_plugin(found)
    seconds = perf_counter() - start
    answer = {
        "name": found.name,
        "milliseconds": round(1000 * seconds, 1),
        "heavy": [name for name in HEAVY if name in sys.modules and name not in before],
        "missing": "",
    }
    if isinstance(plugin, LoadedPlugin):
        return answer | {"status": "ok", "components": [(kind, asdict(c)) for kind, c in plugin.components]}
    if isinstance(plugin.cause, ModuleNotFoundError):
        answer["missing"] = plugin.cause.name or ""
    return answer | {"status": plugin.status, "reason": plugin.reason}


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
            os._exit(0)  # whatever the plugin has planned for the end


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
