"""``ptb export``."""

import json
from pathlib import Path

import click

from ptb import ConfigError, json_option, verbose_option
from ptb.internals import UserPath, installed, plugin_options, stray_output_to_stderr


@click.command()
@click.argument("run", metavar="RUN[@C]", type=UserPath())
@click.argument("sources", nargs=-1, metavar="[SOURCE...]")
@click.option(
    "--format", "format_name", type=click.Choice(["onnx", "torch-export"]), required=True, help="What is written."
)
@click.option("-o", "--output", type=UserPath(), metavar="FILE", help="Where; RUN.onnx or RUN.pt2 when left out.")
@click.option("--checkpoint", metavar="C", help="best, last, a step or a label; best if there is one, else last.")
@plugin_options
@json_option
@verbose_option
def export(
    run: Path,
    sources: tuple[str, ...],
    format_name: str,
    output: Path | None,
    checkpoint: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Write the model of a run to a file that needs no ptb.

    In the file are the transformation of the data set (as the normalisation of pictures), the model in eval mode, and
    the last link: softmax, sigmoid or the units of the target. The batch size is free. How files and rows become inputs
    is in FILE.preprocessor.json beside it. The file is compared with the run on 256 real samples, those of SOURCE or
    else of the run's test split, at several batch sizes, and the JSON by files that are read with it alone; where one
    differs, nothing is written and the command ends with 4.

    \b
    ptb export RUN --format onnx
    ptb export RUN@best photos/ --format torch-export -o cats.pt2
    """  # noqa: D301  # click wants the backspace itself
    registry = installed()
    with stray_output_to_stderr():
        from ptb_export.exporting import export_run
        from ptb_export.formats import SUFFIXES

        suffix = SUFFIXES[format_name]
        target = output or Path(f"{Path(str(run).rpartition('@')[0] or str(run)).resolve().name}{suffix}")
        if target.suffix != suffix:
            raise ConfigError(f"-o {target}: a file of this format ends in {suffix}")
        done = export_run(str(run), sources, format_name, target, checkpoint, registry)
    if as_json:
        click.echo(json.dumps({"schema": 1, **done}))
        return
    click.echo(
        f"wrote {done['file']} ({done['bytes']:,} bytes) and {done['preprocessor']}\n"
        f"the same as step {done['step']} of the run on {done['samples']} samples, but for {done['difference']:.1e} of "
        "the largest score"
    )
    if done["precision"]:
        click.echo(f"it computes in fp32, and so did the run for this comparison; training was in {done['precision']}")
    if done["read"]:
        click.echo(f"{done['read']} inputs read from files with the sidecar alone are those of the run")
    if done["unread"] or not done["read"]:
        click.echo(f"compared from tensors on, not from files: {done['unread'] or 'no file is known; name SOURCE'}")
