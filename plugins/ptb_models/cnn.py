"""The network for pictures of any size: blocks of convolution and pooling to shape as you like."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Literal

from torch import Tensor, nn

from ptb import DataSpec
from ptb_models.activations import ACTIVATIONS
from ptb_models.forms import check_one_vector
from ptb_models.settings import Activation

POOLS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
GRID = 4  # the linear layer sees at most 4x4 places
Size = tuple[int, int]


class CNN(nn.Module):
    """Blocks of convolution, batch norm, activation and pooling, then one linear layer.

    With the defaults and 1x28x28 the sides are 28 -> 14 -> 7 -> 3, and there are 29,178 parameters for ten classes.
    What is left of a picture after the blocks is averaged down to 4x4 or fewer places, so that large pictures make no
    large linear layer. Batch norm (Ioffe and Szegedy, 2015, arXiv:1502.03167) takes the place of the convolutions'
    biases; in training it refuses a batch of one sample where only 1x1 is left: ``loader.drop_last=true`` avoids that.

    Args:
        spec: pictures ``(channels, height, width)``.
        channels: output channels of the convolutions, one for each block.
        kernel_size: of the convolutions, one number or (height, width).
        stride: of the convolutions, likewise.
        padding: of the convolutions with zeros, likewise; ``"same"`` keeps the size and needs stride 1.
        pool: ``"max"``, ``"avg"`` or ``"none"``.
        pool_size: size and step of the pooled windows, one number or (height, width).
        batch_norm: normalise each channel over the batch after each convolution.
        dropout: in [0, 1), the part of the last features that training sets to 0; 0 adds no layer.
        activation: the function after each convolution.

    Raises:
        ValueError: the inputs are no pictures, or nothing is left of them after some block; or there are targets
            at each position, or further inputs.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: Sequence[int] = (16, 32, 64),
        kernel_size: int | Size = 3,
        stride: int | Size = 1,
        padding: int | Size | Literal["same"] = "same",
        pool: Literal["max", "avg", "none"] = "max",
        pool_size: int | Size = 2,
        batch_norm: bool = True,
        dropout: float = 0.0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if spec.inputs != "image":
            raise ValueError(f"cnn takes pictures (channels, height, width), these inputs are of kind '{spec.inputs}'")
        check_one_vector("cnn", spec)
        size: Size = spec.input_shape[1], spec.input_shape[2]
        blocks: list[nn.Module] = []
        for before, after in pairwise((spec.input_shape[0], *channels)):
            conv = nn.Conv2d(before, after, kernel_size, stride, padding, bias=not batch_norm)
            layers: list[nn.Module] = [conv]
            layers += [nn.BatchNorm2d(after)] if batch_norm else []
            layers += [ACTIVATIONS[activation]()]
            layers += [POOLS[pool](pool_size)] if pool != "none" else []
            blocks.append(nn.Sequential(*layers))
            size = _left(
                size, conv, (1, 1) if pool == "none" else _pair(pool_size), f"{len(blocks)} of {len(channels)}"
            )
        self.blocks = nn.Sequential(*blocks)
        window = ceil(size[0] / GRID), ceil(size[1] / GRID)
        # Adaptive pooling would add its gradients up in any order on a GPU: runs would not repeat
        head: list[nn.Module] = [] if window == (1, 1) else [nn.AvgPool2d(window, ceil_mode=True)]
        head += [nn.Flatten(), nn.Dropout(dropout)] if dropout else [nn.Flatten()]
        places = ceil(size[0] / window[0]) * ceil(size[1] / window[1])
        self.head = nn.Sequential(*head, nn.Linear(channels[-1] * places, spec.output_size))

    def forward(self, inputs: Tensor) -> Tensor:
        """Pictures ``[B, C, H, W]`` to scores ``[B, output_size]``."""
        x = self.blocks(inputs)  # (B, 64, 3, 3) for 28x28
        scores: Tensor = self.head(x)
        return scores


def _left(size: Size, conv: nn.Conv2d, pool: Size, block: str) -> Size:
    """What a block leaves of a picture, (height, width)."""
    padding = conv.padding
    convolved = (
        size
        if isinstance(padding, str)
        else tuple(
            (side + 2 * pad - kernel) // step + 1
            for side, pad, kernel, step in zip(size, padding, conv.kernel_size, conv.stride, strict=True)
        )
    )
    pooled = convolved[0] // pool[0], convolved[1] // pool[1]
    if min(*convolved, *pooled) < 1:
        raise ValueError(
            f"nothing is left of the pictures at block {block}: {_by(size)} pixels reach it, the convolution "
            f"({_by(conv.kernel_size)}, stride {_by(conv.stride)}, padding "
            f"{padding if isinstance(padding, str) else _by(padding)}) makes {_by(convolved)} of them and pooling "
            f"({_by(pool)}) {_by(pooled)}; give fewer channels, a smaller kernel_size, stride or pool_size, or more "
            "padding"
        )
    return pooled


def _pair(value: int | Size) -> Size:
    return (value, value) if isinstance(value, int) else value


def _by(size: Sequence[int]) -> str:
    return "x".join(str(max(side, 0)) for side in size)
