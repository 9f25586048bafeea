"""What picture data sets share: normalising on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Of the training pictures of ImageNet: https://docs.pytorch.org/vision/stable/models.html
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalize:
    """``transform`` for pictures: uint8 of any shape to float32, with mean 0 and std 1 where those are the data's.

    Args:
        mean: of the training pixels, as a fraction of 255; or that of each channel, for inputs ``[..., C, H, W]``.
        std: their standard deviation, as a fraction of 255; or that of each channel.
    """

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def __call__(self, inputs: Tensor) -> Tensor:
        """``(inputs / 255 - mean) / std``."""
        return inputs.to(torch.float32).div(255).sub_(_planes(self.mean, inputs)).div_(_planes(self.std, inputs))

    def undo(self, inputs: Tensor) -> Tensor:
        """``inputs * std + mean``: values from 0 to 1."""
        return inputs * _planes(self.std, inputs) + _planes(self.mean, inputs)

    def redo(self, values: Tensor) -> Tensor:
        """``(values - mean) / std`` of values from 0 to 1."""
        return (values - _planes(self.mean, values)) / _planes(self.std, values)


def _planes(numbers: float | Sequence[float], like: Tensor) -> float | Tensor:
    """One number, or one for each channel as ``[C, 1, 1]``."""
    if isinstance(numbers, float | int):
        return numbers
    return torch.tensor(numbers, dtype=torch.float32, device=like.device).view(-1, 1, 1)
