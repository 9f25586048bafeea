"""Changes pictures at random in training: on the device, in whole batches, with numbers that belong to each sample."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ptb import SampleGenerator
from ptb_datasets.images import Normalize
from ptb_datasets.picture_mix import Mix

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True, repr=False)
class Augment:
    """``augment`` for pictures of classes: those of these changes that are asked for, in this order.

    Nothing is computed across the pictures of a batch, so a picture comes out the same in whatever batch it is.

    Args:
        normalize: of the data set; its inputs are normalised already.
        flip: turn half of the pictures left to right.
        pad_crop: shift pictures by so many pixels at most, each way, as a crop of a padded picture does (He et al.,
            2015, arXiv:1512.03385, section 4.2).
        rotate: rotate them by so many degrees at most, either way, linear between pixels.
        colour_jitter: j; brightness, contrast (around middle grey) and saturation times a number in [1 - j, 1 + j].
        background: red, green and blue of what comes into sight at the edges, from 0 to 255.
        mix: mixes pictures, and makes targets of classes probabilities.
    """

    normalize: Normalize
    flip: bool = False
    pad_crop: int | None = None
    rotate: float | None = None
    colour_jitter: float | None = None
    background: Sequence[int] = (0, 0, 0)
    mix: Mix | None = None

    def __call__(self, inputs: Tensor, targets: Tensor, generator: SampleGenerator) -> tuple[Tensor, Tensor]:
        """Float32 ``[B, C, H, W]`` and int64 ``[B]``; the same, or with ``mix`` float32 ``[B, classes]`` targets."""
        changed = self.alone(inputs, generator)
        return (changed, targets) if self.mix is None else self.mix(changed, targets, generator, self.alone)

    def __repr__(self) -> str:
        return "; ".join(self.sentences())

    def alone(self, inputs: Tensor, generator: SampleGenerator) -> Tensor:
        """Each picture by itself."""
        if self.flip:
            turned = generator.uniform(1, 1, 1) < 0.5  # [B, 1, 1, 1]
            inputs = torch.where(turned, inputs.flip(-1), inputs)
        if self.pad_crop is not None:
            inputs = _shifted(inputs, self.pad_crop, self._edge(inputs), generator)
        if self.rotate is not None:
            inputs = _rotated(inputs, self.rotate, self._edge(inputs), generator)
        if self.colour_jitter is not None:
            inputs = self.normalize.redo(_jittered(self.normalize.undo(inputs), self.colour_jitter, generator))
        return inputs

    def _edge(self, inputs: Tensor) -> Tensor:
        """The normalised background, ``[C, 1, 1]``."""
        colour = torch.tensor(self.background, dtype=torch.float32, device=inputs.device) / 255
        if inputs.shape[1] == 1:
            colour = (colour * torch.tensor(GREY, device=inputs.device)).sum(0, keepdim=True)
        return self.normalize.redo(colour.view(-1, 1, 1))

    def sentences(self) -> list[str]:
        """What is done, for people."""
        said = [
            (self.flip, "half of the training pictures are turned left to right"),
            (self.pad_crop, f"training pictures are shifted by up to {self.pad_crop} pixels"),
            (self.rotate, f"training pictures are rotated by up to {self.rotate} degrees"),
            (
                self.colour_jitter,
                f"brightness, contrast and saturation change by up to {self.colour_jitter} in training",
            ),
            (self.mix and self.mix.mixup, "training pictures are mixed with others (mixup)"),
            (self.mix and self.mix.cutmix, "parts of other pictures are put into training pictures (cutmix)"),
        ]
        return [sentence for used, sentence in said if used]


def _shifted(inputs: Tensor, most: int, edge: Tensor, generator: SampleGenerator) -> Tensor:
    _, channels, height, width = inputs.shape
    padded = F.pad(inputs - edge, (most,) * 4) + edge
    start = generator.integers(0, 2 * most + 1, 2)  # [B, 2]
    rows = (start[:, :1] + torch.arange(height, device=inputs.device))[:, None, :, None]
    columns = (start[:, 1:] + torch.arange(width, device=inputs.device))[:, None, None, :]
    samples = torch.arange(len(inputs), device=inputs.device)[:, None, None, None]
    return padded[samples, torch.arange(channels, device=inputs.device)[:, None, None], rows, columns]


def _rotated(inputs: Tensor, degrees: float, edge: Tensor, generator: SampleGenerator) -> Tensor:
    height, width = inputs.shape[-2:]
    angle = torch.deg2rad((generator.uniform(1, 1) * 2 - 1) * degrees)  # [B, 1, 1]
    # Pixels from the centre; grid_sample wants them as fractions of half a side.
    y = (torch.arange(height, device=inputs.device) - (height - 1) / 2)[:, None]
    x = torch.arange(width, device=inputs.device) - (width - 1) / 2
    across, down = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x  # [B, H, W]
    grid = torch.stack((across * (2 / width), down * (2 / height)), -1)
    return F.grid_sample(inputs - edge, grid, "bilinear", "zeros", align_corners=False) + edge


def _jittered(values: Tensor, share: float, generator: SampleGenerator) -> Tensor:
    """Values from 0 to 1; the contrast is around middle grey, as a mean would depend on how a batch is summed."""
    factors = (1 + (generator.uniform(3, 1, 1) * 2 - 1) * share).unbind(1)  # three of [B, 1, 1]
    brightness, contrast, saturation = (factor.unsqueeze(1) for factor in factors)
    values = (values * brightness - 0.5) * contrast + 0.5
    if values.shape[1] == 3:
        red, green, blue = values[:, :1], values[:, 1:2], values[:, 2:]
        grey = red * GREY[0] + green * GREY[1] + blue * GREY[2]
        values = (values - grey) * saturation + grey
    return values.clamp(0, 1)
