"""The built-in learning-rate schedulers; each is stepped once per optimizer step."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_schedulers() -> Iterable[Component]:
    """How the learning rate moves over a run."""
    return [
        Component(
            "constant",
            "ptb_schedulers.constant:constant",
            summary="The learning rate stays as it is",
            settings="ptb_schedulers.settings:Constant",
        ),
        Component(
            "cosine",
            "ptb_schedulers.cosine:cosine",
            summary="Falls along half a cosine from the learning rate to its minimum at the last step",
            settings="ptb_schedulers.settings:Cosine",
        ),
    ]
