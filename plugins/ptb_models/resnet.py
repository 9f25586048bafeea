"""The network for pictures that is hard to beat at its cost: deep, and trained as easily as a shallow one."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_models.forms import check_one_vector
from ptb_models.settings import ResNetDepth

# Blocks of each stage of the form for pictures of about 224x224, and whether they are bottlenecks.
LARGE = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


class ResNet(nn.Module):
    """Residual network: He, Zhang, Ren and Sun, 2015, arXiv:1512.03385.

    The depth chooses one of the paper's two forms. 20, 32, 44, 56 and 110, which are 6 n + 2, are for 32x32 pixels
    (section 4.2): three stages of 16, 32 and 64 channels, n blocks each; shortcuts have no parameters. 18, 34, 50, 101
    and 152 are for 224x224 (table 1): a 7x7 convolution and a pooling leave a quarter of each side for four stages; a
    shortcut that changes the shape is a 1x1 convolution, and the 3x3 convolution of a bottleneck has the stride, as in
    torchvision, whose numbers of parameters these have. Pictures of other sizes go through either.

    The paper initializes by ``kaiming-normal``. Batch norm refuses a batch of one sample where only 1x1 is left:
    ``loader.drop_last=true`` avoids that.

    Args:
        spec: pictures ``(channels, height, width)``.
        depth: layers with weights: 18, 20, 32, 34, 44, 50, 56, 101, 110 or 152.

    Raises:
        ValueError: the inputs are no pictures; or there are targets at each position, or further inputs.
    """

    def __init__(self, spec: DataSpec, *, depth: ResNetDepth = 20) -> None:
        super().__init__()
        if spec.inputs != "image":
            raise ValueError(
                f"resnet takes pictures (channels, height, width), these inputs are of kind '{spec.inputs}'"
            )
        check_one_vector("resnet", spec)
        channels, small = spec.input_shape[0], depth not in LARGE
        blocks, bottleneck = (((depth - 2) // 6,) * 3, False) if small else LARGE[depth]
        width = 16 if small else 64
        stem = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        if not small:
            stem = [nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)]
        self.stem = nn.Sequential(*stem, nn.BatchNorm2d(width), nn.ReLU())
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        stages: list[nn.Module] = []
        before = width
        for stage, count in enumerate(blocks):
            inner = width * 2**stage
            after = 4 * inner if bottleneck else inner
            for number in range(count):
                stride = 2 if stage and not number else 1
                stages.append(_Block(before, inner, after, stride, projected=not small))
                before = after
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(before, spec.output_size)

    def forward(self, inputs: Tensor) -> Tensor:
        """Pictures ``[B, C, H, W]`` to scores ``[B, output_size]``."""
        x = self.blocks(self.pool(self.stem(inputs)))  # (B, 64, 8, 8) for 32x32, (B, 512 or 2048, 7, 7) for 224x224
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


class _Block(nn.Module):
    """``relu(f(x) + x)``: two 3x3 convolutions, or a 3x3 one between two 1x1 ones where ``after`` is not ``inner``."""

    def __init__(self, before: int, inner: int, after: int, stride: int, projected: bool) -> None:
        super().__init__()
        if after == inner:
            convolutions = [_convolution(before, inner, 3, stride), _convolution(inner, inner, 3)]
        else:
            convolutions = [
                _convolution(before, inner, 1),
                _convolution(inner, inner, 3, stride),
                _convolution(inner, after, 1),
            ]
        self.residual = nn.Sequential(*_with_relu_between(convolutions))
        self.stride = stride
        self.added = after - before  # channels
        changes = stride != 1 or before != after
        self.shortcut = nn.Sequential(*_convolution(before, after, 1, stride)) if projected and changes else None

    def forward(self, x: Tensor) -> Tensor:
        """``[B, before, H, W]`` to ``[B, after, H / stride, W / stride]``."""
        if self.shortcut is not None:
            same = self.shortcut(x)
        else:  # option A of the paper: every second pixel, and zeros for the channels that are added
            same = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(self.residual(x) + same)


def _convolution(before: int, after: int, size: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the sides but for its stride, and batch norm."""
    convolution = nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after)]


def _with_relu_between(convolutions: Sequence[list[nn.Module]]) -> list[nn.Module]:
    layers = list(convolutions[0])
    for convolution in convolutions[1:]:
        layers += [nn.ReLU(), *convolution]
    return layers
