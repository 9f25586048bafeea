"""``ptb eval``: the figures of a saved checkpoint."""

import json
from pathlib import Path

import click

from ptb.cli.options import installed, json_option, results_apart, verbose_option


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--checkpoint", default="last", show_default=True, metavar="last|best|STEP", help="Which saved weights.")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True, help="Which samples."
)
@click.option("--device", metavar="DEVICE", help="Where to compute; that of the run when left out.")
@verbose_option
@json_option
def evaluate(run: Path, checkpoint: str, split: str, device: str | None, verbose: bool, as_json: bool) -> None:
    """Evaluate a saved checkpoint.

    RUN is a run directory; its own config says on which data set and how.
    """
    from ptb.rundir import RunDirectory, finite

    RunDirectory.open(run)  # a wrong path is told before torch is imported
    registry = installed()
    from ptb.run import evaluate_run

    with results_apart():
        result = evaluate_run(run, checkpoint=checkpoint, split=split, device=device, registry=registry)
    if as_json:
        click.echo(json.dumps({"schema": 1, **finite(result)}))
        return
    click.echo(f"{split} split, step {result['step']}")
    for key, value in result["metrics"].items():
        click.echo(f"  {key} {value!r}")
