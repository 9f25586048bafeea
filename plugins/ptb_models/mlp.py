"""The network to start with on tables and vectors, and the baseline that a convolution must beat on pictures."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ptb import DataSpec
from ptb_models.activations import ACTIVATIONS
from ptb_models.forms import check_one_vector
from ptb_models.settings import Activation


class MLP(nn.Module):
    """A multilayer perceptron: for a 28x28 picture and the defaults 784-256-10.

    Args:
        spec: images or vectors of any shape; they are flattened.
        hidden: sizes of the hidden layers; none makes it linear.
        activation: the function between the layers.
        dropout: in [0, 1), the part of each hidden layer's outputs that training sets to 0 (Srivastava et al., 2014,
            https://jmlr.org/papers/v15/srivastava14a.html); 0 adds no layer.

    Raises:
        ValueError: the inputs are tokens, which need an embedding; or there are targets
            at each position, or further inputs.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: Sequence[int] = (256,),
        activation: Activation = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if spec.inputs == "tokens":
            raise ValueError("mlp takes images or vectors, these inputs are tokens; embedding-bag takes tokens")
        check_one_vector("mlp", spec)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise((spec.input_size, *hidden)):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
            layers += [nn.Dropout(dropout)] if dropout else []
        last = hidden[-1] if hidden else spec.input_size
        self.layers = nn.Sequential(*layers, nn.Linear(last, spec.output_size))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[B, *input_shape]`` to scores ``[B, output_size]``."""
        scores: Tensor = self.layers(inputs.flatten(1))
        return scores
