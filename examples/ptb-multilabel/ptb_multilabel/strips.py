"""Three handwritten digits in one picture; its labels are the digits that are there."""

from typing import Annotated

import torch
from pydantic import Field
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataSpec

DIGITS = 10
STRIP = 3


def strips(*, samples: Annotated[int, Field(ge=100, description="Training strips")] = 2000) -> DataBundle:
    """Strips ``[1, 8, 24]`` of scikit-learn's digits, with a label ``[10]`` of 0 or 1 for each digit.

    Training, validation and test use different pictures, so that no digit of a test strip was seen before.
    """
    pictures, digits = map(torch.from_numpy, load_digits(return_X_y=True))
    pictures = (pictures / 16).float().view(-1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    thirds = torch.randperm(len(digits), generator=generator).split([1197, 300, 300])
    sizes = (samples, 300, 300)
    splits = [_strips(pictures[part], digits[part], size, generator) for part, size in zip(thirds, sizes, strict=True)]
    names = tuple(map(str, range(DIGITS)))
    return DataBundle(DataSpec((1, 8, 8 * STRIP), "image", "multilabel", DIGITS, class_names=names), *splits)


def _strips(pictures: Tensor, digits: Tensor, count: int, generator: torch.Generator) -> TensorDataset:
    chosen = torch.randint(len(digits), (count, STRIP), generator=generator)
    inputs = pictures[chosen].transpose(1, 2).reshape(count, 1, 8, 8 * STRIP)
    labels = torch.zeros(count, DIGITS).scatter_(1, digits[chosen], 1.0)
    return TensorDataset(inputs, labels)
