"""What picture data sets share: normalising on the device."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalize:
    """``transform`` for pictures: uint8 of any shape to float32, of mean 0 and deviation 1 where those are the data's.

    Args:
        mean: of the training pixels, as a fraction of 255.
        std: their standard deviation, as a fraction of 255.
    """

    mean: float
    std: float

    def __call__(self, inputs: Tensor) -> Tensor:
        """``(inputs / 255 - mean) / std``."""
        return inputs.to(torch.float32).div(255).sub_(self.mean).div_(self.std)
