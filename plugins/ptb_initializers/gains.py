"""The factor by which weights make up for the function after their layer."""

from typing import Literal

from torch import nn

from ptb_initializers.settings import Nonlinearity

TorchName = Literal["linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]


def gain_of(nonlinearity: Nonlinearity, negative_slope: float) -> float:
    """The gain by ``torch.nn.init.calculate_gain``.

    ================================== ===================================
    nonlinearity                       gain
    ================================== ===================================
    linear, identity, conv1d to conv3d 1
    sigmoid                            1
    tanh                               5/3
    relu                               sqrt(2)
    leaky_relu                         sqrt(2 / (1 + negative_slope^2))
    selu                               3/4
    ================================== ===================================

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain
    """
    return nn.init.calculate_gain(torch_name(nonlinearity), negative_slope)


def torch_name(nonlinearity: Nonlinearity) -> TorchName:
    """What ``torch.nn.init`` calls it: the identity is linear there."""
    return "linear" if nonlinearity == "identity" else nonlinearity
