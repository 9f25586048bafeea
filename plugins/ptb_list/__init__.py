"""``ptb list``, ``ptb show`` and ``ptb plugins list``: what there is to choose from."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [
        Command("list", "ptb_list.command:list_components", "List the installed components."),
        Command("show", "ptb_list.command:show", "Show a component and its settings."),
        Command("plugins", "ptb_list.command:plugins", "See, check, write and diagnose plugins."),
        Command("plugins list", "ptb_list.command:list_plugins", "List every installed plugin."),
    ]
