"""For deep networks with ReLU: keeps the size of activations (or gradients) the same from layer to layer.

Both after He et al., 2015, arXiv:1502.01852; ``torch.nn.init.kaiming_uniform_`` and ``kaiming_normal_``
(https://docs.pytorch.org/docs/stable/nn.init.html). Choose ``xavier`` for networks with tanh or sigmoid.
"""

from functools import partial

from torch import nn

from ptb_initializers.gains import torch_name
from ptb_initializers.settings import SLOPE, Mode, Nonlinearity
from ptb_initializers.weights import fill_weights


def kaiming_uniform(
    module: nn.Module, *, mode: Mode = "fan_in", nonlinearity: Nonlinearity = "relu", negative_slope: float = SLOPE
) -> None:
    """Fills each weight of two or more dimensions from U(-x, x), x = gain * sqrt(3 / fan); biases become 0.

    Norm layers are left as they are.

    Args:
        module: the model.
        mode: which fan: ``"fan_in"`` keeps the variance of activations, ``"fan_out"`` that of gradients.
        nonlinearity: chooses the gain, see ``gains.gain_of``.
        negative_slope: of leaky_relu.

    Raises:
        ValueError: no weight of the model has two or more dimensions.
    """
    fill = partial(nn.init.kaiming_uniform_, a=negative_slope, mode=mode, nonlinearity=torch_name(nonlinearity))
    fill_weights(module, "kaiming-uniform", fill)


def kaiming_normal(
    module: nn.Module, *, mode: Mode = "fan_in", nonlinearity: Nonlinearity = "relu", negative_slope: float = SLOPE
) -> None:
    """Fills each weight of two or more dimensions from N(0, (gain / sqrt(fan))^2); biases become 0.

    Norm layers are left as they are.

    Args:
        module: the model.
        mode: which fan: ``"fan_in"`` keeps the variance of activations, ``"fan_out"`` that of gradients.
        nonlinearity: chooses the gain, see ``gains.gain_of``.
        negative_slope: of leaky_relu.

    Raises:
        ValueError: no weight of the model has two or more dimensions.
    """
    fill = partial(nn.init.kaiming_normal_, a=negative_slope, mode=mode, nonlinearity=torch_name(nonlinearity))
    fill_weights(module, "kaiming-normal", fill)
