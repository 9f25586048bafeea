"""``ptb plugins doctor`` and ``ptb plugins bisect``: what is wrong with the plugins, and which of them is to blame."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING

import click

from ptb.cli.options import json_option, refuse_plugin_options, verbose_option
from ptb.cli.progress import SIGNALS
from ptb.cli.text import columns, printable
from ptb.errors import InterruptedRunError, PluginError

if TYPE_CHECKING:
    from ptb.registry.discovery import FoundPlugin
    from ptb_doctor.bisection import Outcome, Verdict
    from ptb_doctor.doctor import Report

_Seconds = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option(
    "--timeout",
    type=_Seconds,
    default=20,
    show_default=True,
    metavar="SECONDS",
    help="Stop the import of a plugin that takes longer.",
)
@verbose_option
@json_option
def doctor(timeout: float, verbose: bool, as_json: bool) -> None:
    """Examine the installation, and say what is wrong with it.

    Each plugin is imported apart from the others, the disabled ones too; TIME is what that takes beyond ptb itself,
    and IMPORTS which heavy packages come with it. Then metadata, torch with its backend extensions, and the command on
    the path.

    Ends with 7 if there is a problem: something that does not work. A note is something to know.
    """
    refuse_plugin_options("doctor examines every installed plugin")
    from ptb_doctor.doctor import examine

    with ended_by_signals():
        report = examine(timeout)
    if as_json:
        click.echo(json.dumps(_facts(report)))
    else:
        click.echo(_table(report))
    if report.problems:
        click.get_current_context().exit(PluginError.exit_code)


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--timeout",
    type=_Seconds,
    metavar="SECONDS",
    help="Stop a run that takes longer. If the first run does, that is the failure to look for.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@verbose_option
@json_option
def bisect(command: tuple[str, ...], timeout: float | None, verbose: bool, as_json: bool) -> None:
    """Find the plugin that makes a command fail.

    COMMAND is a command of ptb with its arguments. It is run with all of the third-party plugins, then with half of
    them, and so on: one among n plugins is found in about log2(n) + 2 runs, and three more confirm it. Another failure
    than that of the first run (another exit code or error) does not count. PTB_PLUGINS limits the search to what it
    names.

    \b
    ptb plugins bisect -- run --model lenet --epochs 1
    ptb plugins bisect -- show model tiny-cnn

    ptb run writes to a temporary directory each time, whatever its --output; all else is done again in each run.
    """  # noqa: D301  # click wants the backspace itself
    refuse_plugin_options("give them in COMMAND")
    from ptb.registry.discovery import find_plugins
    from ptb.registry.selection import Selection
    from ptb_doctor.bisection import bisect as search

    found = find_plugins()
    left_out = Selection.of_environment().left_out(found)
    candidates = [plugin for plugin in found if not plugin.built_in and plugin.name not in left_out]
    with ended_by_signals():
        verdict = search(candidates, _Runs(_arguments(command), len(candidates), timeout, verbose))
    if as_json:
        plugins = [{"name": plugin.name, "version": plugin.version} for plugin in verdict.plugins]
        error = "" if verdict.failure.succeeded else str(verdict.failure)
        facts = {"result": verdict.result, "plugins": plugins, "runs": verdict.runs, "error": error}
        click.echo(json.dumps({"schema": 1, **facts}))
        return
    for line in _advice(verdict):
        click.echo(printable(line), err=True)
    click.echo(printable(_answer(verdict)))


class _Runs:
    """Runs a command with some of the plugins, and tells of each run on standard error.

    Args:
        arguments: those of ``ptb``, given a directory for what the run writes.
        candidates: how many plugins there are.
        seconds: the time limit for a run.
        verbose: tell what the command wrote, too.
    """

    def __init__(
        self, arguments: Callable[[Path], list[str]], candidates: int, seconds: float | None, verbose: bool
    ) -> None:
        self._arguments = arguments
        self._candidates = candidates
        self._seconds = seconds
        self._verbose = verbose
        self._number = 0
        self._failure: Outcome | None = None

    def __call__(self, plugins: "Sequence[FoundPlugin]") -> "Outcome":
        from ptb.registry.selection import ONLY
        from ptb_doctor.bisection import Outcome
        from ptb_doctor.processes import Child, python

        self._number += 1
        environment = os.environ | {ONLY: ",".join(plugin.name for plugin in plugins)}
        with (
            TemporaryDirectory(prefix="ptb-bisect-", ignore_cleanup_errors=True) as folder,
            Child(python("-m", "ptb", *self._arguments(Path(folder, "run"))), environment) as child,
        ):
            ended = child.wait(self._seconds)
        outcome = Outcome.of(ended)
        how = self._told(outcome)
        click.echo(printable(f"run {self._number}: {len(plugins)} of {self._candidates} plugins: {how}"), err=True)
        if self._verbose:
            click.echo(ended.output + ended.errors, err=True, nl=False)
        return outcome

    def _told(self, outcome: "Outcome") -> str:
        if outcome.succeeded:
            return "succeeds"
        if self._failure is None:
            self._failure = outcome
            return f"fails: {outcome}"
        return "fails" if outcome.is_like(self._failure) else f"fails otherwise: {outcome}"


def _arguments(command: Sequence[str]) -> Callable[[Path], list[str]]:
    """The arguments of each run: one that would write to a directory of the user's is given another.

    Raises:
        click.UsageError: it is no command of ptb.
    """
    arguments = list(command[1:] if command[0] == "ptb" else command)
    root = click.get_current_context().find_root()
    ptb = root.command
    assert isinstance(ptb, click.Group)
    _, rest, _ = ptb.make_parser(root).parse_args([*arguments])
    if not rest:
        raise click.UsageError("give a command of ptb after --, such as: ptb plugins bisect -- run --model lenet")
    _, chosen, _ = ptb.resolve_command(root, rest)
    if chosen is None or all(parameter.name != "output" for parameter in chosen.params):
        return lambda _: arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)  # of two, the later --output counts
    return lambda folder: [*arguments[:end], "--output", str(folder), *arguments[end:]]


def _answer(verdict: "Verdict[FoundPlugin]") -> str:
    """The result, on one line."""
    if verdict.result == "nothing":
        return "nothing to find: the command succeeds with all plugins"
    if verdict.result == "not-a-plugin":
        return f"not a plugin: the command fails without any of them: {verdict.failure}"
    if verdict.result == "unsteady":
        return f"unsteady: the command does not always end in the same way with the same plugins: {verdict.failure}"
    *first, last = map(str, verdict.plugins)
    if verdict.result == "several":
        return f"more than one: {' with '.join([*first, last])}, without which the command fails, too"
    if not first:
        return f"culprit: {last}"
    number = "two" if len(first) == 1 else len(first) + 1
    return f"needs {number}: {', '.join(first)} and {last}"


def _advice(verdict: "Verdict[FoundPlugin]") -> Iterator[str]:
    """What to know and to do beside the result."""
    if verdict.result == "nothing":
        yield "a plugin that is set aside is a warning only, which --strict-plugins turns into an error"
    for plugin in verdict.context:
        yield f"the command needs {plugin} to get that far"
    if verdict.instead is not None:
        it = "it" if len(verdict.plugins) == 1 else "them"
        yield f"no run without {it} succeeded, so it may be that the command only needs {it}: {verdict.instead}"
    if verdict.result == "several":
        yield "to find the others, leave it out in COMMAND, and search again"
    for plugin in verdict.plugins:
        yield f"leave it out with -p no:{plugin.name}, or remove it: {sys.executable} -m pip uninstall {plugin.name}"


def _facts(report: "Report") -> dict[str, object]:
    plugins = [
        {
            "name": plugin.name,
            "version": plugin.version,
            "status": plugin.status,
            "milliseconds": probed.milliseconds,
            "imports": probed.heavy,
            "components": plugin.components,
        }
        for plugin, probed in zip(report.plugins, report.probed, strict=True)
    ]
    return {"schema": 1, "plugins": plugins, "findings": [vars(finding) for finding in report.findings]}


def _table(report: "Report") -> str:
    rows = [("NAME", "VERSION", "STATUS", "TIME", "IMPORTS")]
    for plugin, probed in zip(report.plugins, report.probed, strict=True):
        time = "" if probed.milliseconds is None else f"{probed.milliseconds:,.0f} ms"
        rows.append((plugin.name, plugin.version, plugin.status, time, ", ".join(probed.heavy)))
    notes = len(report.findings) - report.problems
    counted = [f"{n} {word}{'s' * (n != 1)}" for n, word in ((report.problems, "problem"), (notes, "note")) if n]
    told = [printable(str(finding)) for finding in report.findings]
    return "\n".join([columns(rows), "", *told, ", ".join(counted) or "no problems found"])


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A signal leaves the block, which ends the processes that were started in it."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise InterruptedRunError(f"stopped by {signal.Signals(number).name}", number)

    former = [(number, signal.signal(number, stop)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in former:
            signal.signal(number, handler)
