"""The first network to try on small pictures: fast to train, and good on digits."""

from typing import Literal

from torch import Tensor, nn

from ptb import DataSpec
from ptb_models.activations import ACTIVATIONS
from ptb_models.forms import check_one_vector
from ptb_models.settings import Activation

KERNEL = 5
SMALLEST = 16  # 16 -> conv 12 -> pool 6 -> conv 2 -> pool 1


class LeNet(nn.Module):
    """LeNet after LeCun et al., 1998, as today's tutorials write it: ReLU, and pooling without weights.

    For 1x32x32 and ten classes: convolutions 1-6-16 with 5x5 kernels, each followed by 2x2 pooling, then linear layers
    400-120-84-10; 61,706 parameters. ``activation="tanh", pool="avg"`` is closer to the paper.

    Args:
        spec: pictures ``(channels, height, width)`` of at least 16x16.
        pool: ``"max"`` or ``"avg"``.
        activation: the function after each layer but the last.

    Raises:
        ValueError: the inputs are no pictures, or too small ones; or there are targets
            at each position, or further inputs.
    """

    def __init__(self, spec: DataSpec, *, pool: Literal["max", "avg"] = "max", activation: Activation = "relu") -> None:
        super().__init__()
        if spec.inputs != "image":
            raise ValueError(
                f"lenet takes pictures (channels, height, width), these inputs are of kind '{spec.inputs}'"
            )
        check_one_vector("lenet", spec)
        channels, height, width = spec.input_shape
        if min(height, width) < SMALLEST:
            raise ValueError(f"lenet needs pictures of at least {SMALLEST}x{SMALLEST}, these are {height}x{width}")
        self.conv1 = nn.Conv2d(channels, 6, KERNEL)
        self.conv2 = nn.Conv2d(6, 16, KERNEL)
        self.fc1 = nn.Linear(16 * _left(height) * _left(width), 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, spec.output_size)
        self.pool = nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, inputs: Tensor) -> Tensor:
        """Pictures ``[B, C, H, W]`` to logits ``[B, output_size]``."""
        x = self.pool(self.activation(self.conv1(inputs)))  # (B, 6, 14, 14) for 32x32
        x = self.pool(self.activation(self.conv2(x)))  # (B, 16, 5, 5)
        x = self.activation(self.fc1(x.flatten(1)))  # (B, 120)
        x = self.activation(self.fc2(x))  # (B, 84)
        scores: Tensor = self.fc3(x)
        return scores


def _left(size: int) -> int:
    """What two convolutions and two poolings leave of a side."""
    for _ in range(2):
        size = (size - KERNEL + 1) // 2
    return size
