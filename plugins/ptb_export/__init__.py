"""``ptb export``: a trained model as a file that needs no ptb."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [Command("export", "ptb_export.command:export", "Write the model of a run as ONNX or torch.export file.")]
