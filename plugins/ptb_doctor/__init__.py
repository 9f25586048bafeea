"""What is wrong with the plugins, which of them is to blame, and whether a promise holds on this machine."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [
        Command("plugins doctor", "ptb_doctor.command:doctor", "Examine the installation and say what is wrong."),
        Command("plugins bisect", "ptb_doctor.command:bisect", "Find the plugin that makes a command fail."),
        Command("plugins freeze", "ptb_doctor.freeze:freeze", "Print the pip requirements of all plugins."),
        Command("verify", "ptb_doctor.verify:verify", "Prove on this machine that a run resumes to the same bits."),
    ]
