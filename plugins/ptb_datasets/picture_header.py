"""Reads how large a picture is from its first bytes, so that nothing is decoded that would not fit into memory."""

import re
from struct import error as StructError
from struct import unpack_from

_PNM = re.compile(rb"P[1-6]\s(?:\s*#[^\n]*\n)*\s*(\d{1,10})(?:\s+|\s*#[^\n]*\n)+(\d{1,10})\s")
_TIFF_TYPES = {3: "H", 4: "I"}  # short and long


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a PNG, JPEG, BMP, WebP, TIFF or PNM file claims, or None if its header says none."""
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
        match = _PNM.match(data)
        return (int(match[1]), int(match[2])) if match else None
    except StructError:  # it ends inside its header
        return None


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
    order = "<" if data.startswith(b"II") else ">"
    start = unpack_from(f"{order}I", data, 4)[0]
    sizes = {}
    for entry in range(unpack_from(f"{order}H", data, start)[0]):
        place = start + 2 + 12 * entry
        tag, form = unpack_from(f"{order}HH", data, place)
        if tag in (256, 257) and form in _TIFF_TYPES:  # width, height
            sizes[tag] = unpack_from(order + _TIFF_TYPES[form], data, place + 8)[0]
    return (sizes[256], sizes[257]) if len(sizes) == 2 else None
