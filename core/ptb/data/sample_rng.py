"""Random numbers that belong to a sample: the same in whatever batch, worker or device it arrives.

Each number is a hash of the seed, the epoch, the sample and how many came before it. Nothing is kept between two
batches, so a checkpoint saves nothing of it, and a resumed run repeats none.
"""

from math import prod

import torch
from torch import Tensor

from ptb.seeding import derive_seed

# SplitMix64 (Steele, Lea and Flood, 2014, doi:10.1145/2660193.2660195), as signed numbers: torch has no uint64.
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
SECOND = 0x94D049BB133111EB - (1 << 64)
MANTISSA = 24  # bits of a float32 in [0, 1)


class SampleGenerator:
    """Generates random numbers for the samples of one batch.

    Args:
        seed: of the run.
        epoch: the number of the epoch.
        samples: int64 ``[B]``, the numbers of the samples in their split, on the device of the batch.
    """

    def __init__(self, seed: int, epoch: int, samples: Tensor) -> None:
        start = derive_seed(seed, "augment", epoch)
        self._keys = _mix(_mix(samples * GOLDEN) + start)
        self._drawn = 0

    def uniform(self, *shape: int) -> Tensor:
        """Returns float32 ``[B, *shape]``, uniform in [0, 1)."""
        count = prod(shape)
        places = torch.arange(self._drawn + 1, self._drawn + count + 1, device=self._keys.device)
        self._drawn += count
        bits = _mix(self._keys[:, None] + places * GOLDEN)
        return (_shift_right(bits, 64 - MANTISSA).to(torch.float32) * 2.0**-MANTISSA).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Returns float32 ``[B, *shape]``, normal with mean 0 and standard deviation 1."""
        # Box and Muller, 1958, doi:10.1214/aoms/1177706645
        radius = (-2 * torch.log1p(-self.uniform(*shape))).sqrt()  # 1 - u is never 0
        return radius * torch.cos(2 * torch.pi * self.uniform(*shape))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Returns int64 ``[B, *shape]``, uniform from ``low`` to ``high - 1``.

        Raises:
            ValueError: ``high`` is not above ``low``, or by more than 2**24.
        """
        if not 0 < high - low <= 1 << MANTISSA:
            raise ValueError(f"integers({low}, {high}): high must be above low, and by 2**{MANTISSA} at most")
        return (self.uniform(*shape).double() * (high - low)).floor().long() + low


def _mix(values: Tensor) -> Tensor:
    """Makes every bit of the result depend on every bit of int64 ``values``."""
    values = (values ^ _shift_right(values, 30)) * FIRST
    values = (values ^ _shift_right(values, 27)) * SECOND
    return values ^ _shift_right(values, 31)


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Shifts zeros in from the left, where ``>>`` repeats the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
