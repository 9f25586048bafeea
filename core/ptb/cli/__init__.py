"""The command line: ``ptb``. Each file holds one group of commands; torch is imported inside those that need it."""

import functools

import click

from ptb.cli.config import config
from ptb.cli.errors import PtbGroup
from ptb.cli.evaluate import evaluate
from ptb.cli.listing import list_components, show
from ptb.cli.options import plugin_options
from ptb.cli.plugins import plugins
from ptb.cli.replay import replay
from ptb.cli.run import check, resume, run
from ptb_bench.command import bench
from ptb_doctor.verify import verify
from ptb_import_torch.command import import_torch


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from ptb.registry.discovery import own_version

        click.echo(f"ptb {own_version()}")
        context.exit()


@click.group(cls=PtbGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
@functools.partial(plugin_options, hidden=False)
def main() -> None:
    """Train PyTorch networks from components that plugins provide.

    \b
    ptb run --model lenet                    train on real handwritten digits
    ptb list                                 what is there to choose from
    ptb show model lenet                     one component and its settings
    ptb run --model mlp model.hidden=[64] --epochs 5
    """  # noqa: D301  # click wants the backspace itself


for command in (
    run,
    resume,
    check,
    evaluate,
    replay,
    list_components,
    show,
    config,
    plugins,
    verify,
    bench,
    import_torch,
):
    main.add_command(command)
