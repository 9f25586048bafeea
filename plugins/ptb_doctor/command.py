"""``ptb plugins doctor`` and ``ptb plugins bisect``: what is wrong with the plugins, and which of them is to blame."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from ptb import PluginError, json_option, verbose_option
from ptb.internals import columns, printable, refuse_plugin_options

if TYPE_CHECKING:
    from ptb.internals import FoundPlugin
    from ptb_doctor.bisection import Verdict
    from ptb_doctor.processes import Ended

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

    Each plugin is imported in a process of its own, disabled plugins too. TIME is what that takes beyond ptb itself;
    IMPORTS are the heavy packages that come with it. Then come metadata and files, torch with its backend extensions,
    and the command on the path.

    Ends with 7 if there is a problem: something that does not work. A note is something to know.
    """
    refuse_plugin_options("doctor examines every installed plugin")
    from ptb_doctor.doctor import examine
    from ptb_doctor.processes import ended_by_signals

    with ended_by_signals():
        plugins, probed, findings = examine(timeout)
    rows = [("NAME", "VERSION", "STATUS", "TIME", "IMPORTS")]
    facts = []
    for plugin, each in zip(plugins, probed, strict=True):
        time = "" if each.milliseconds is None else f"{each.milliseconds:,.0f} ms"
        rows.append((plugin.name, plugin.version, plugin.status, time, ", ".join(each.heavy)))
        known = {name: getattr(plugin, name) for name in ("name", "version", "status", "components")}
        facts.append({**known, "milliseconds": each.milliseconds, "imports": each.heavy})
    problems = sum(finding.severity == "problem" for finding in findings)
    if as_json:
        click.echo(json.dumps({"schema": 1, "plugins": facts, "findings": [vars(finding) for finding in findings]}))
    else:
        numbers = ((problems, "problem"), (len(findings) - problems, "note"))
        summary = ", ".join(f"{number} {noun}{'s' * (number != 1)}" for number, noun in numbers if number)
        lines = [printable(str(finding)) for finding in findings]
        click.echo("\n".join([columns(rows), "", *lines, summary or "no problems found"]))
    if problems:
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

    COMMAND is a command of ptb with its arguments. It is run with all third-party plugins, then with half of them, and
    so on: one among n plugins is found in about log2(n) + 2 runs, and three more confirm it. A failure with another
    exit code or error than in the first run does not count. PTB_PLUGINS limits the search to the plugins that it names.

    \b
    ptb plugins bisect -- run --model lenet --epochs 1
    ptb plugins bisect -- show model tiny-cnn

    ptb run writes to a temporary directory each time, whatever its --output; everything else is done again in each run.
    """  # noqa: D301  # click wants the backspace itself
    refuse_plugin_options("give them in COMMAND")
    from ptb.internals import Selection, find_plugins
    from ptb_doctor.bisection import bisect as search
    from ptb_doctor.processes import ended_by_signals

    found = find_plugins()
    disabled = Selection.of_environment().left_out(found)
    candidates = [plugin for plugin in found if not plugin.built_in and plugin.name not in disabled]
    with ended_by_signals():
        verdict = search(candidates, _Runs(_arguments(command), len(candidates), timeout, verbose))
    if as_json:
        plugins = [{"name": plugin.name, "version": plugin.version} for plugin in verdict.plugins]
        error = "" if verdict.result == "nothing" else str(verdict.failure)
        facts = {"result": verdict.result, "plugins": plugins, "runs": verdict.runs, "error": error}
        click.echo(json.dumps({"schema": 1, **facts}))
        return
    for line in _advice(verdict):
        click.echo(printable(line), err=True)
    click.echo(printable(_answer(verdict)))


class _Runs:
    """Runs a command with some of the plugins, and prints a line about each run to standard error.

    Args:
        arguments: gives those of ``ptb``, for a directory that the run may write to.
        candidates: how many plugins there are.
        seconds: the time limit for a run.
        verbose: print what the command wrote, too.
    """

    def __init__(
        self, arguments: Callable[[Path], list[str]], candidates: int, seconds: float | None, verbose: bool
    ) -> None:
        self._arguments = arguments
        self._candidates = candidates
        self._seconds = seconds
        self._verbose = verbose
        self._number = 0
        self._failure: Ended | None = None

    def __call__(self, plugins: "Sequence[FoundPlugin]") -> "Ended":
        from ptb.internals import ONLY
        from ptb_doctor.processes import python, run

        self._number += 1
        environment = os.environ | {ONLY: ",".join(plugin.name for plugin in plugins), "PTB_REPORT": "0"}
        with TemporaryDirectory(prefix="ptb-bisect-", ignore_cleanup_errors=True) as folder:
            ended = run(python("-m", "ptb", *self._arguments(Path(folder, "run"))), environment, self._seconds)
        how = self._compare(ended)
        click.echo(printable(f"run {self._number}: {len(plugins)} of {self._candidates} plugins: {how}"), err=True)
        if self._verbose:
            click.echo(ended.output + ended.errors, err=True, nl=False)
        return ended

    def _compare(self, ended: "Ended") -> str:
        from ptb_doctor.bisection import alike

        if ended.status == 0:
            return "succeeds"
        if self._failure is None:
            self._failure = ended
            return f"fails: {ended}"
        return "fails" if alike(ended, self._failure) else f"fails otherwise: {ended}"


def _arguments(command: Sequence[str]) -> Callable[[Path], list[str]]:
    """The arguments of each run: ``ptb run``, which writes to a directory of the user's, is given another.

    Raises:
        click.UsageError: there is no command of ptb.
    """
    words = list(command[1:] if command[0] == "ptb" else command)
    root = click.get_current_context().find_root()
    _, rest, _ = root.command.make_parser(root).parse_args([*words])
    if not rest:
        raise click.UsageError("give a command of ptb after --, such as: ptb plugins bisect -- run --model lenet")
    if rest[0] != "run":
        return lambda _: words
    end = words.index("--") if "--" in words else len(words)  # of two, the later --output counts
    return lambda folder: [*words[:end], "--output", str(folder), *words[end:]]


def _answer(verdict: "Verdict[FoundPlugin]") -> str:
    """The result, on one line."""
    names = [str(plugin) for plugin in verdict.plugins]
    match verdict.result:
        case "nothing":
            return "nothing to find: the command succeeds with all plugins"
        case "not-a-plugin":
            return f"not a plugin: the command fails without any of them: {verdict.failure}"
        case "unsteady":
            return f"unsteady: equal runs, with the same plugins, do not always end in the same way: {verdict.failure}"
        case "several":
            return f"more than one: {' with '.join(names)}, without which the command fails, too"
        case "culprit":
            return f"culprit: {names[0]}"
    number = "two" if len(names) == 2 else len(names)
    return f"needs {number}: {', '.join(names[:-1])} and {names[-1]}"


def _advice(verdict: "Verdict[FoundPlugin]") -> Iterator[str]:
    """What to know and to do beside the result."""
    if verdict.result == "nothing":
        yield "a plugin that cannot be loaded is a warning only, which --strict-plugins turns into an error"
    for plugin in verdict.context:
        yield f"the command needs {plugin} to get that far"
    if verdict.instead is not None:
        it = "it" if len(verdict.plugins) == 1 else "them"
        yield f"no run without {it} succeeded, so the command may only need {it}: {verdict.instead}"
    if verdict.result == "several":
        yield "to find the others, disable this one in COMMAND, and search again"
    for plugin in verdict.plugins:
        remove = shlex.join([sys.executable, "-m", "pip", "uninstall", plugin.name])
        yield f"disable it with -p no:{plugin.name}, or remove it: {remove}"
