"""The built-in optimizers: PyTorch's own, with their options described."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_optimizers() -> Iterable[Component]:
    """Rules that turn gradients into steps."""
    return [
        Component(
            "adam",
            "torch.optim:Adam",
            summary="Steps scaled by running means of the gradient and its square: a good first choice",
            settings="ptb_optimizers.settings:Adam",
        ),
        Component(
            "sgd",
            "torch.optim:SGD",
            summary="weight - lr * gradient, with momentum if wanted: needs a tuned learning rate",
            settings="ptb_optimizers.settings:SGD",
        ),
    ]
