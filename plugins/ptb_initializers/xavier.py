"""For networks with tanh or sigmoid: a middle way between keeping activations and keeping gradients the same size.

Both after Glorot and Bengio, 2010, https://proceedings.mlr.press/v9/glorot10a.html; ``torch.nn.init.xavier_uniform_``
and ``xavier_normal_`` (https://docs.pytorch.org/docs/stable/nn.init.html). Choose ``kaiming`` for ReLU.
"""

from torch import nn

from ptb_initializers.gains import gain_of
from ptb_initializers.settings import SLOPE, Nonlinearity
from ptb_initializers.weights import fill_weights


def xavier_uniform(
    module: nn.Module, *, gain: float = 1.0, nonlinearity: Nonlinearity = "linear", negative_slope: float = SLOPE
) -> None:
    """Fills each weight of two or more dimensions from U(-x, x), x = gain * sqrt(6 / (fan_in + fan_out)).

    Biases become 0, norm layers are left as they are.

    Args:
        module: the model.
        gain: a factor; the one in the formula is this times the gain of ``nonlinearity``.
        nonlinearity: the function after the layers, see ``gains.gain_of``; that of linear is 1.
        negative_slope: of leaky_relu.

    Raises:
        ValueError: no weight of the model has two or more dimensions.
    """
    factor = gain * gain_of(nonlinearity, negative_slope)
    fill_weights(module, "xavier-uniform", lambda weight: nn.init.xavier_uniform_(weight, factor))


def xavier_normal(
    module: nn.Module, *, gain: float = 1.0, nonlinearity: Nonlinearity = "linear", negative_slope: float = SLOPE
) -> None:
    """Fills each weight of two or more dimensions from N(0, std^2), std = gain * sqrt(2 / (fan_in + fan_out)).

    Biases become 0, norm layers are left as they are.

    Args:
        module: the model.
        gain: a factor; the one in the formula is this times the gain of ``nonlinearity``.
        nonlinearity: the function after the layers, see ``gains.gain_of``; that of linear is 1.
        negative_slope: of leaky_relu.

    Raises:
        ValueError: no weight of the model has two or more dimensions.
    """
    factor = gain * gain_of(nonlinearity, negative_slope)
    fill_weights(module, "xavier-normal", lambda weight: nn.init.xavier_normal_(weight, factor))
