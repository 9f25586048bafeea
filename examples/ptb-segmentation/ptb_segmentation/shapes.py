"""Pictures with a disc and a square each, and their masks."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataSpec

CLASSES = ("background", "disc", "square")
HIDDEN = -100  # pixels without a class: loss and metrics leave them out


def shapes(*, size: Annotated[int, Field(ge=16, description="Height and width of a picture")] = 24) -> DataBundle:
    """A data set of 300 grey pictures ``[1, size, size]`` with masks ``[size, size]``.

    The outermost pixels have no class, as at the border of a scanned page.
    """
    generator = torch.Generator().manual_seed(0)
    splits = [_draw(count, size, generator) for count in (200, 50, 50)]
    spec = DataSpec((1, size, size), "image", "class", len(CLASSES), class_names=CLASSES, positions=(size, size))
    return DataBundle(spec, *splits)


def _draw(count: int, size: int, generator: torch.Generator) -> TensorDataset:
    places = torch.arange(size)
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    centres = torch.randint(5, size - 5, (2, 2, count, 1, 1), generator=generator)
    (disc_row, disc_column), (square_row, square_column) = centres
    disc = (rows - disc_row) ** 2 + (columns - disc_column) ** 2 <= 16
    square = torch.maximum((rows - square_row).abs(), (columns - square_column).abs()) <= 3
    masks = torch.where(square, 2, torch.where(disc, 1, 0))
    noise = torch.randn(count, size, size, generator=generator)
    masks[:, [0, -1]] = masks[:, :, [0, -1]] = HIDDEN
    return TensorDataset(_grey(disc | square, noise), masks)


def _grey(lit: Tensor, noise: Tensor) -> Tensor:
    """Both shapes are equally bright: only their form tells them apart."""
    return (lit.float() + 0.3 * noise)[:, None]
