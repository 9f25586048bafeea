"""``ptb eval``: the metrics of a saved checkpoint."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ptb.cli.options import (
    ComponentName,
    UserPath,
    installed,
    json_option,
    plugin_options,
    stray_output_to_stderr,
    verbose_option,
)
from ptb.cli.text import columns, printable


@click.command("eval")
@click.argument("run", type=UserPath())
@click.option("--checkpoint", metavar="C", help="best, last, a step or a label; best if there is one, else last.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="The samples to evaluate on.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    type=ComponentName("metric"),
    help="A metric to compute in place of those of the run; see `ptb list metric`. Repeatable.",
)
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps [default: that of the run].")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@plugin_options
@verbose_option
@json_option
def evaluate(
    run: Path,
    checkpoint: str | None,
    split: str,
    metrics: tuple[str, ...],
    device: str | None,
    overrides: tuple[str, ...],
    verbose: bool,
    as_json: bool,
) -> None:
    """Evaluate a saved checkpoint.

    RUN is a run directory; its own config says on which data set and how. KEY=VALUE sets a metric (metrics.LABEL.KEY),
    loader.batch_size, loader.placement and what belongs to it, device or threads; all else is as in the run.

    \b
    ptb eval runs/mine --checkpoint best --split val
    ptb eval runs/mine --metric accuracy --metric top-k metrics.top-k.k=3
    """  # noqa: D301  # click wants the backspace itself
    from ptb.config.resolve import resolve
    from ptb.runs.overrides import evaluation_config
    from ptb.storage.run_directory import RunDirectory, finite, split_checkpoint

    path, named = split_checkpoint(str(run))
    directory = RunDirectory.open(path)
    config = evaluation_config(directory, device, metrics, overrides)
    registry = installed(config)
    with stray_output_to_stderr():
        partial = resolve(config, registry)  # every config error is reported before torch is imported
    from ptb.cli.lazy_dynamo import put_off_dynamo
    from ptb.runs.evaluate import evaluate_run

    put_off_dynamo()
    with stray_output_to_stderr():
        result = evaluate_run(directory, partial, checkpoint=checkpoint or named, split=split)
    if as_json:
        click.echo(json.dumps({"schema": 1, **finite(result)}))
        return
    click.echo(printable("\n".join(_lines(result)), kept="\n"))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['split']} split, step {result['step']}"
    for key, value in result["metrics"].items():
        yield f"  {key} {value:.6g}"
    for label, details in result["details"].items():
        classes = details.get("classes")
        names = [row.get("class") for row in classes if isinstance(row, dict)] if isinstance(classes, list) else []
        for name, value in details.items():
            yield f"\n{label}, {name}:\n{_table(value, names)}"
    if result["losses"]:
        yield f"\nthe loss of each sample is in {result['losses']}"


def _table(value: Any, names: Sequence[Any]) -> str:
    """A list of dicts with the same keys, or a matrix, in columns; anything else as JSON.

    Rows and columns of a matrix with one for each class have the ``names`` of the classes.
    """
    if isinstance(value, list) and value and all(isinstance(row, dict) and [*row] == [*value[0]] for row in value):
        cells = [[_cell(cell) for cell in row.values()] for row in value]
        return columns([[str(key).upper() for key in value[0]], *cells], indent="  ")
    if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
        if len(value) == len(names) and all(len(row) == len(names) for row in value):
            rows = [[str(name), *map(_cell, row)] for name, row in zip(names, value, strict=True)]
            return columns([["", *map(str, names)], *rows], indent="  ")
        width = max((len(_cell(cell)) for row in value for cell in row), default=0)
        return "\n".join("  " + "  ".join(_cell(cell).rjust(width) for cell in row) for row in value)
    return f"  {json.dumps(value)}"


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
