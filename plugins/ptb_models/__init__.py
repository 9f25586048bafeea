"""The built-in models."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_models() -> Iterable[Component]:
    """Networks that adapt to the data set's spec."""
    return [
        Component(
            "lenet",
            "ptb_models.lenet:LeNet",
            summary="Two convolutions and three linear layers, the classic for small pictures",
            settings="ptb_models.settings:LeNet",
        ),
        Component(
            "mlp",
            "ptb_models.mlp:MLP",
            summary="Linear layers with an activation between them, for inputs of any shape",
            settings="ptb_models.settings:MLP",
        ),
    ]
