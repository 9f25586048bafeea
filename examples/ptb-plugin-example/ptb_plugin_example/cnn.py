"""A network for pictures of any size, when LeNet is too large or the pictures are too small for it."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ptb import DataSpec

GRID = 4


class TinyCNN(nn.Module):
    """Two 3x3 convolutions with stride 2, averages over a 4x4 grid, one linear layer.

    The grid is laid over whatever the convolutions leave (``nn.AdaptiveAvgPool2d``), so the linear layer fits any size.

    Args:
        spec: pictures ``(channels, height, width)``.
        width: channels of the first convolution; the second has twice as many.

    Raises:
        ValueError: the inputs are no pictures.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: Annotated[int, Field(gt=0, description="Channels of the first convolution; the second has twice")] = 16,
    ) -> None:
        super().__init__()
        if spec.inputs != "image":
            raise ValueError(
                f"tiny-cnn takes pictures (channels, height, width), these inputs are of kind '{spec.inputs}'"
            )
        self.conv1 = nn.Conv2d(spec.input_shape[0], width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(GRID)
        self.output = nn.Linear(2 * width * GRID * GRID, spec.output_size)

    def forward(self, inputs: Tensor) -> Tensor:
        """Float pictures ``[B, C, H, W]`` to scores ``[B, output_size]`` of the same dtype."""
        x = F.relu(self.conv1(inputs))  # (B, width, H/2, W/2)
        x = F.relu(self.conv2(x))  # (B, 2 width, H/4, W/4)
        return self.output(self.pool(x).flatten(1))  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
