"""The network for a class, or numbers, at each pixel: segmentation, depth, denoising."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_models.forms import check_fields


class UNet(nn.Module):
    """U-Net: Ronneberger, Fischer and Brox, 2015, arXiv:1505.04597.

    Each level halves the sides and doubles the channels; on the way back, what a level saw is joined to what comes from
    below. As in the paper there are 23 convolutions with the default depth: two 3x3 each at 5 levels down and 4 up, a
    2x2 up between two levels, and a 1x1 at the end. Unlike there, convolutions pad with zeros, so that scores have the
    size of the pictures; sides that are no multiple of ``2**depth`` are filled up with zeros, the scores cut off again.
    With ``width=64``, as in the paper, there are 31 million parameters; the default has a sixteenth of them, which
    trains on a CPU and is enough for much.

    Batch norm (Ioffe and Szegedy, 2015, arXiv:1502.03167), which the paper lacks, takes the place of the biases.

    Args:
        spec: pictures ``(channels, height, width)`` with a target at each pixel: positions ``(height, width)``.
        depth: how often the sides are halved.
        width: channels at the first level.
        batch_norm: normalise each channel over the batch after each 3x3 convolution.

    Raises:
        ValueError: the inputs are no pictures, or the targets are not at their pixels; or there are further inputs.
    """

    def __init__(self, spec: DataSpec, *, depth: int = 4, width: int = 16, batch_norm: bool = True) -> None:
        super().__init__()
        if spec.inputs != "image":
            raise ValueError(f"unet takes pictures (channels, height, width), these inputs are of kind '{spec.inputs}'")
        channels, *sides = spec.input_shape
        if spec.positions != tuple(sides):
            what = f"at {spec.positions} positions" if spec.positions else "one a sample"
            raise ValueError(
                f"unet takes a target at each of the {sides[0]}x{sides[1]} pixels of a picture, these are {what}"
            )
        check_fields("unet", spec)
        self.depth = depth
        widths = [width * 2**level for level in range(depth + 1)]
        levels = zip([channels, *widths[:-1]], widths, strict=True)
        self.down = nn.ModuleList(_two_convolutions(before, after, batch_norm) for before, after in levels)
        upward = widths[:-1][::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * after, after, 2, stride=2) for after in upward)
        self.join = nn.ModuleList(_two_convolutions(2 * after, after, batch_norm) for after in upward)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, spec.output_size, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Pictures ``[B, C, H, W]`` to scores ``[B, output_size, H, W]``; H and W may be others than the spec's."""
        height, width = inputs.shape[-2:]
        step = 1 << self.depth
        x = F.pad(inputs, (0, -width % step, 0, -height % step))
        seen = []
        for level, down in enumerate(self.down):
            x = down(self.pool(x) if level else x)  # (B, 64, H, W), (B, 128, H / 2, W / 2), ...
            seen.append(x)
        for level, (up, join) in enumerate(zip(self.up, self.join)):  # noqa: B905  # TorchScript knows no strict
            x = join(torch.cat([seen[-2 - level], up(x)], dim=1))
        scores: Tensor = self.head(x)
        return scores[..., :height, :width]


def _two_convolutions(before: int, after: int, batch_norm: bool) -> nn.Sequential:
    """Two 3x3 convolutions, each followed by ReLU; they keep the sides."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=not batch_norm)]
        layers += [nn.BatchNorm2d(after)] if batch_norm else []
        layers += [nn.ReLU()]
    return nn.Sequential(*layers)
