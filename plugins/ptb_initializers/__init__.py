"""The built-in initializers."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_initializers() -> Iterable[Component]:
    """Ways to fill a model's parameters before training."""
    return [
        Component(
            "default",
            "ptb_initializers.default:default",
            summary="What PyTorch's layers do by themselves",
            settings="ptb_initializers.settings:Default",
        ),
        Component(
            "kaiming-normal",
            "ptb_initializers.kaiming:kaiming_normal",
            summary="Normal with the variance that keeps ReLU networks from fading (He et al., 2015)",
            settings="ptb_initializers.settings:KaimingNormal",
        ),
    ]
