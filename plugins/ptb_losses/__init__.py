"""The built-in losses."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_losses() -> Iterable[Component]:
    """What training makes small."""
    return [
        Component(
            "cross-entropy",
            "ptb_losses.cross_entropy:CrossEntropy",
            summary="For one class out of several, on logits",
            settings="ptb_losses.settings:CrossEntropy",
            accepts=("class",),
        ),
    ]
