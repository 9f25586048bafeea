"""What the header of a picture says of transparency, depth and orientation."""

from struct import error as StructError

import numpy as np

from ptb_datasets.picture_header import kind_of, tiff_tags

PNG = b"\x89PNG\r\n\x1a\n"


def may_be_transparent(data: bytes) -> bool:
    """Whether a file has a channel, or a colour, for transparency."""
    if data.startswith(PNG):
        return data[25:26] in (b"\x04", b"\x06") or b"tRNS" in data[: max(data.find(b"IDAT"), 0)]
    if data.startswith(b"RIFF"):
        return (data[12:16] == b"VP8X" and bool(data[20] & 0x10)) or (data[12:16] == b"VP8L" and bool(data[24] & 0x10))
    if data.startswith(b"BM"):
        return data[28:29] == b"\x20"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tag(data, 277) in (2, 4)  # samples of a pixel
    return kind_of(data) is not None


def is_deep(data: bytes) -> bool:
    """Whether the values of a file have more than 8 bits."""
    if data.startswith(PNG):
        return data[24:25] == b"\x10"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tag(data, 258) > 8  # bits of a sample
    if data[:1] == b"P" and data[1:2] in b"2356":
        header = data[:200].split(b"\n")
        numbers = [word for line in header for word in line.split(b"#")[0].split()][1:4]
        return len(numbers) == 3 and numbers[2].isdigit() and int(numbers[2]) > 255
    return kind_of(data) in ("AVIF", "JPEG2000")


def turned(pixels: np.ndarray, data: bytes) -> np.ndarray:
    """Pixels as they are stored, turned as the EXIF data of a PNG or WebP file says.

    OpenCV turns what it converts to grey or colour, and leaves what it gives as it is stored.
    """
    name = b"eXIf" if data.startswith(PNG) else b"EXIF" if data.startswith(b"RIFF") else b""
    start = data.rfind(name) if name else -1
    if start < 0:
        return pixels
    begin = start + (4 if name == b"eXIf" else 8)
    begin += 6 * (data[begin : begin + 6] == b"Exif\0\0")
    orientation = _tag(data, 274, begin)
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _tag(data: bytes, tag: int, begin: int = 0) -> int:
    """The number of a tag; 0 where there is none."""
    try:
        return tiff_tags(data, begin).get(tag, 0)
    except StructError:
        return 0
