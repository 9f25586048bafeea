"""``ptb plot``: draws what runs have recorded into a file, with any of the installed plots."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The command of this package."""
    return [Command("plot", "ptb_draw.command:plot", "Draw what runs have recorded.")]
