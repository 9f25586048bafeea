"""What most metrics are: a mean over all batches."""

import math

import torch
from torch import Tensor

NORMAL_95 = 1.959963984540054  # standard deviations of a normal distribution that hold 95 % of it, either way


class RunningMean:
    """A mean that is added up on the device, in full precision, and read once.

    A metric derives from it and calls ``add``; what was added up is in plain attributes, so a checkpoint has it.
    """

    def __init__(self) -> None:
        self._sum: Tensor | float = 0
        self._count: Tensor | int = 0

    def add(self, values: Tensor, counted: Tensor | None = None) -> None:
        """Takes in the values of one batch; does not wait for the device.

        Args:
            values: of any shape, numbers or bools.
            counted: which of them count, bools of the same shape; None is all.
        """
        if counted is not None:
            values = values.masked_fill(~counted, 0)
        self._sum = self._sum + values.detach().sum(dtype=exact(values))
        self._count = self._count + (values.numel() if counted is None else counted.sum())

    def compute(self) -> float:
        """The mean of all values since the last reset; NaN before the first."""
        count = int(self._count)
        return float(self._sum) / count if count else float("nan")

    def reset(self) -> None:
        """Forgets all batches."""
        self._sum = 0
        self._count = 0


class Share(RunningMean):
    """A part of all samples, with Wilson's interval: a metric derives from it and adds bools, one a sample.

    Args:
        positions: those of the data set; with several values a sample, which are not independent, no interval is given.
    """

    def __init__(self, positions: tuple[int, ...] = ()) -> None:
        self._by_sample = not positions
        super().__init__()

    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of Wilson, 1927, doi:10.1080/01621459.1927.10502953; None without samples."""
        count = int(self._count)
        if not count or not self._by_sample:
            return None
        share, z2 = self.compute(), NORMAL_95**2
        middle = share + z2 / (2 * count)
        spread = NORMAL_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
        low, high = ((middle + side * spread) / (1 + z2 / count) for side in (-1, 1))
        return max(low, 0.0), min(high, 1.0)


def exact(values: Tensor) -> torch.dtype:
    """In which sums over values lose nothing that matters, on any device."""
    if values.dtype == torch.bool:
        return torch.int64
    return torch.float32 if values.device.type == "mps" else torch.float64  # MPS has no float64
