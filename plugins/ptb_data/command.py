"""``ptb data show`` and ``ptb data split``."""

import json
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

from ptb import json_option, run_options, verbose_option
from ptb.internals import UserPath, check_output, installed, printable, resolve, stray_output_to_stderr

if TYPE_CHECKING:
    from ptb import RunConfig
    from ptb.internals import PartialConfig


@click.group()
def data() -> None:
    """Show what a data set holds, and write its splits to files."""


@data.command()
@run_options
@click.option(
    "--plot",
    "file",
    type=UserPath(),
    metavar="FILE",
    help="Draw training samples, or how the columns of a table are spread, into a new .png, .svg or .pdf file.",
)
@json_option
@verbose_option
def show(config: "RunConfig", file: Path | None, as_json: bool, verbose: bool) -> None:
    """Show what a data set holds, before anything is trained.

    Takes the options of `ptb run`; those of the data set count. Shown are the splits, the form of inputs and targets,
    the classes in their order, what each column was taken for and why, the figures of the training split, what is done
    to the samples, and what looks wrong. At most 100,000 samples of a split are read.

    \b
    ptb data show --dataset iris
    ptb data show --dataset csv dataset.path=prices.csv dataset.target=price
    ptb data show --dataset digits --plot digits.png
    """  # noqa: D301  # click wants the backspace itself
    partial = _resolved(config)
    if file is not None:
        from ptb_data.picture import check_file

        check_file(file)
    with stray_output_to_stderr():
        from ptb_data.overview import overview
        from ptb_data.page import page

        facts = overview(partial.dataset, partial.run.seed)
        if file is not None:
            from ptb_data.picture import draw

            draw(partial.dataset, partial.run.seed, file)
            facts["plot"] = str(file)
    if as_json:
        click.echo(json.dumps({"schema": 1, **facts}))
        return
    click.echo(printable(page(facts, get_terminal_size().columns), kept="\n"))
    if file is not None:
        click.echo(f"\ndrew training samples into {file}")


@data.command()
@run_options
@click.option(
    "-o", "--output", required=True, type=UserPath(), metavar="FOLDER", help="Where to write them: new, or empty."
)
@json_option
@verbose_option
def split(config: "RunConfig", output: Path, as_json: bool, verbose: bool) -> None:
    """Write the splits of a data set to files, in the form in which they were read.

    Takes the options of `ptb run`; those of the data set count. What a run with these options trains on, validates
    with and tests on is then in files of its own, for other programs and for `ptb predict`.

    \b
    ptb data split --dataset csv dataset.path=prices.csv dataset.target=price -o splits
    """  # noqa: D301  # click wants the backspace itself
    partial = _resolved(config)
    check_output(output)
    with stray_output_to_stderr():
        from ptb_data.split import write_splits

        written = write_splits(partial.dataset, partial.run.seed, output)
    if as_json:
        click.echo(json.dumps({"schema": 1, "splits": written}))
    else:
        for name, facts in written.items():
            click.echo(printable(f"{name}: {facts['samples']:,} samples in {facts['path']}"))


def _resolved(config: "RunConfig") -> "PartialConfig":
    if "name" not in (model := config.values.setdefault("model", {})):
        model["name"] = "linear"  # a configuration needs one, and the data set does not care which
    return resolve(config, installed(config))
