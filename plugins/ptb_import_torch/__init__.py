"""``ptb import-torch``: the weights in a ``.pt`` file as safetensors."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [
        Command("import-torch", "ptb_import_torch.command:import_torch", "Turn a .pt file into safetensors."),
    ]
