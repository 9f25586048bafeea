"""Random numbers that belong to a sample: the same whatever batch, worker or device it comes through.

Each number is a hash of the seed, the epoch, the sample and how many were drawn before it: nothing is kept between two
batches, so nothing has to be saved with a checkpoint or drawn again when a run goes on.
"""

import torch
from torch import Tensor

from ptb.seeding import derive_seed

# SplitMix64 (Steele, Lea and Flood, 2014, doi:10.1145/2660193.2660195), as signed numbers: torch has no uint64.
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
SECOND = 0x94D049BB133111EB - (1 << 64)
MANTISSA = 24  # bits of a float32 in [0, 1)


class SampleGenerator:
    """Random numbers for the samples of one batch.

    Args:
        seed: of the run.
        epoch: number of the epoch.
        samples: int64 ``[B]``, the numbers of the samples in their split, on the device of the batch.
    """

    def __init__(self, seed: int, epoch: int, samples: Tensor) -> None:
        start = derive_seed(seed, "augment", epoch)
        self._keys = _mixed(_mixed(samples * GOLDEN) + start)
        self._drawn = 0

    def uniform(self, *shape: int) -> Tensor:
        """Float32 ``[B, *shape]``, evenly from [0, 1)."""
        count = 1
        for size in shape:
            count *= size
        places = torch.arange(self._drawn + 1, self._drawn + count + 1, device=self._keys.device)
        self._drawn += count
        bits = _mixed(self._keys[:, None] + places * GOLDEN)
        return (_shifted(bits, 64 - MANTISSA).to(torch.float32) * 2.0**-MANTISSA).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Float32 ``[B, *shape]`` of mean 0 and deviation 1 (Box and Muller, 1958, doi:10.1214/aoms/1177706645)."""
        radius = (-2 * torch.log1p(-self.uniform(*shape))).sqrt()  # 1 - u is never 0
        return radius * torch.cos(2 * torch.pi * self.uniform(*shape))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Int64 ``[B, *shape]``, evenly from ``low`` to ``high - 1``; they lie less than 2**24 apart.

        Raises:
            ValueError: there is no such number, or there are too many.
        """
        if not 0 < high - low <= 1 << MANTISSA:
            raise ValueError(f"integers({low}, {high}): high must be above low, and by 2**{MANTISSA} at most")
        return (self.uniform(*shape).double() * (high - low)).floor().long() + low


def _mixed(values: Tensor) -> Tensor:
    """Every bit of the result depends on every bit of int64 ``values``."""
    values = (values ^ _shifted(values, 30)) * FIRST
    values = (values ^ _shifted(values, 27)) * SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shifted right with zeros from the left, where ``>>`` repeats the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
