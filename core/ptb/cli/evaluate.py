"""``ptb eval``: the figures of a saved checkpoint."""

import json
from pathlib import Path
from typing import Any

import click

from ptb.cli.options import ComponentName, installed, json_option, results_apart, verbose_option
from ptb.cli.text import columns


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--checkpoint", default="last", show_default=True, metavar="last|best|STEP", help="Which saved weights.")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True, help="Which samples."
)
@click.option("--metric", "metrics", multiple=True, type=ComponentName("metric"), help="Instead of those of the run.")
@click.option("--device", metavar="DEVICE", help="Where to compute; that of the run when left out.")
@verbose_option
@json_option
def evaluate(
    run: Path, checkpoint: str, split: str, metrics: tuple[str, ...], device: str | None, verbose: bool, as_json: bool
) -> None:
    """Evaluate a saved checkpoint.

    RUN is a run directory; its own config says on which data set and how.
    """
    from ptb.rundir import RunDirectory, finite

    RunDirectory.open(run)  # a wrong path is told before torch is imported
    registry = installed()
    from ptb.run import evaluate_run

    with results_apart():
        result = evaluate_run(
            run, checkpoint=checkpoint, split=split, device=device, metrics=metrics, registry=registry
        )
    if as_json:
        click.echo(json.dumps({"schema": 1, **finite(result)}))
        return
    click.echo(f"{split} split, step {result['step']}")
    for key, value in result["metrics"].items():
        click.echo(f"  {key} {value!r}")
    for label, details in result["details"].items():
        for name, value in details.items():
            click.echo(f"\n{label}, {name}:\n{_table(value)}")
    if result["losses"]:
        click.echo(f"\nthe loss of each sample is in {result['losses']}")


def _table(value: Any) -> str:
    """A list of tables or a matrix in columns; anything else as JSON."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        cells = [[_cell(cell) for cell in row.values()] for row in value]
        return columns([[str(key).upper() for key in value[0]], *cells], indent="  ")
    if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
        width = max(len(_cell(cell)) for row in value for cell in row)
        return "\n".join("  " + "  ".join(_cell(cell).rjust(width) for cell in row) for row in value)
    return f"  {json.dumps(value)}"


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
