"""A wave with noise that grows from left to right."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataSpec

FREQUENCIES = 4


def waves(
    *, noise: Annotated[float, Field(gt=0, description="Standard deviation at the right end")] = 1.0
) -> DataBundle:
    """Targets ``[1]`` of ``sin(6 x) + noise * x * normal`` for x in [0, 1], inputs ``[8]``: waves of x.

    The best median is the sine, and the best 90% quantile lies 1.28 standard deviations above it.
    """
    generator = torch.Generator().manual_seed(0)
    splits = [_sample(count, noise, generator) for count in (2000, 500, 500)]
    return DataBundle(DataSpec((2 * FREQUENCIES,), "vector", "real", 1), *splits)


def _sample(count: int, noise: float, generator: torch.Generator) -> TensorDataset:
    x = torch.rand(count, 1, generator=generator)
    targets = torch.sin(6 * x) + noise * x * torch.randn(count, 1, generator=generator)
    return TensorDataset(_features(x), targets)


def _features(x: Tensor) -> Tensor:
    """Sines and cosines ``[N, 8]``, which are easier to learn from than x itself."""
    angles = x * torch.arange(1, FREQUENCIES + 1) * torch.pi
    return torch.cat([angles.sin(), angles.cos()], dim=1)
