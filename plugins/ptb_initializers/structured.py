"""Weights of a structure: orthogonal for very deep networks, identities that pass inputs on, sparse for wide ones.

They are those of ``torch.nn.init`` (https://docs.pytorch.org/docs/stable/nn.init.html). Layers that one does not fit
keep what they have, their biases too.
"""

from torch import Tensor, nn

from ptb_initializers.gains import gain_of
from ptb_initializers.settings import SLOPE, Nonlinearity
from ptb_initializers.weights import fill_weights


def eye(module: nn.Module) -> None:
    """Makes each weight of two dimensions the identity matrix, cut off or filled up with zeros, and its bias 0.

    Args:
        module: the model.

    Raises:
        ValueError: no weight of the model has two dimensions, as those of linear layers and embeddings have.
    """
    fill_weights(module, "eye", nn.init.eye_, most=2)


def dirac(module: nn.Module, *, groups: int = 1) -> None:
    """Makes each convolution pass its inputs on: 1 in the middle of kernel i of output channel i, else 0; biases too.

    Where there are more output than input channels, the others give 0.

    Args:
        module: the model.
        groups: groups of output channels, each of which preserves the inputs; for convolutions with as many groups.

    Raises:
        ValueError: no weight of the model has 3 to 5 dimensions, as those of convolutions have, or the output channels
            of one cannot be divided by ``groups``.
    """

    def fill(weight: Tensor) -> None:
        if len(weight) % groups:
            raise ValueError(
                f"dirac needs output channels that groups={groups} divides; a weight of this model has the shape "
                f"{list(weight.shape)}: choose other groups"
            )
        nn.init.dirac_(weight, groups)

    fill_weights(module, "dirac", fill, least=3, most=5)


def orthogonal(
    module: nn.Module, *, gain: float = 1.0, nonlinearity: Nonlinearity = "linear", negative_slope: float = SLOPE
) -> None:
    """Makes each weight a random matrix with orthonormal rows or columns, times the gain; biases become 0.

    Saxe et al., 2013, arXiv:1312.6120. A weight of more than two dimensions is taken as a matrix with a row for each
    output channel. Norm layers are left as they are.

    Args:
        module: the model.
        gain: a factor; the weights are multiplied by this times the gain of ``nonlinearity``.
        nonlinearity: the function after the layers, see ``gains.gain_of``; that of linear is 1.
        negative_slope: of leaky_relu.

    Raises:
        ValueError: no weight of the model has two or more dimensions.
    """
    factor = gain * gain_of(nonlinearity, negative_slope)
    fill_weights(module, "orthogonal", lambda weight: nn.init.orthogonal_(weight, factor))


def sparse(module: nn.Module, *, sparsity: float = 0.1, std: float = 0.01) -> None:
    """Fills each weight of two dimensions from N(0, std^2), then sets part of each column to 0; its bias becomes 0.

    Martens, 2010, https://www.cs.toronto.edu/~jmartens/docs/Deep_HessianFree.pdf. A column holds the weights of one
    input. ``ceil(sparsity * outputs)`` of them become 0, so a layer with a single output becomes all zero unless
    ``sparsity`` is 0.

    Args:
        module: the model.
        sparsity: in [0, 1), the part of each column that becomes 0.
        std: of the other weights.

    Raises:
        ValueError: no weight of the model has two dimensions, as those of linear layers and embeddings have.
    """
    fill_weights(module, "sparse", lambda weight: nn.init.sparse_(weight, sparsity, std), most=2)
