"""``ptb config``: make, see and describe configurations."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [Command("config", "ptb_config.command:config", "Make, see and describe configurations.")]
