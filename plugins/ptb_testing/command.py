"""``ptb plugins new`` and ``ptb plugins check``: the way of someone who writes a plugin."""

import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptb import ConfigError, PluginError, json_option, verbose_option
from ptb.internals import KINDS, UserPath, columns, count, put_off_dynamo, stray_output_to_stderr

if TYPE_CHECKING:
    from ptb_testing.outcome import Result
    from ptb_testing.report import ComponentReport, Report
    from ptb_testing.subject import Subject

COLOURS = {"failed": "red", "note": "yellow", "expected failure": "yellow", "skipped": "yellow", "passed": "green"}


@click.command()
@click.argument("name")
@click.option(
    "--kind", type=click.Choice([*KINDS, "command"]), default="model", show_default=True, help="What it shall provide."
)
def new(name: str, kind: str) -> None:
    """Write a new plugin package into ./NAME.

    It holds one component or command that works, with typed settings, and a test that runs every check of its kind.

    \b
    ptb plugins new ptb-acme
    ptb plugins new ptb-acme --kind loss
    ptb plugins new ptb-acme --kind command
    """  # noqa: D301  # click wants the backspace itself
    from ptb_testing.scaffold import write_plugin

    folder, commands = write_plugin(name, kind, Path())
    click.echo(f"wrote {folder}; now type")
    # It depends on nothing but ptb, which is here: so pip need not look for anything, and cannot touch torch.
    click.echo(f"  {_python()} -m pip install --no-deps -e ./{folder}")
    click.echo(f"  ptb plugins check ./{folder}")
    for command in commands:
        click.echo(f"  {command}")


@click.command()
@click.argument("plugin", metavar="DIST|PATH")
@click.option(
    "-c",
    "--config",
    "file",
    type=UserPath(),
    metavar="FILE",
    help="The pyproject.toml whose [tool.ptb.check] counts; of a PATH, its own.",
)
@json_option
@verbose_option
@click.pass_context
def check(context: click.Context, plugin: str, file: Path | None, as_json: bool, verbose: bool) -> None:
    """Check that the components and commands of a plugin keep the contract of their kinds.

    DIST is an installed distribution; PATH, which has a slash or begins with a dot, a source folder, installed or not,
    or a plugin file.
    Exit code 7 says that a check failed, or that fewer ran than the minimum of the kind.

    \b
    ptb plugins check ptb-acme
    ptb plugins check ./ptb-acme -v
    """  # noqa: D301  # click wants the backspace itself
    with stray_output_to_stderr():
        subject = _subject(plugin, file)
    from ptb_testing.kit import cases_of, report_of
    from ptb_testing.report import Report

    put_off_dynamo()  # the checks compile nothing
    if not as_json:
        click.echo(subject.label)
    reports = []
    for case in cases_of(subject):
        with stray_output_to_stderr():
            reports.append(report_of(case))
        if not as_json:
            _print_component(reports[-1], verbose)
    report = Report(subject.label, tuple(reports))
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        _print_total(report)
    if not report.green:
        context.exit(PluginError.exit_code)


def _subject(plugin: str, file: Path | None) -> "Subject":
    from ptb_testing.given import Given
    from ptb_testing.subject import in_file, in_folder, installed

    plugin = os.path.expanduser(plugin)
    if not _is_path(plugin):
        subject = installed(plugin)
    else:
        folder = Path(plugin)
        if folder.suffix == ".py":
            subject = in_file(folder)
            return subject.with_given(Given.read(file)) if file else subject
        if not folder.is_dir():
            raise ConfigError(f"there is no folder {plugin}; a name without a slash is that of an installed plugin")
        sys.path[:0] = [str(path.resolve()) for path in (folder, folder / "src") if path.is_dir()]
        subject = in_folder(folder)
        _check_origin(subject, folder)
    return subject.with_given(Given.read(file)) if file else subject


def _is_path(plugin: str) -> bool:
    """As pip tells a folder from a name."""
    return plugin.startswith(".") or os.sep in plugin or "/" in plugin


def _check_origin(subject: "Subject", folder: Path) -> None:
    """What is imported must be what lies in the folder, and not another copy that is installed."""
    for point in subject.entries[0].found.entry_points:
        file = getattr(sys.modules.get(point.module), "__file__", None)
        if file is None or not Path(file).resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"'{point.module}' is imported from {file}, not from {folder}: its modules are looked for "
                "in it and in its src/; if they lie elsewhere, install it and check it by its name"
            )


def _print_component(report: "ComponentReport", verbose: bool) -> None:
    """One line of counts, and the checks that did not simply pass; all of them with ``-v``."""
    counts = report.counts
    click.echo(
        f"{report.label}: {counts['run']} run, {counts['passed']} passed, {counts['failed']} failed, "
        f"{counts['expected_failures']} expected failures, {counts['skipped']} skipped"
        + (f", {count(counts['notes'], 'note')}" if counts["notes"] else "")
    )
    rows = [(r.status, name, r.message) for r, name in _merged(report.results) if verbose or r.status != "passed"]
    if report.shortage:
        from ptb_testing.report import ENOUGH

        rows.append(("failed", ENOUGH, report.shortage))
    for line in columns([("", "", ""), *rows], indent="  ").splitlines()[1:]:
        status = next(status for status in COLOURS if line.strip().startswith(status))
        click.echo(line.replace(status, click.style(status, fg=COLOURS[status]), 1))
    if verbose:
        for result in report.results:
            if result.status == "failed" and result.error is not None:
                click.echo("".join(traceback.format_exception(result.error)), err=True, nl=False)


def _merged(results: "tuple[Result, ...]") -> "Iterator[tuple[Result, str]]":
    """The results with the names of their checks; neighbours that end in the same words are told as one."""
    for _, group in groupby(results, key=lambda result: (result.status, result.message or result.check)):
        same = list(group)
        yield same[0], same[0].check if len(same) == 1 else f"{len(same)} checks"


def _print_total(report: "Report") -> None:
    bad = [component.label for component in report.components if not component.green]
    if bad:
        click.echo(f"{click.style('failed:', fg='red')} {', '.join(bad)}")
    else:
        commands, total = sum(each.kind == "command" for each in report.components), report.counts
        numbers = {"component": len(report.components) - commands, "command": commands}
        things = "".join(f"{count(number, noun)}, " for noun, number in numbers.items() if number)
        click.echo(f"{click.style('ok:', fg='green')} {things}{total['run']} checks run, {total['passed']} passed")


def _python() -> str:
    """How the interpreter that runs ptb is typed."""
    with suppress(OSError):
        found = shutil.which("python")
        if found and Path(found).samefile(sys.executable) and Path(found).parent == Path(sys.executable).parent:
            return "python"
    return sys.executable
