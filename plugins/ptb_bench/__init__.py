"""``ptb bench``: training and loading beside loops that are written by hand."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [
        Command("bench", "ptb_bench.command:bench", "Time ptb beside loops that are written by hand."),
    ]
