"""Reads a picture with its mask, and turns the mask's pixel values or colours into classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ptb_datasets.mask_pairs import Pair
from ptb_datasets.picture_file import (
    BadPicture,
    Facts,
    Form,
    decode,
    extent_of,
    facts_of,
    pixels_of,
    planes,
    read_bytes,
    reduction_of,
)
from ptb_datasets.picture_fit import fitted
from ptb_datasets.typed import typed

HIDDEN = -100  # a pixel that nobody labelled
MOST_CLASSES = 1 << 14
Value = int | tuple[int, int, int]


class Labels(NamedTuple):
    """What the pixels of masks mean.

    Args:
        values: the pixel value of each class in the order of their numbers, or its colour (red, green, blue); None
            where the values are the numbers.
        unlabelled: the value or colour of pixels that nobody labelled, if there is one.
    """

    values: tuple[Value, ...] | None
    unlabelled: Value | None

    @property
    def colours(self) -> bool:
        """Whether pixels are told apart by colours."""
        return any(isinstance(value, tuple) for value in (*(self.values or ()), self.unlabelled))


def inspect_pair(pair: Pair, form: Form, labels: Labels) -> tuple[np.ndarray, np.ndarray, Facts]:
    """What ``read_pair`` gives, and what the pixels do not show of the picture's file.

    Raises:
        BadPicture: with the reason.
    """
    picture, classes = read_pair(pair, form, labels)
    data = read_bytes(pair.picture, form.max_pixels)
    return picture, classes, facts_of(data, picture, form)


def read_pair(pair: Pair, form: Form, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 ``[C, H, W]``, and its classes, int16 ``[H, W]``, -100 where nobody labelled.

    Both get their size alike. Masks take the value of the nearest pixel, as there are no classes between two, and
    nobody labelled the space around a letterbox.

    Raises:
        BadPicture: with the reason.
    """
    data = read_bytes(pair.picture, form.max_pixels)
    pixels, reduction = pixels_of(data, form), reduction_of(data, form)
    extent = extent_of(data, form, pixels)
    try:
        mask = decode(read_bytes(pair.mask, form.max_pixels), None, form.max_pixels)
        if tuple(-(-side // reduction) for side in mask.shape[:2]) != pixels.shape[:2]:
            seen = (mask.shape[:2], tuple(side * reduction for side in pixels.shape[:2]))
            sizes = " and ".join(f"{height}x{width}" for height, width in seen)
            raise BadPicture(f"mask and picture must have one size (height x width), they have {sizes}")
        if form.fit != "letterbox":
            return planes(pixels, form, extent), _classes(fitted(mask, form, mask=True), labels)
        inside = fitted(np.ones(mask.shape[:2], np.uint8), form, mask=True, empty=0)
        small = fitted(mask, form, mask=True, empty=mask[0, 0])
        return planes(pixels, form, extent), np.where(inside, _classes(small, labels), np.int16(HIDDEN))
    except BadPicture as error:
        raise BadPicture(f"its mask {pair.mask.name}: {error}") from error


def _classes(mask: np.ndarray, labels: Labels) -> np.ndarray:
    """Of a decoded mask ``[H, W]`` or ``[H, W, channels]``, int16 ``[H, W]``."""
    codes = _codes(mask, labels.colours)
    classes = np.full(codes.shape, -1, np.int64)
    if labels.values is None:
        classes = np.where(codes < MOST_CLASSES, codes, -1)
    else:
        known = np.array([_code(value) for value in labels.values])
        order = np.argsort(known)
        places = np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)
        classes = np.where(known[order[places]] == codes, order[places], -1)
    if labels.unlabelled is not None:
        classes[codes == _code(labels.unlabelled)] = HIDDEN
    if (wrong := classes == -1).any():
        row, column = np.argwhere(wrong)[0]
        valid = (
            f"0 to {MOST_CLASSES - 1}" if labels.values is None else f"those of dataset.values, {_said(labels.values)}"
        )
        raise BadPicture(
            f"the pixel in row {row}, column {column}, at the size in which it is used, is "
            f"{_shown(int(codes[row, column]), labels.colours)}; valid are {valid}, and dataset.unlabelled"
        )
    return classes.astype(np.int16)


def _codes(mask: np.ndarray, colours: bool) -> np.ndarray:
    """One number a pixel, int64 ``[H, W]``: its value, or its colour as 0xRRGGBB."""
    if mask.ndim == 2:
        return mask.astype(np.int64) * (0x010101 if colours else 1)
    blue, green, red = (mask[..., channel].astype(np.int64) for channel in range(3))
    if colours:
        if mask.dtype != np.uint8:
            raise BadPicture(f"colours have 8 bits, and it is {mask.dtype}")
        return (red << 16) | (green << 8) | blue
    if (wrong := (red != green) | (green != blue)).any():
        row, column = np.argwhere(wrong)[0]
        found = [int(channel[row, column]) for channel in (red, green, blue)]
        raise BadPicture(
            f"it has colours, such as {found} in row {row}, column {column}: list the colour of each class, as in "
            f"{typed('values', [[0, 0, 0], found])}"
        )
    return red


def _code(value: Value) -> int:
    return value if isinstance(value, int) else (value[0] << 16) | (value[1] << 8) | value[2]


def _shown(code: int, colours: bool) -> str:
    return str([code >> 16, (code >> 8) & 255, code & 255]) if colours else str(code)


def _said(values: Sequence[Value]) -> str:
    listed = [str(list(value) if isinstance(value, tuple) else value) for value in values[:8]]
    return ", ".join(listed) + (f" and {len(values) - 8} more" if len(values) > 8 else "")
