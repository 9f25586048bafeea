"""``ptb predict`` and ``ptb eval``: what a trained model says of files, rows and arrays, and how right it is."""

from collections.abc import Iterable

from ptb import Command, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [
        Command("predict", "ptb_predict.command:predict", "Predict new inputs with the model of a run."),
        Command("eval", "ptb_predict.evaluate:evaluate", "Evaluate a saved checkpoint."),
    ]
