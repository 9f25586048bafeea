"""The network to start with on tables and vectors, and the baseline that a convolution must beat on pictures."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from ptb import DataSpec

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class MLP(nn.Module):
    """A multilayer perceptron: for a 28x28 picture and the defaults 784-256-10.

    Args:
        spec: images or vectors of any shape; they are flattened.
        hidden: sizes of the hidden layers; none makes it linear.
        activation: the function between the layers.

    Raises:
        ValueError: the inputs are tokens, which need an embedding.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: Sequence[int] = (256,),
        activation: Literal["relu", "tanh", "sigmoid"] = "relu",
    ) -> None:
        super().__init__()
        if spec.inputs == "tokens":
            raise ValueError("mlp takes images or vectors, these inputs are tokens")
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise((spec.input_size, *hidden, spec.output_size)):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """``[B, *input_shape]`` to scores ``[B, output_size]``."""
        return self.layers(inputs.flatten(1))  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
