"""For deep networks with ReLU: keeps the size of activations (or gradients) the same from layer to layer."""

from typing import Literal

from torch import nn

Nonlinearity = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]


def kaiming_normal(
    module: nn.Module,
    *,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: Nonlinearity = "relu",
    negative_slope: float = 0.01,
) -> None:
    """Fills each weight of two or more dimensions from N(0, (gain / sqrt(fan))^2), and each bias with 0.

    He et al., 2015, arXiv:1502.01852; ``torch.nn.init.kaiming_normal_``. Parameters of one dimension that are no bias,
    such as the scale of a batch norm, are left as they are.

    Args:
        module: the model.
        mode: which fan: ``"fan_in"`` keeps the variance of activations, ``"fan_out"`` that of gradients.
        nonlinearity: chooses the gain: 1 for linear and sigmoid, 5/3 for tanh, sqrt(2) for relu,
            sqrt(2 / (1 + negative_slope^2)) for leaky_relu, 3/4 for selu.
        negative_slope: of leaky_relu.
    """
    for name, parameter in module.named_parameters():
        if "bias" in name.rpartition(".")[2]:  # recurrent layers have bias_ih_l0, attention in_proj_bias
            nn.init.zeros_(parameter)
        elif parameter.ndim >= 2:
            nn.init.kaiming_normal_(parameter, a=negative_slope, mode=mode, nonlinearity=nonlinearity)
