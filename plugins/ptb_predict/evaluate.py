"""``ptb eval``: the metrics of a saved checkpoint, on a split of the run or on other data."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ptb import ConfigError, json_option, verbose_option
from ptb.internals import (
    ComponentName,
    UserPath,
    columns,
    finite,
    installed,
    is_override,
    plugin_options,
    printable,
    processes_options,
    speaks,
    storage_errors,
    stray_output_to_stderr,
)


@click.command("eval")
@click.argument("run", metavar="RUN[@C]", type=UserPath())
@click.option("--checkpoint", metavar="C", help="best, last, a step or a label; best if there is one, else last.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="The samples of the run to evaluate on [default: test].",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    type=ComponentName("metric"),
    help="A metric to compute in place of those of the run; see `ptb list metric`. Repeatable.",
)
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps [default: that of the run].")
@click.option(
    "--predictions",
    type=UserPath(),
    metavar="FILE",
    help="Write a row for each sample: input, truth, prediction, probability, loss. A .csv or .jsonl file.",
)
@click.option("--sort", type=click.Choice(["loss"]), help="With --predictions: the largest loss first.")
@click.argument("arguments", nargs=-1, metavar="[SOURCE]... [KEY=VALUE]...")
@processes_options
@plugin_options
@verbose_option
@json_option
def evaluate(
    run: Path,
    checkpoint: str | None,
    split: str | None,
    metrics: tuple[str, ...],
    device: str | None,
    predictions: Path | None,
    sort: str | None,
    arguments: tuple[str, ...],
    verbose: bool,
    as_json: bool,
) -> None:
    """Evaluate a saved checkpoint.

    RUN is a run directory; its own config says on which data set and how. Instead of a split of that, SOURCE is other
    data with targets: files and folders as `ptb predict` takes them, read by what the run has learnt; nothing is
    written into RUN then. KEY=VALUE sets a metric (metrics.LABEL.KEY), loader.batch_size, loader.placement and what
    belongs to it, device, threads, or where the data of the run is now (dataset.path and the like); all else is as in
    the run.

    \b
    ptb eval runs/mine --checkpoint best --split val
    ptb eval runs/mine next-month.csv --predictions worst.csv --sort loss
    ptb eval runs/mine --metric accuracy --metric top-k metrics.top-k.k=3
    """  # noqa: D301  # click wants the backspace itself
    from ptb.internals import RunDirectory, evaluation_config, resolve, split_checkpoint
    from ptb_predict.sources import sources

    overrides = [text for text in arguments if is_override(text)]
    named = [text for text in arguments if not is_override(text)]
    if named and split:
        raise ConfigError(f"--split {split} is a part of the data of the run, and {named[0]} is other data; choose one")
    if predictions is not None and predictions.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--predictions {predictions}: a .csv or a .jsonl file can be written")
    if sort and predictions is None:
        raise ConfigError("--sort orders the rows of --predictions FILE; name that too")
    given = [*sources(named, sys.stdin)] if named else None
    path, of_run = split_checkpoint(str(run))
    directory = RunDirectory.open(path)
    config = evaluation_config(directory, device, metrics, overrides)
    registry = installed(config)
    with stray_output_to_stderr():
        partial = resolve(config, registry)  # every config error is reported before torch is imported
        from ptb.internals import evaluate_run, put_off_dynamo

        put_off_dynamo()
        result = evaluate_run(
            directory,
            partial,
            checkpoint=checkpoint or of_run,
            split=split or "test",
            sources=given,
            samples=predictions is not None,
        )
    rows = result.pop("samples", None)
    if predictions is not None and speaks():
        _write(predictions, rows, sort)
    if as_json:
        click.echo(json.dumps({"schema": 1, **finite(result)}))
        return
    click.echo(printable("\n".join(_lines(result)), kept="\n"))
    if predictions is not None:
        click.echo(f"\nwhat is predicted for each sample is in {predictions}")


def _write(path: Path, rows: list[dict[str, Any]], sort: str | None) -> None:
    """A row for each sample, those that cost most first if that is asked for."""
    if sort:
        if rows and "loss" not in rows[0]:
            raise ConfigError("--sort loss: the loss of the run gives no value for one sample; leave it out")
        rows.sort(key=lambda row: -row["loss"])
    if rows and any(isinstance(value, list) for value in rows[0].values()) and path.suffix == ".csv":
        raise ConfigError("a prediction has many values here, which a CSV file cannot hold; name a .jsonl file")
    with storage_errors(path), path.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix == ".jsonl":
            stream.writelines(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows)
            return
        writer = csv.DictWriter(stream, [*rows[0]] if rows else ["input"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['split']} split, step {result['step']}"
    for key, value in result["metrics"].items():
        yield f"  {key} {value:.6g}"
    for label, details in result["details"].items():
        classes = details.get("classes")
        names = [row.get("class") for row in classes if isinstance(row, dict)] if isinstance(classes, list) else []
        for name, value in details.items():
            yield f"\n{label}, {name}:\n{_table(value, names)}"


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
