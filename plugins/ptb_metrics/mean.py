"""What most metrics are: a mean over all batches."""

import torch
from torch import Tensor


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
        self._sum = self._sum + values.detach().sum(dtype=_exact(values))
        self._count = self._count + (values.numel() if counted is None else counted.sum())

    def compute(self) -> float:
        """The mean of all values since the last reset; NaN before the first."""
        count = int(self._count)
        return float(self._sum) / count if count else float("nan")

    def reset(self) -> None:
        """Forgets all batches."""
        self._sum = 0
        self._count = 0


def _exact(values: Tensor) -> torch.dtype:
    if values.dtype == torch.bool:
        return torch.int64
    return torch.float32 if values.device.type == "mps" else torch.float64  # MPS has no float64
