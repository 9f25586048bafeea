"""Opens one picture that nobody has vouched for: its size is known before anything is decoded."""

import os
from math import ceil
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

import numpy as np

from ptb_datasets.picture_fit import fitted, grey_of, shrinks_to
from ptb_datasets.picture_form import BadPicture as BadPicture
from ptb_datasets.picture_form import Form as Form
from ptb_datasets.picture_form import opencv as opencv
from ptb_datasets.picture_header import is_cut_jpeg, picture_size
from ptb_datasets.picture_pillow import decode_with_pillow
from ptb_datasets.picture_traits import is_deep, may_be_transparent, turned
from ptb_datasets.typed import typed

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
# The least that a picture of max_pixels needs when it is not compressed: four channels of 16 bits, and a header.
BYTES_PER_PIXEL = 8
HEADER_BYTES = 1 << 20
UNREADABLE = "cannot be read"
OPAQUE = 255


class Facts(NamedTuple):
    """What of a picture's file its pixels in training do not show.

    Args:
        transparent: its opacity varies, and no background is given.
        low: the lowest of its values, where they have more than 8 bits and no range is given; else None.
        high: the highest.
        flat: all its pixels are 0, or all 255, by the range that is given.
        invisible: its opacity is 0 everywhere.
    """

    transparent: bool = False
    low: int | None = None
    high: int | None = None
    flat: bool = False
    invisible: bool = False


def read_picture(path: Path | str, form: Form) -> np.ndarray:
    """A file as uint8 ``[3, H, W]`` (red, green, blue) or ``[1, H, W]``, at the size of the form, writable.

    Raises:
        BadPicture: with the reason.
    """
    data = read_bytes(path, form.max_pixels)
    pixels = pixels_of(data, form)
    return planes(pixels, form, extent_of(data, form, pixels))


def inspect_picture(path: Path | str, form: Form) -> tuple[np.ndarray, Facts]:
    """The same with what it does not show; transparent and 16-bit files are decoded twice for that.

    Raises:
        BadPicture: with the reason.
    """
    data = read_bytes(path, form.max_pixels)
    pixels = pixels_of(data, form)
    return planes(pixels, form, extent_of(data, form, pixels)), facts_of(data, pixels, form)


def facts_of(data: bytes, pixels: np.ndarray, form: Form) -> Facts:
    """What of a file's content the pixels that are made of it do not show.

    Raises:
        BadPicture: it cannot be decoded.
    """
    transparent, low, high, flat, invisible = False, None, None, False, False
    if form.value_range is not None:
        flat = int(pixels.min()) == int(pixels.max()) in (0, OPAQUE)
    elif is_deep(data):
        stored = decode(data, None, form.max_pixels)
        if stored.dtype != np.uint8:
            values = stored[..., :3] if stored.ndim == 3 else stored
            low, high = int(values.min()), int(values.max())
    if may_be_transparent(data):
        stored = decode(data, None, form.max_pixels)
        alpha = _opacity(stored)
        transparent = form.background is None and alpha is not None and int(alpha.min()) < int(alpha.max())
        invisible = alpha is None and stored.ndim == 3 and stored.shape[2] == 4 and not stored[..., 3].any()
    return Facts(transparent, low, high, flat, invisible)


def planes(pixels: np.ndarray, form: Form, extent: tuple[float, float] | None = None) -> np.ndarray:
    """Decoded pixels as uint8 ``[3, H, W]`` (red, green, blue) or ``[1, H, W]``, at the size of the form, writable."""
    pixels = fitted(pixels, form, extent=extent)
    channels = pixels[..., ::-1].transpose(2, 0, 1) if form.colour else pixels[None]  # from blue, green, red
    return np.ascontiguousarray(channels)


def read_bytes(path: Path | str, max_pixels: int) -> bytes:
    """The content of a picture's file, checked from its name to its header, but not decoded.

    Raises:
        BadPicture: with the reason.
    """
    check_name(path)
    try:
        status = os.stat(path)
        if not S_ISREG(status.st_mode):
            raise BadPicture("not a file")
        if status.st_size == 0:
            raise BadPicture("empty")
        if status.st_size > max_pixels * BYTES_PER_PIXEL + HEADER_BYTES:
            raise BadPicture(f"its {status.st_size:,} bytes are more than {max_pixels:,} pixels can need")
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadPicture(f"{UNREADABLE}: {error.strerror or error}") from error
    size = picture_size(data)
    if size is None or 0 in size:
        raise BadPicture("cannot be decoded: its first bytes are those of no known kind of picture")
    if size[0] * size[1] > max_pixels:
        raise BadPicture(f"too many pixels: {size[0]:,} x {size[1]:,}; dataset.max_pixels={max_pixels} allows fewer")
    return data


def check_name(path: Path | str) -> None:
    """Refuses a file whose name does not end as that of a picture.

    Raises:
        BadPicture: it does not.
    """
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        raise BadPicture(f"not a picture by its name; valid are {' '.join(SUFFIXES)}")


def decode(data: bytes, colour: bool | None, max_pixels: int, reduction: int = 1) -> np.ndarray:
    """The pixels: uint8 ``[H, W, 3]`` in OpenCV's order blue, green, red, or ``[H, W]``; turned as its EXIF data says.

    Where ``colour`` is None, they are as they are stored, of 8 or 16 bits, perhaps with a fourth channel; not turned.

    Args:
        data: of the file.
        colour: or grey, or as it is stored.
        max_pixels: see ``opencv``.
        reduction: 1, 2, 4 or 8: both sides are divided by it while a JPEG is decoded.

    Raises:
        BadPicture: with the reason.
    """
    cv2 = opencv(max_pixels)
    if colour is None:
        return _decoded(data, cv2.IMREAD_UNCHANGED, colour, max_pixels)
    if reduction > 1:
        name = f"IMREAD_REDUCED_{'COLOR' if colour else 'GRAYSCALE'}_{reduction}"
        return _decoded(data, getattr(cv2, name), colour, max_pixels)
    return _decoded(data, cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE, colour, max_pixels)


def pixels_of(data: bytes, form: Form) -> np.ndarray:
    """A file as uint8 ``[h, w, 3]`` (blue, green, red) or ``[h, w]``, at its own size or a reduced one.

    Its values are scaled from the form's range, and it is composed on the form's background, where these are given.

    Raises:
        BadPicture: with the reason.
    """
    if form.background is not None and may_be_transparent(data):
        stored = decode(data, None, form.max_pixels)
        if (alpha := _opacity(stored)) is not None:
            colours = _eight_bits(turned(stored[..., :3], data), form.value_range)
            return _composed(colours, turned(alpha, data), form)
    if form.value_range is None:
        return decode(data, form.colour, form.max_pixels, reduction_of(data, form))
    cv2 = opencv(form.max_pixels)
    depth = cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_COLOR if form.colour else cv2.IMREAD_GRAYSCALE)
    try:
        stored = _decoded(data, depth, form.colour, form.max_pixels)
    except BadPicture:  # OpenCV gives numbers with a point only as they are stored
        stored = turned(decode(data, None, form.max_pixels), data)
    return _converted(_eight_bits(stored[..., :3] if stored.ndim == 3 else stored, form.value_range), form)


def pixels_of_array(pixels: np.ndarray, form: Form) -> np.ndarray:
    """The same of a picture ``[h, w]`` or ``[h, w, 1, 3 or 4]`` (red, green, blue, opacity) in memory.

    Raises:
        BadPicture: it has another shape or type.
    """
    if form.value_range is None and pixels.dtype.kind in "fi" and np.isin(pixels, np.arange(OPAQUE + 1)).all():
        pixels = pixels.astype(np.uint8)  # as JSON gives them
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    kinds = (np.uint8, np.uint16) if form.value_range is None else (np.uint8, np.uint16, np.float32, np.float64)
    if pixels.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in pixels.shape or pixels.dtype not in kinds:
        raise BadPicture(
            f"{pixels.dtype} {list(pixels.shape)} is no picture; valid: {', '.join(kind.__name__ for kind in kinds)} "
            "of shape [H, W], or [H, W, C] with 1, 3 (red, green, blue) or 4 channels (and opacity)"
        )
    if channels == 1:
        return _converted(_eight_bits(pixels.reshape(pixels.shape[:2]), form.value_range), form)
    stored = np.ascontiguousarray(pixels[..., [2, 1, 0, 3][:channels]])
    colours, alpha = _eight_bits(stored[..., :3], form.value_range), _opacity(stored)
    if form.background is not None and alpha is not None:
        return _composed(colours, alpha, form)
    return _converted(np.ascontiguousarray(colours), form)


def _converted(pixels: np.ndarray, form: Form) -> np.ndarray:
    """Uint8 ``[h, w]`` or ``[h, w, 3]`` in the form's channels."""
    cv2 = opencv(form.max_pixels)
    if form.colour and pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)) if not form.colour and pixels.ndim == 3 else pixels


def _decoded(data: bytes, flags: int, colour: bool | None, max_pixels: int) -> np.ndarray:
    cv2 = opencv(max_pixels)
    if is_cut_jpeg(data):
        raise BadPicture("cannot be decoded: it is cut short")
    buffer = np.frombuffer(data, np.uint8)
    try:
        pixels = cv2.imdecode(buffer, flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        pixels = decode_with_pillow(data, colour, max_pixels)
    if pixels is None:
        raise BadPicture(f"cannot be decoded{_values_with_a_point(data, flags, max_pixels)}")
    return np.asarray(pixels)


def _values_with_a_point(data: bytes, flags: int, max_pixels: int) -> str:
    """What to do with a picture that OpenCV decodes only as it is stored."""
    cv2 = opencv(max_pixels)
    if flags not in (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE) or data[:4] not in (b"II*\0", b"MM\0*"):
        return ""
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return ""
    if stored is None or stored.dtype in (np.uint8, np.uint16):
        return ""
    limits = [round(float(np.nanmin(stored)), 6), round(float(np.nanmax(stored)), 6)]
    return f": its values are {stored.dtype}; say which become 0 and 255, as {typed('value_range', limits)}"


def reduction_of(data: bytes, form: Form) -> int:
    """By what the sides of a JPEG can be divided while it is decoded, so that it still has to shrink afterwards."""
    size = picture_size(data)
    if form.decode != "reduced" or size is None or not data.startswith(b"\xff\xd8\xff"):
        return 1
    # Either way round: EXIF data may turn it.
    shrinks = min(shrinks_to(*size, form), shrinks_to(*size[::-1], form))
    return next((reduction for reduction in (8, 4, 2) if shrinks >= reduction), 1)


def extent_of(data: bytes, form: Form, pixels: np.ndarray) -> tuple[float, float] | None:
    """Height and width of what was decoded at a reduced size, where its last row or column is one in part only."""
    reduction, size = reduction_of(data, form), picture_size(data)
    if reduction == 1 or size is None:
        return None
    width, height = size[0] / reduction, size[1] / reduction
    turned_over = pixels.shape[:2] != (ceil(height), ceil(width))
    return (width, height) if turned_over else (height, width)


def _opacity(stored: np.ndarray) -> np.ndarray | None:
    """The opacity ``[H, W]`` of a picture as it is stored, uint8; None where all of it is opaque.

    Where it is 0 everywhere, as in bitmaps of Windows, it means nothing.
    """
    if stored.ndim < 3 or stored.shape[2] != 4:
        return None
    alpha = _eight_bits(stored[..., 3], None)
    return None if alpha.min() == OPAQUE or alpha.max() == 0 else alpha


def _composed(colours: np.ndarray, alpha: np.ndarray, form: Form) -> np.ndarray:
    """``(colour * a + background * (255 - a)) / 255``, rounded, as ``Image.paste`` of Pillow does with a mask."""
    red, green, blue = form.background or (0, 0, 0)
    behind = np.array((blue, green, red), np.uint32)
    if not form.colour:
        cv2 = opencv(form.max_pixels)
        colours = np.asarray(cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_BGR2GRAY))[..., None]
        behind = np.array((grey_of(red, green, blue),), np.uint32)
    share = alpha[..., None].astype(np.uint32)
    mixed = ((colours * share + behind * (OPAQUE - share) + OPAQUE // 2) // OPAQUE).astype(np.uint8)
    return mixed if form.colour else mixed[..., 0]


def _eight_bits(stored: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Values of any type as uint8: ``(value - low) / (high - low) * 255``, rounded and limited to 0 to 255.

    Without a range, 16-bit values lose their lower 8 bits.
    """
    if value_range is None:
        return (stored >> 8).astype(np.uint8) if stored.dtype == np.uint16 else stored
    low, high = value_range
    scaled = (np.nan_to_num(stored.astype(np.float32), nan=low) - np.float32(low)) * np.float32(OPAQUE / (high - low))
    whole: np.ndarray = np.rint(scaled).clip(0, OPAQUE).astype(np.uint8)
    return whole
