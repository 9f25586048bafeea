"""``ptb data``: what a data set holds, before anything is trained, and its splits as files."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [
        Command("data show", "ptb_data.command:show", "Show what a data set holds, before anything is trained."),
        Command("data split", "ptb_data.command:split", "Write the splits of a data set to files."),
    ]
