"""The command line: ``ptb``. Each file holds one group of commands, and is imported when one of them is used."""

import functools
import importlib

import click

from ptb.cli.commands import OpenGroup
from ptb.cli.errors import PtbGroup
from ptb.cli.options import plugin_options

CORE = ("check", "resume", "run")


class _CoreGroup(click.Group):
    """The commands of the core; to import them would cost every other command a twentieth of its start."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command: click.Command | None = None
        if cmd_name in CORE:
            command = getattr(importlib.import_module("ptb.cli.run"), cmd_name)
        return command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*CORE]


class _Main(PtbGroup, OpenGroup, _CoreGroup):
    """Handles errors for every command, those of plugins too."""


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pytorch-basics", message="ptb %(version)s", help="Show the version.")
@functools.partial(plugin_options, hidden=False)
def main() -> None:
    """Train PyTorch networks from components that plugins provide.

    \b
    ptb run --model lenet                    train on real handwritten digits
    ptb list                                 what is there to choose from
    ptb show model lenet                     one component and its settings
    ptb run --model mlp model.hidden=[64] --epochs 5
    """  # noqa: D301  # click wants the backspace itself
