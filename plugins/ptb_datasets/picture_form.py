"""What pictures are made into: the part of the settings that decides their pixels."""

import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

BLACK = (0, 0, 0)


class BadPicture(Exception):
    """A file that is no picture to train on; the message is the reason."""


class Form(NamedTuple):
    """What pictures are made into, and the most pixels that one may have before.

    Args:
        height: in pixels.
        width: in pixels.
        colour: red, green and blue; else one channel.
        max_pixels: a picture with more is refused.
        fit: ``"stretch"``, ``"crop"`` or ``"letterbox"``, see ``picture_fit``.
        interpolation: ``"auto"``, ``"nearest"``, ``"linear"``, ``"cubic"``, ``"area"`` or ``"lanczos"``.
        background: red, green, blue behind transparent pixels and around a letterbox; None: transparency is ignored.
        value_range: the stored values that become 0 and 255; None: 16-bit values lose their lower 8 bits.
        decode: ``"full"``, or ``"reduced"``: JPEG files are decoded at a half, quarter or eighth where that is enough.
    """

    height: int
    width: int
    colour: bool
    max_pixels: int
    fit: str = "stretch"
    interpolation: str = "auto"
    background: tuple[int, int, int] | None = None
    value_range: tuple[float, float] | None = None
    decode: str = "full"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (3 if self.colour else 1, self.height, self.width)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


def form_of(
    size: int | Sequence[int],
    colour: str,
    max_pixels: int,
    fit: str,
    interpolation: str,
    background: Sequence[int] | None,
    value_range: Sequence[float] | None,
    decode: str,
) -> Form:
    """The form of settings of these names."""
    height, width = (size, size) if isinstance(size, int) else size
    behind = None if background is None else (background[0], background[1], background[2])
    limits = None if value_range is None else (float(value_range[0]), float(value_range[1]))
    return Form(height, width, colour == "colour", max_pixels, fit, interpolation, behind, limits, decode)


def opencv(max_pixels: int) -> ModuleType:
    """OpenCV, told to use no threads of its own, to write nothing on standard error, and to keep to ``max_pixels``.

    Several processes that each start a thread for each core slow each other down, and a process that is forked while
    such threads run may hang; it is the number of workers that should set how many pictures are read at once.

    Args:
        max_pixels: OpenCV reads this limit from the environment when it is imported, so it counts only where that has
            not happened yet; ``read_bytes`` checks the header first, and does not rely on it.
    """
    if "cv2" not in sys.modules:
        os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(max_pixels)
    import cv2

    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
