"""``ptb runs`` and ``ptb compare``: the runs that there are, and what they differ in."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [
        Command("runs", "ptb_runs.command:runs", "List the runs of a folder."),
        Command("compare", "ptb_runs.command:compare", "Show what runs differ in, and their figures side by side."),
    ]
