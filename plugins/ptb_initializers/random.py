"""Weights from one distribution for all layers, whatever their size: for when a paper states the numbers.

For anything else ``kaiming`` and ``xavier`` fit the spread to each layer. https://docs.pytorch.org/docs/stable/nn.init.html
"""

from torch import nn

from ptb_initializers.weights import fill_weights


def uniform(module: nn.Module, *, a: float = 0.0, b: float = 1.0) -> None:
    """Fills each weight of two or more dimensions from U(a, b); biases become 0, norm layers are left as they are.

    The defaults are those of ``torch.nn.init.uniform_``. They make all weights positive, so give a negative ``a``.

    Args:
        module: the model.
        a: lower end.
        b: upper end, not below ``a``.

    Raises:
        ValueError: the model has no such weight.
    """
    fill_weights(module, "uniform", lambda weight: nn.init.uniform_(weight, a, b), least=1)


def normal(module: nn.Module, *, mean: float = 0.0, std: float = 1.0) -> None:
    """Fills each weight of two or more dimensions from N(mean, std^2); biases become 0, norm layers stay as they are.

    The defaults are those of ``torch.nn.init.normal_``; a std of 0.01 or 0.02 is what papers use.

    Args:
        module: the model.
        mean: of the distribution.
        std: its standard deviation, 0 or more.

    Raises:
        ValueError: the model has no such weight.
    """
    fill_weights(module, "normal", lambda weight: nn.init.normal_(weight, mean, std), least=1)


def trunc_normal(module: nn.Module, *, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> None:
    """Fills each weight of two or more dimensions from N(mean, std^2) without what lies outside [a, b].

    Biases become 0, norm layers are left as they are. The defaults are those of ``torch.nn.init.trunc_normal_``. The
    cuts are values and no multiples of ``std``: with a std of 0.02, -2 and 2 cut nothing, -0.04 and 0.04 do.

    Args:
        module: the model.
        mean: of the distribution before it is cut, not more than 2 std outside of [a, b].
        std: its standard deviation, above 0.
        a: lower cut.
        b: upper cut, above ``a``.

    Raises:
        ValueError: the model has no such weight.
    """
    fill_weights(module, "trunc-normal", lambda weight: nn.init.trunc_normal_(weight, mean, std, a, b), least=1)
