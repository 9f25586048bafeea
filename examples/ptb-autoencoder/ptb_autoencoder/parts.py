"""A denoising autoencoder (Vincent et al., 2008, doi:10.1145/1390156.1390294) on scikit-learn's digits."""

from typing import Annotated

import torch
from pydantic import Field
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataSpec, SampleGenerator


def unlabelled_digits(
    *, noise: Annotated[float, Field(ge=0, description="Standard deviation of what is added in training")] = 0.2
) -> DataBundle:
    """Pictures ``[1, 8, 8]`` from 0 to 1. The targets are the pictures before noise is added to them."""

    def augment(inputs: Tensor, targets: Tensor, generator: SampleGenerator) -> tuple[Tensor, Tensor]:
        return inputs + noise * generator.normal(1, 8, 8), targets

    pictures = (torch.from_numpy(load_digits().data) / 16).float().view(-1, 1, 8, 8)
    splits = map(TensorDataset, pictures.split([1197, 300, 300]))
    return DataBundle(DataSpec((1, 8, 8), "image", "none", 64), *splits, augment=augment)


class Autoencoder(nn.Module):
    """Linear layers down to ``code`` numbers and up again.

    Args:
        spec: a data set with targets of kind ``none``.
        code: numbers to which a sample is compressed.
    """

    def __init__(self, spec: DataSpec, *, code: Annotated[int, Field(gt=0)] = 16) -> None:
        super().__init__()
        size = spec.input_size
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, code))
        self.decoder = nn.Sequential(nn.ReLU(), nn.Linear(code, 64), nn.ReLU(), nn.Linear(64, size))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs ``[B, *input_shape]`` to what is left of them, of the same shape."""
        rebuilt: Tensor = self.decoder(self.encoder(inputs))
        return rebuilt.view_as(inputs)
