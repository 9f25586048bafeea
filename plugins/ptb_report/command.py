"""``ptb report``."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ptb import ConfigError, RunRecord, json_option, verbose_option
from ptb.internals import UserPath, installed, plugin_options, stray_output_to_stderr
from ptb_report.observer import FILE
from ptb_report.words import LANGUAGES


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=UserPath())
@click.option(
    "-o",
    "--output",
    type=UserPath(),
    metavar="FILE",
    help="A new .html file [default: RUN/report.html].",
)
@click.option("--language", type=click.Choice(LANGUAGES), default="en", help="Of the page [default: en].")
@click.option("--live", is_flag=True, help="Write it again and again while the run goes on.")
@plugin_options
@json_option
@verbose_option
def report(
    runs: tuple[Path, ...], output: Path | None, language: str, live: bool, as_json: bool, verbose: bool
) -> None:
    """Write a page about runs that opens without a network.

    Of one run: figures, curves, the confusion matrix whose cells open their samples, the worst mistakes, data,
    settings, environment. RUN/report.html is replaced, another FILE is not. What is predicted for each sample is
    recorded first where it is missing, if the checkpoint and the data are there. Of several runs: what they differ in,
    and their curves over each other; the page is report.html then.

    \b
    ptb report runs/mine
    ptb report runs/mine --live                  while it trains; the page loads itself anew
    ptb report runs/* -o comparison.html
    ptb report runs/mine --language zh -o 报告.html
    """  # noqa: D301  # click wants the backspace itself
    _check_library()
    for path in runs:
        RunRecord(path)  # an error before anything is computed
    if len(set(runs)) != len(runs):
        raise ConfigError("the same run is named twice; name each once")
    if live and len(runs) > 1:
        raise ConfigError("--live follows one run; name one")
    target = _target(runs, output)
    with stray_output_to_stderr():
        from ptb_report.page import page

        if live:
            from ptb_report.live import follow

            follow(runs[0], target, language)
        content = page(runs, language, _recorder(runs[0]) if len(runs) == 1 else None)
        _write(target, content)
    if as_json:
        click.echo(json.dumps({"schema": 1, "file": str(target), "bytes": len(content)}))
        return
    click.echo(f"wrote {target} ({len(content) / 1000:,.0f} kB)")


def _check_library() -> None:
    """The observer of this package says what it needs, and how to get it."""
    entry = next(each for each in installed().components("callback") if each.found.built_in and each.name == "report")
    entry.check_dependencies()


def _target(runs: Sequence[Path], output: Path | None) -> Path:
    if output is None and len(runs) == 1:
        return runs[0] / FILE
    target = output or Path(FILE)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"-o {target}: a .html file can be written; for pictures there is `ptb plot`")
    if target.exists():
        raise ConfigError(f"{target} exists; name another file with -o FILE.html, or delete it")
    if not target.parent.is_dir():
        raise ConfigError(f"-o {target}: there is no folder {target.parent}")
    return target


def _recorder(run: Path) -> Callable[[str], Any]:
    """Records what is predicted for each sample of a split of the run, as ``ptb eval`` would say it."""

    def record(split: str) -> None:
        from ptb.internals import RunDirectory, evaluate_run, evaluation_config, put_off_dynamo, resolve

        directory = RunDirectory.open(run)
        config = evaluation_config(directory)
        partial = resolve(config, installed(config))
        put_off_dynamo()
        evaluate_run(directory, partial, split=split, record=True)

    return record


def _write(target: Path, content: bytes) -> None:
    from ptb.internals import write_atomically

    write_atomically(target, content)
