import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptb_datasets.picture_header import is_cut_jpeg, picture_size

PIXELS = np.random.RandomState(0).randint(0, 256, (23, 57, 3)).astype(np.uint8)
KINDS = [".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm", ".pgm"]


def encoded(kind, pixels=PIXELS, *options):
    return cv2.imencode(kind, pixels[..., 0] if kind == ".pgm" else pixels, list(options))[1].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_that_of_the_picture(kind):
    assert picture_size(encoded(kind)) == (57, 23)


@pytest.mark.parametrize(
    "data",
    [
        encoded(".webp", PIXELS, cv2.IMWRITE_WEBP_QUALITY, 50),
        encoded(".webp", PIXELS, cv2.IMWRITE_WEBP_QUALITY, 101),
        encoded(".jpg", PIXELS, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(".webp", np.dstack((PIXELS, PIXELS[..., :1]))),
        b"P6 # a word\n# another\n57 23 255\n",
        b"P4\n57\n# between\n23\n",
        b"\xff\xd8\xff\xff\xfe\0\x04ab\xff\xc0\0\x0b\x08\0\x17\0\x39\x01",
        b"BM" + bytes(12) + struct.pack("<IHH", 12, 57, 23),
        b"BM" + bytes(12) + struct.pack("<Iii", 40, 57, -23),
        b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\x38\0\0\x16\0\0",
        b"MM\0*\0\0\0\x08\0\2" + struct.pack(">HHIHHHHII", 256, 3, 1, 57, 0, 257, 4, 1, 23),
    ],
    ids=[
        "webp-lossy", "webp-lossless", "jpeg-progressive", "webp-alpha", "pnm-comment", "pnm-comment-between",
        "jpeg-fill", "bmp-old", "bmp-downwards", "webp-extended", "tiff-big-endian",
    ],
)  # fmt: skip
def test_the_rarer_forms_are_read_too(data):
    assert picture_size(data) == (57, 23)


@pytest.mark.parametrize("data", [b"", b"hello", b"GIF89a" + bytes(20), b"\x89PNG\r\n\x1a\n" + bytes(30), b"P6\nx\n"])
def test_what_is_no_picture_has_no_size(data):
    assert picture_size(data) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_is_cut_raises_nothing(kind):
    data = encoded(kind)
    for length in range(60):
        assert picture_size(data[:length]) in (None, (57, 23))


@given(st.sampled_from(KINDS), st.dictionaries(st.integers(0, 60), st.integers(0, 255)))
def test_noise_in_the_header_raises_nothing(kind, noise):
    data = bytearray(encoded(kind))
    for place, value in noise.items():
        data[place] = value
    size = picture_size(bytes(data))
    assert size is None or min(size) >= 0


@given(st.sampled_from([b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF\0\0\0\0WEBPVP8L"]), st.binary(max_size=200))
def test_noise_after_a_signature_raises_nothing(signature, noise):
    picture_size(signature + noise)


def test_a_jpeg_without_its_end_is_seen():
    data = encoded(".jpg")
    assert not is_cut_jpeg(data)
    assert not is_cut_jpeg(data + b"what a camera added")
    assert is_cut_jpeg(data[:-2])
    assert is_cut_jpeg(data[: len(data) // 2])
    assert not is_cut_jpeg(encoded(".png"))
