"""``ptb data``: what a data set holds, before anything is trained, and its splits as files."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [Command("data", "ptb_data.command:data", "Show what a data set holds, and write its splits to files.")]
