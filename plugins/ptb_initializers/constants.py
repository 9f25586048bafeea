"""The same value for all weights: for models of one layer, and to see what goes wrong in deeper ones.

Where all weights of a layer are equal, all its units compute the same, get the same gradient and stay equal for the
whole training: a hidden layer of 256 such units can do no more than one unit. Only dropout or a random layer before it
breaks that. A model without hidden layers, such as ``linear``, may well start from zeros.
https://docs.pytorch.org/docs/stable/nn.init.html
"""

from torch import nn

from ptb_initializers.weights import fill_weights


def constant(module: nn.Module, *, value: float = 0.01) -> None:
    """Sets each weight of two or more dimensions to ``value`` and biases to 0; norm layers are left as they are.

    A poor choice for hidden layers: all units of a layer stay equal for the whole training.

    Args:
        module: the model.
        value: what every weight becomes.

    Raises:
        ValueError: the model has no such weight.
    """
    fill_weights(module, "constant", lambda weight: nn.init.constant_(weight, value), least=1)


def ones(module: nn.Module) -> None:
    """Sets each weight of two or more dimensions to 1 and biases to 0; norm layers are left as they are.

    A poor choice for hidden layers: all units of a layer stay equal for the whole training, and their values grow with
    the number of inputs.

    Args:
        module: the model.

    Raises:
        ValueError: the model has no such weight.
    """
    fill_weights(module, "ones", nn.init.ones_, least=1)


def zeros(module: nn.Module) -> None:
    """Sets each weight of two or more dimensions to 0, and biases too; norm layers are left as they are.

    A poor choice for hidden layers: all units of a layer stay equal for the whole training; with two layers of zeros
    and ReLU or tanh between them no weight gets a gradient at all. For a model of one layer it is a good start.

    Args:
        module: the model.

    Raises:
        ValueError: the model has no such weight.
    """
    fill_weights(module, "zeros", nn.init.zeros_, least=1)
