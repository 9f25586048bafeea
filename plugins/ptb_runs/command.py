"""``ptb runs`` and ``ptb compare``."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

import click

from ptb import ConfigError, PtbError, RunRecord, json_option, verbose_option
from ptb.internals import UserPath, columns, count, finite, printable, tidy

MOST_RUNS = 8  # beside each other on a screen
MOST_SETTINGS = 20  # that are shown unasked
WIDTH = 40


@click.command()
@click.argument("folder", metavar="[DIR]", type=UserPath(), default="runs")
@click.option("--tag", "tags", multiple=True, metavar="T", help="Only runs that have this tag. Repeatable.")
@click.option(
    "--sort", metavar="FIGURE", help="By a figure, as test/accuracy, the largest first; =-FIGURE: the smallest."
)
@json_option
@verbose_option
def runs(folder: Path, tags: tuple[str, ...], sort: str | None, as_json: bool, verbose: bool) -> None:
    """List the runs of a folder, by default those in runs/.

    \b
    ptb runs
    ptb runs experiments --tag baseline --sort val/accuracy
    """  # noqa: D301  # click wants the backspace itself
    from ptb_runs.facts import find, line

    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; `ptb run` makes runs, by default in runs/")
    found = []
    for path in find(folder):
        try:
            found.append(line(RunRecord(path)))
        except PtbError as error:
            found.append({"run": str(path), "status": f"cannot be read: {error}", "tags": [], "metrics": {}})
    found = [each for each in found if set(tags) <= set(each["tags"])]
    if sort is not None:
        descending, sort = not sort.startswith("-"), sort.removeprefix("-")
        if found and not any(sort in each["metrics"] for each in found):
            known = sorted({key for each in found for key in each["metrics"]})
            raise ConfigError(f"no run has the figure '{sort}'; there are {', '.join(known) or 'none'}")
        measured = [each for each in found if _is_number(each["metrics"].get(sort))]
        measured.sort(key=lambda each: float(each["metrics"][sort]), reverse=descending)
        found = measured + [each for each in found if each not in measured]
    if as_json:
        click.echo(json.dumps({"schema": 1, "runs": finite(found)}))
        return
    if not found:
        click.echo(f"no runs in {folder}" + (" with these tags" if tags else ""))
        return
    heads = ("RUN", "NAME", "TAGS", "STATUS", "MODEL", "DATA SET", "EPOCH", "FIGURES")
    rows = [
        (
            each["run"],
            each.get("name") or "",
            " ".join(each["tags"]),
            tidy(each["status"], WIDTH),
            each.get("model") or "",
            each.get("dataset") or "",
            _cell(each.get("epoch")),
            _figures(each["metrics"], sort),
        )
        for each in found
    ]
    click.echo(columns([heads, *rows]))


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="RUN RUN...", type=UserPath())
@click.option("--all", "every", is_flag=True, help=f"All settings that differ, not {MOST_SETTINGS} at most.")
@json_option
@verbose_option
def compare(paths: tuple[Path, ...], every: bool, as_json: bool, verbose: bool) -> None:
    """Show the settings that runs differ in, and their figures side by side.

    Components come first, then settings that all runs have, then those that only some have.

    \b
    ptb compare runs/one runs/other
    ptb compare runs/*
    """  # noqa: D301  # click wants the backspace itself
    from ptb_runs.facts import differing, figures

    if len(paths) < 2:
        raise ConfigError("name two runs at least; `ptb runs` lists them")
    records = [RunRecord(path) for path in paths]
    settings, results = differing(records), figures(records)
    status = [str(record.summary.get("status", "not ended")) for record in records]
    if as_json:
        facts: dict[str, Any] = {
            "runs": [str(path) for path in paths],
            "status": status,
            "settings": settings,
            "metrics": results,
        }
        click.echo(json.dumps({"schema": 1, **finite(facts)}))
        return
    more = 0 if every else max(0, len(settings) - MOST_SETTINGS)
    settings = dict([*settings.items()][: len(settings) - more])
    if len(paths) > MOST_RUNS:  # runs below each other, what differs beside each other
        table = [["RUN", *settings, *results]]
        table += [
            [str(path), *(_cell(row[place]) for row in (*settings.values(), *results.values()))]
            for place, path in enumerate(paths)
        ]
    else:
        table = [["", *(path.name for path in paths)], ["status", *status]]
        table += [[key, *map(_cell, row)] for key, row in (settings | results).items()]
    click.echo(printable(columns(table), kept="\n"))
    if more:
        click.echo(f"and {count(more, 'setting')} more that differ{'s' * (more == 1)}: --all")
    if not settings:
        click.echo("their settings are the same")


def _figures(metrics: dict[str, Any], sort: str | None) -> str:
    """The figures of the last split that was measured, the test if there is one, and the one that is sorted by."""
    for split in ("test", "val", "train"):
        shown = [key for key in metrics if key.startswith(f"{split}/") and key.count("/") == 1]
        if shown:
            keys = dict.fromkeys([*([sort] if sort in metrics else []), *shown])
            return "  ".join(f"{key} {_cell(metrics[key])}" for key in keys)
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else tidy(value if isinstance(value, str) else json.dumps(value), WIDTH)
    )
