"""The baseline: what a single layer reaches, which is logistic or linear regression. Start here to judge the others."""

from torch import Tensor, nn

from ptb import DataSpec
from ptb_models.forms import check_one_vector


class Linear(nn.Module):
    """``scores = inputs @ weight.T + bias`` on the flattened inputs: 7,850 parameters for a 28x28 picture, ten classes.

    With the loss of its target kind it is softmax regression (class), logistic regression (binary) or linear
    regression (real). https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html

    Args:
        spec: images or vectors of any shape; they are flattened.

    Raises:
        ValueError: the inputs are tokens, which need an embedding; or there are targets
            at each position, or further inputs.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        if spec.inputs == "tokens":
            raise ValueError("linear takes images or vectors, these inputs are tokens; embedding-bag takes tokens")
        check_one_vector("linear", spec)
        self.linear = nn.Linear(spec.input_size, spec.output_size)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[B, *input_shape]`` to scores ``[B, output_size]``."""
        scores: Tensor = self.linear(inputs.flatten(1))
        return scores
