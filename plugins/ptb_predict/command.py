"""``ptb predict``."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ptb import ConfigError, DataError, verbose_option
from ptb.internals import UserPath, count, installed, plugin_options, processes_options, speaks, stray_output_to_stderr

if TYPE_CHECKING:
    from ptb import TrainedModel
    from ptb.internals import Predicted

IN_FILES = ("positions", "none")


@click.command()
@click.argument("run", metavar="RUN[@C]", type=UserPath())
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "-o",
    "--output",
    type=UserPath(),
    metavar="FILE",
    help="A .csv or .jsonl file, or for pictures and arrays a folder.",
)
@click.option("--checkpoint", metavar="C", help="best, last, a step or a label; best if there is one, else last.")
@click.option("--scores", is_flag=True, help="The probability of every class too.")
@click.option("--top", type=click.IntRange(1), default=1, metavar="K", help="Name the K most probable classes.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), metavar="P", help="Name labels above this probability [default: 0.5]."
)
@click.option("--keep", multiple=True, metavar="COLUMN", help="Copy a column of a table to the output. Repeatable.")
@click.option(
    "--batch-size", type=click.IntRange(1), metavar="N", help="Inputs that are computed together; as in the run."
)
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--strict", is_flag=True, help="Stop at the first input that cannot be used.")
@click.option("-q", "--quiet", is_flag=True, help="No bar.")
@processes_options
@plugin_options
@verbose_option
def predict(
    run: Path,
    sources: tuple[str, ...],
    output: Path | None,
    checkpoint: str | None,
    scores: bool,
    top: int,
    threshold: float | None,
    keep: tuple[str, ...],
    batch_size: int | None,
    device: str,
    strict: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Predict new inputs with the model of a run.

    SOURCE is a file or folder of the kind that the run was trained on (pictures, a table with or without its target,
    .npy), a pattern such as 'new/*.png', or - for JSON lines on standard input: an object for a row of a table, a list
    of numbers, or a path. Written is a row for each input, in their order, while they are read: to standard output as
    CSV, or into a .csv or .jsonl file. An input that cannot be used has its reason in the column error, and the command
    ends with 3.

    \b
    ptb predict RUN photos/ -o predictions.csv
    ptb predict RUN@best new.csv --scores
    echo '{"length": 5.1, "width": 3.5}' | ptb predict RUN -
    """  # noqa: D301  # click wants the backspace itself
    from ptb_predict.sources import sources as expanded

    given = expanded(sources, sys.stdin)
    registry = installed()
    results = sys.stdout
    with stray_output_to_stderr():
        from ptb import load
        from ptb.internals import cpu_threads, join, leaving
        from ptb_predict.files import Files

        model = load(run, checkpoint, device=device, registry=registry)
        model.processes = world = join(model.device)
        if world is not None and "-" in sources:
            raise ConfigError("several processes cannot read one standard input; name a file, or leave --nproc out")
        _check_options(model, output, top, threshold)
        kept = _kept(model, keep)
        in_files = model.spec.positions or model.spec.target == "none"
        if not speaks():  # rank 0 writes what all have computed
            output, quiet = None, True
        if in_files and output is not None:
            output.mkdir(parents=True, exist_ok=True)
        files = Files(output, model.spec) if in_files and output is not None else None
    bad = total = 0
    with (
        leaving(world),
        cpu_threads(model.threads),
        _bar(quiet) as advance,
        _rows(None if files else output, results, model, scores, top, threshold) as writer,
    ):
        for batch in model.batches(given, batch_size=batch_size):
            if speaks():
                writer.write(files.written(batch) if files else batch, kept(batch))
            total += len(batch.names)
            bad += len(batch.errors)
            advance(len(batch.names))
            if strict and batch.errors:
                place, reason = min(batch.errors.items())
                raise DataError(f"{batch.names[place]}: {reason}; without --strict the others are predicted")
    if output is not None and not quiet:
        click.echo(f"wrote {count(total, 'row')} to {output}", err=True)
    if bad:
        raise DataError(
            f"{count(bad, 'input')} of {total:,} could not be used: the column error says why"
            + ("; the others are predicted" if bad < total else "")
        )
    if not total:
        raise DataError("there was nothing to predict: the sources hold no inputs")


def _check_options(model: "TrainedModel", output: Path | None, top: int, threshold: float | None) -> None:
    """Refuses what does not go with what is predicted."""
    target, positions = model.spec.target, model.spec.positions
    if top > 1 and (target not in ("class", "binary") or positions):
        raise ConfigError(f"--top names classes, and this model predicts targets of kind {target}; leave it out")
    if threshold is not None and target != "multilabel":
        raise ConfigError(f"--threshold is for labels, and this model predicts targets of kind {target}; leave it out")
    if (positions or target == "none") and (output is None or output.suffix in (".csv", ".jsonl")):
        raise ConfigError("this model predicts a picture or an array for each input; name a folder for them: -o FOLDER")
    if not (positions or target == "none") and output is not None and output.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"-o {output}: a .csv or a .jsonl file can be written")


def _kept(model: "TrainedModel", keep: Sequence[str]) -> "Callable[[Predicted], dict[str, list[str]]]":
    """Gives the columns to be kept of the inputs of each batch, those with an error left out."""
    if not keep:
        return lambda batch: {}
    if not hasattr(model.preprocessor, "keep"):
        raise ConfigError("--keep copies columns of a table, and this model predicts no rows of one; leave it out")
    for name in keep:
        if name.split(":")[0] in ("input", "error", "prediction", "probability"):
            raise ConfigError(f"--keep {name}: the output has a column of this name itself; rename it in the table")
    texts: deque[tuple[str, list[str]]] = model.preprocessor.keep(keep)
    blank = [""] * len(keep)

    def columns(batch: "Predicted") -> dict[str, list[str]]:
        # A line of standard input that is no JSON is no sample of the preprocessor.
        rows = [texts.popleft()[1] if texts and texts[0][0] == name else blank for name in batch.names]
        rows = [row for place, row in enumerate(rows) if place not in batch.errors]
        return {name: [row[place] for row in rows] for place, name in enumerate(keep)}

    return columns


@contextmanager
def _rows(
    output: Path | None, results: IO[str], model: "TrainedModel", scores: bool, top: int, threshold: float | None
) -> Iterator[Any]:
    """What writes rows, to a file or to standard output."""
    from ptb.internals import storage_errors
    from ptb_predict.rows import CsvRows, JsonRows, Shape

    shape = Shape(model.spec, scores, top, 0.5 if threshold is None else threshold)
    if output is None:
        yield from _writing(CsvRows(results, shape))
        return
    kind = JsonRows if output.suffix == ".jsonl" else CsvRows
    with storage_errors(output), output.open("w", encoding="utf-8", newline="") as stream:
        yield from _writing(kind(stream, shape))


def _writing(writer: Any) -> Iterator[Any]:
    yield writer
    writer.close()


@contextmanager
def _bar(quiet: bool) -> Iterator[Any]:
    """Counts inputs on standard error, where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda number: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    shown = (SpinnerColumn(), TextColumn("{task.completed:,.0f} inputs"), TimeElapsedColumn())
    with Progress(*shown, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda number: progress.advance(task, number)
