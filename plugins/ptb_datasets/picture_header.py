"""Reads how large a picture is from its first bytes, so that nothing is decoded that would not fit into memory."""

import re
from struct import calcsize, unpack_from
from struct import error as StructError

_PNM = re.compile(rb"P[1-6]\s(?:\s*#[^\n]*\n)*\s*(\d{1,10})(?:\s+|\s*#[^\n]*\n)+(\d{1,10})\s")
_TIFF_TYPES = {3: "H", 4: "I"}  # short and long


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a file claims, or None if its header says none.

    It knows PNG, JPEG, BMP, WebP, TIFF, PNM, GIF, AVIF and JPEG 2000.
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"BM"):
            return _bmp(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = unpack_from("<HH", data, 6)
            return (width, height) if width and height else None
        if kind_of(data) in ("AVIF", "JPEG2000"):
            return _boxes(data)
        match = _PNM.match(data)
        return (int(match[1]), int(match[2])) if match else None
    except StructError:  # it ends inside its header
        return None


def kind_of(data: bytes) -> str | None:
    """``"GIF"``, ``"AVIF"`` or ``"JPEG2000"``, as Pillow calls what not every OpenCV decodes; None for the others."""
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[4:8] == b"ftyp" and (b"avif" in data[8:40] or b"avis" in data[8:40]):
        return "AVIF"
    return "JPEG2000" if data.startswith(b"\0\0\0\x0cjP  ") else None


def is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG has no end marker after its scan begins; some decoders fill what is missing with grey."""
    return data.startswith(b"\xff\xd8\xff") and data.find(b"\xff\xda", data.rfind(b"\xff\xd9") + 1) >= 0


def _jpeg(data: bytes) -> tuple[int, int] | None:
    place = 2
    while True:
        while data[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        mark, marker, length = unpack_from(">BBH", data, place)
        if mark != 0xFF or marker == 0xDA:
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame, not tables
            height, width = unpack_from(">HH", data, place + 5)
            return width, height
        place += 2 + length


def _bmp(data: bytes) -> tuple[int, int]:
    header = unpack_from("<I", data, 14)[0]
    width, height = unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)  # a negative height means that the rows run downwards


def _webp(data: bytes) -> tuple[int, int] | None:
    form = data[12:16]
    if form == b"VP8 ":
        width, height = unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if form == b"VP8L":
        bits = unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if form == b"VP8X":
        low_w, high_w, low_h, high_h = unpack_from("<HBHB", data, 24)
        return (low_w | high_w << 16) + 1, (low_h | high_h << 16) + 1
    return None


def _tiff(data: bytes) -> tuple[int, int] | None:
    tags = tiff_tags(data)
    return (tags[256], tags[257]) if 256 in tags and 257 in tags else None  # width, height


def tiff_tags(data: bytes, begin: int = 0) -> dict[int, int]:
    """The numbers in the first directory of a TIFF file, or of EXIF data that begin at a place, by their tags.

    Raises:
        struct.error: it ends inside the directory.
    """
    order = "<" if data[begin : begin + 2] == b"II" else ">"
    start = begin + unpack_from(f"{order}I", data, begin + 4)[0]
    tags = {}
    for entry in range(unpack_from(f"{order}H", data, start)[0]):
        place = start + 2 + 12 * entry
        tag, form, count = unpack_from(f"{order}HHI", data, place)
        if form in _TIFF_TYPES:
            value = place + 8
            if count * calcsize(_TIFF_TYPES[form]) > 4:  # several values lie elsewhere
                value = begin + unpack_from(f"{order}I", data, value)[0]
            tags[tag] = unpack_from(order + _TIFF_TYPES[form], data, value)[0]
    return tags


def _boxes(data: bytes) -> tuple[int, int] | None:
    """The largest of the sizes in the boxes of an AVIF or JPEG 2000 file."""
    sizes = []
    for name, place, order in ((b"ispe", 8, ">II"), (b"ihdr", 4, ">II")):
        start = data.find(name, 0, 1 << 16)
        while start >= 0:
            first, second = unpack_from(order, data, start + place)
            sizes.append((second, first) if name == b"ihdr" else (first, second))
            start = data.find(name, start + 4, 1 << 16)
    return max(sizes, key=lambda size: size[0] * size[1], default=None)
