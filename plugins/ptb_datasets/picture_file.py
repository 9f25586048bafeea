"""Opens one picture that nobody has vouched for: its size is known before anything is decoded."""

import os
import sys
from pathlib import Path
from stat import S_ISREG
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ptb_datasets.picture_header import is_cut_jpeg, picture_size

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
# The least that a picture of max_pixels needs when it is not compressed: four channels of 16 bits, and a header.
BYTES_PER_PIXEL = 8
HEADER_BYTES = 1 << 20
UNREADABLE = "cannot be read"


class BadPicture(Exception):
    """A file that is no picture to train on; the message is the reason."""


class Form(NamedTuple):
    """What pictures are made into, and the most pixels that one may have before."""

    height: int
    width: int
    colour: bool
    max_pixels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (3 if self.colour else 1, self.height, self.width)


def read_picture(path: Path, form: Form) -> np.ndarray:
    """A file as uint8 ``[3, H, W]`` (red, green, blue) or ``[1, H, W]``, stretched to the size, writable.

    Raises:
        BadPicture: with the reason.
    """
    return planes(decode(read_bytes(path, form.max_pixels), form.colour, form.max_pixels), form)


def planes(pixels: np.ndarray, form: Form) -> np.ndarray:
    """Decoded pixels as uint8 ``[3, H, W]`` (red, green, blue) or ``[1, H, W]``, stretched to the size, writable."""
    pixels = resized(pixels, form)
    channels = pixels[..., ::-1].transpose(2, 0, 1) if form.colour else pixels[None]  # from blue, green, red
    return np.ascontiguousarray(channels)


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


def read_bytes(path: Path, max_pixels: int) -> bytes:
    """The content of a picture's file, checked from its name to its header, but not decoded.

    Raises:
        BadPicture: with the reason.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadPicture(f"not a picture by its name; valid are {' '.join(SUFFIXES)}")
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise BadPicture("not a file")
        if status.st_size == 0:
            raise BadPicture("empty")
        if status.st_size > max_pixels * BYTES_PER_PIXEL + HEADER_BYTES:
            raise BadPicture(f"its {status.st_size:,} bytes are more than {max_pixels:,} pixels can need")
        data = path.read_bytes()
    except OSError as error:
        raise BadPicture(f"{UNREADABLE}: {error.strerror or error}") from error
    size = picture_size(data)
    if size is None or 0 in size:
        raise BadPicture("cannot be decoded: its first bytes are those of no known kind of picture")
    if size[0] * size[1] > max_pixels:
        raise BadPicture(f"too many pixels: {size[0]:,} x {size[1]:,}; dataset.max_pixels={max_pixels} allows fewer")
    return data


def decode(data: bytes, colour: bool | None, max_pixels: int) -> np.ndarray:
    """The pixels: uint8 ``[H, W, 3]`` in OpenCV's order blue, green, red, or ``[H, W]``; turned as its EXIF data says.

    Where ``colour`` is None, they are as they are stored, of 8 or 16 bits, perhaps with a fourth channel; not turned.

    Raises:
        BadPicture: with the reason.
    """
    cv2 = opencv(max_pixels)
    if is_cut_jpeg(data):
        raise BadPicture("cannot be decoded: it is cut short")
    flags = {None: cv2.IMREAD_UNCHANGED, True: cv2.IMREAD_COLOR, False: cv2.IMREAD_GRAYSCALE}[colour]
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadPicture("cannot be decoded") from error
    if pixels is None:
        raise BadPicture("cannot be decoded")
    return np.asarray(pixels)


def resized(pixels: np.ndarray, form: Form) -> np.ndarray:
    """Stretched to the size, by the mean of areas where it shrinks, else linearly between pixels."""
    cv2 = opencv(form.max_pixels)
    if pixels.shape[:2] == (form.height, form.width):
        return pixels
    shrinks = pixels.shape[0] >= form.height and pixels.shape[1] >= form.width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (form.width, form.height), interpolation=method))
