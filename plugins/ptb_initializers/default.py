"""Keeps what each layer did in its own ``reset_parameters``: the right choice unless you know a reason."""

from torch import nn


def default(module: nn.Module) -> None:
    """Leaves every parameter as PyTorch's layers made it.

    For linear and convolution layers that is uniform in ``+-1/sqrt(fan_in)``, weights and biases
    (https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html).
    """
