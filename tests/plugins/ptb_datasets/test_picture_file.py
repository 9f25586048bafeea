import io
import struct
import zlib

import cv2
import numpy as np
import pytest

from ptb_datasets.picture_file import Facts, inspect_picture, pixels_of, read_bytes, read_picture, reduction_of
from ptb_datasets.picture_form import BadPicture, form_of
from ptb_datasets.picture_header import kind_of, picture_size
from ptb_datasets.picture_traits import is_deep, may_be_transparent, turned

WHITE, BLUE = (255, 255, 255), (10, 20, 250)


def form(size=(6, 9), colour="colour", **changes):
    return form_of(size, colour, 64_000_000, "stretch", "auto", None, None, "full")._replace(**changes)


def pixels(channels, dtype=np.uint8, seed=0, height=6, width=9):
    most = np.iinfo(dtype).max
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.RandomState(seed).randint(0, most + 1, shape).astype(dtype)


def encoded(picture, suffix=".png"):
    return cv2.imencode(suffix, picture)[1].tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_orientation(png, orientation):
    """A PNG with EXIF data that say how it is to be turned."""
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    place = png.index(b"IDAT") - 4
    return png[:place] + chunk(b"eXIf", exif) + png[place:]


def composed(rgba, background):
    alpha = rgba[..., 3:].astype(float) / 255
    return np.rint(rgba[..., :3] * alpha + np.array(background, float) * (1 - alpha))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
@pytest.mark.parametrize("background", [WHITE, (0, 0, 0), BLUE], ids=["white", "black", "blue"])
def test_transparent_pixels_are_composed_on_the_background(suffix, background):
    bgra = pixels(4)
    data = cv2.imencode(suffix, bgra, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    wanted = composed(stored, background[::-1])
    assert np.abs(pixels_of(data, form(background=background)).astype(int) - wanted).max() == 0


def test_composition_is_that_of_pillow(tmp_path):
    image = pytest.importorskip("PIL.Image")
    bgra = pixels(4)
    cv2.imwrite(str(tmp_path / "x.png"), bgra)
    with image.open(tmp_path / "x.png") as picture:
        canvas = image.new("RGB", picture.size, BLUE)
        canvas.paste(picture, mask=picture)
    assert np.array_equal(read_picture(tmp_path / "x.png", form(background=BLUE)), np.array(canvas).transpose(2, 0, 1))


def test_grey_pictures_are_composed_too():
    bgra = pixels(4)
    grey = cv2.cvtColor(bgra[..., :3], cv2.COLOR_BGR2GRAY).astype(float)
    alpha = bgra[..., 3] / 255
    got = pixels_of(encoded(bgra), form(colour="grey", background=WHITE))
    assert np.array_equal(got, np.rint(grey * alpha + 255 * (1 - alpha)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_composed_pictures_are_turned_as_those_without_opacity(orientation):
    bgra = pixels(4)
    bgra[..., 3] = 255
    bgra[0, 0, 3] = 254
    data = with_orientation(encoded(bgra), orientation)
    plain = pixels_of(data, form())
    got = pixels_of(data, form(background=(0, 0, 0)))
    assert got.shape == plain.shape
    assert np.abs(got.astype(int) - plain).max() <= 1
    assert np.array_equal(turned(bgra[..., :3], data), plain)


def test_a_bitmap_whose_opacity_is_0_everywhere_is_opaque():
    bgra = pixels(4)
    bgra[..., 3] = 0
    assert np.array_equal(pixels_of(encoded(bgra), form(background=WHITE)), bgra[..., :3])


@pytest.mark.parametrize(
    ("channels", "suffix"), [(1, ".png"), (1, ".tiff"), (1, ".pgm"), (3, ".png"), (3, ".tiff"), (3, ".ppm")]
)
def test_a_range_of_16_bit_values_becomes_0_to_255(channels, suffix):
    deep = np.clip(pixels(channels, np.uint16) // 16, 300, 4000).astype(np.uint16)
    wanted = np.rint((deep.astype(float) - 500) / (3500 - 500) * 255).clip(0, 255)
    got = pixels_of(encoded(deep, suffix), form(value_range=(500.0, 3500.0)))
    assert np.abs(got.astype(int) - (wanted if channels == 3 else wanted[..., None])).max() <= 1
    assert got.dtype == np.uint8


def test_a_range_holds_for_numbers_with_a_point_and_without_one_they_are_refused_with_it(tmp_path):
    values = np.linspace(-2, 3, 54, dtype=np.float32).reshape(6, 9)
    (tmp_path / "x.tiff").write_bytes(encoded(values, ".tiff"))
    with pytest.raises(BadPicture, match=r"values are float32; .* dataset\.value_range='\[-2\.0, 3\.0\]'"):
        read_picture(tmp_path / "x.tiff", form(colour="grey"))
    got = read_picture(tmp_path / "x.tiff", form(colour="grey", value_range=(-2.0, 3.0)))[0]
    assert np.array_equal(got, np.rint((values + 2) / 5 * 255))
    assert read_picture(tmp_path / "x.tiff", form(value_range=(-2.0, 3.0))).shape == (3, 6, 9)


FACTS = {
    "opaque": (pixels(3), {}, Facts()),
    "full-alpha": (np.dstack([pixels(3), np.full((6, 9), 255, np.uint8)]), {}, Facts()),
    "alpha": (pixels(4), {}, Facts(transparent=True)),
    "alpha-on-white": (pixels(4), {"background": WHITE}, Facts()),
    "deep": (np.array([[520, 600], [799, 555]], np.uint16), {}, Facts(low=520, high=799)),
    "deep-alpha": (np.array([[[1, 2, 3, 65535]]], np.uint16), {}, Facts(low=1, high=3)),
    "deep-in-range": (np.array([[520, 799]], np.uint16), {"value_range": (520.0, 799.0)}, Facts()),
    "deep-out-of-range": (np.array([[520, 799]], np.uint16), {"value_range": (5200.0, 7990.0)}, Facts(flat=True)),
}


@pytest.mark.parametrize(("picture", "changes", "facts"), FACTS.values(), ids=FACTS)
def test_what_training_does_not_see_is_found(tmp_path, picture, changes, facts):
    cv2.imwrite(str(tmp_path / "x.png"), picture)
    got = inspect_picture(tmp_path / "x.png", form(**changes))
    assert got[1] == facts
    assert np.array_equal(got[0], read_picture(tmp_path / "x.png", form(**changes)))


def test_headers_say_what_may_be_transparent_or_deep():
    assert may_be_transparent(encoded(pixels(4)))
    assert may_be_transparent(cv2.imencode(".webp", pixels(4))[1].tobytes())
    assert may_be_transparent(encoded(pixels(4), ".tiff"))
    assert not any(
        may_be_transparent(encoded(pixels(3), suffix)) for suffix in (".png", ".jpg", ".tiff", ".webp", ".bmp")
    )
    assert all(is_deep(encoded(pixels(1, np.uint16), suffix)) for suffix in (".png", ".tiff", ".pgm"))
    assert not any(is_deep(encoded(pixels(3), suffix)) for suffix in (".png", ".tiff", ".ppm", ".jpg", ".bmp"))
    assert not is_deep(b"P5 # a comment 9 9\n9 9 255\n")


@pytest.mark.parametrize("size", [32, 64, 100])
@pytest.mark.parametrize("colour", ["colour", "grey"])
def test_reduced_decoding_differs_by_little(tmp_path, size, colour):
    smooth = cv2.resize(pixels(3, height=7, width=7), (400, 500), interpolation=cv2.INTER_CUBIC)
    data = encoded(smooth, ".jpg")
    full, reduced = (form(size, colour, decode=each)._replace(height=size, width=size) for each in ("full", "reduced"))
    assert reduction_of(data, full) == 1
    assert reduction_of(data, reduced) == {32: 8, 64: 4, 100: 4}[size]
    (tmp_path / "x.jpg").write_bytes(data)
    difference = read_picture(tmp_path / "x.jpg", full).astype(int) - read_picture(tmp_path / "x.jpg", reduced)
    assert np.abs(difference).max() <= 5
    assert np.abs(difference).max() > 0


def test_only_jpeg_files_that_are_large_enough_either_way_round_are_reduced():
    wide = encoded(pixels(3, height=64, width=256), ".jpg")
    assert reduction_of(wide, form((32, 32), decode="reduced")) == 2
    assert reduction_of(wide, form((32, 128), decode="reduced")) == 1  # turned it would be 64 wide
    assert reduction_of(wide, form((32, 32), decode="reduced", fit="letterbox")) == 8
    assert reduction_of(encoded(pixels(3, height=64, width=256)), form((8, 8), decode="reduced")) == 1


def foreign(suffix):
    """A picture of a kind that not every OpenCV decodes, written by OpenCV or Pillow."""
    try:
        done, data = cv2.imencode(suffix, pixels(3))
    except cv2.error:
        done = False
    if done:
        return data.tobytes()
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.fromarray(pixels(3)[..., ::-1].copy()).save(stream, {".jp2": "JPEG2000"}.get(suffix, suffix[1:].upper()))
    return stream.getvalue()


@pytest.mark.parametrize(("suffix", "kind"), [(".gif", "GIF"), (".avif", "AVIF"), (".jp2", "JPEG2000")])
def test_sizes_and_kinds_of_what_not_every_opencv_decodes(suffix, kind):
    data = foreign(suffix)
    assert kind_of(data) == kind
    assert picture_size(data) == (9, 6)
    assert kind_of(encoded(pixels(3))) is None


@pytest.mark.parametrize(("suffix", "kind"), [(".gif", "GIF"), (".avif", "AVIF"), (".jp2", "JPEG2000")])
def test_what_opencv_cannot_decode_goes_through_pillow_or_names_it(monkeypatch, tmp_path, suffix, kind):
    (tmp_path / f"x{suffix}").write_bytes(foreign(suffix))
    expected = read_picture(tmp_path / f"x{suffix}", form())
    monkeypatch.setattr(cv2, "imdecode", lambda *given: None)
    try:
        import PIL  # noqa: F401
    except ImportError:
        with pytest.raises(BadPicture, match=rf"cannot decode it \({kind}\); .*pip install 'pytorch-basics\[pillow\]'"):
            read_picture(tmp_path / f"x{suffix}", form())
        return
    got = read_picture(tmp_path / f"x{suffix}", form())
    assert np.abs(got.astype(int) - expected).max() <= 4
    assert read_picture(tmp_path / f"x{suffix}", form(colour="grey")).shape == (1, 6, 9)


def test_without_pillow_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    monkeypatch.setattr(cv2, "imdecode", lambda *given: None)
    (tmp_path / "x.gif").write_bytes(b"GIF89a" + struct.pack("<HH", 3, 3) + bytes(20))
    with pytest.raises(BadPicture, match=r"this OpenCV cannot decode it \(GIF\); Pillow may: pip install"):
        read_picture(tmp_path / "x.gif", form())


LIES = {
    "gif-bomb": (
        ".gif",
        b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + bytes(20),
        "too many pixels: 60,000 x 60,000",
    ),
    "gif-nothing": (".gif", b"GIF89a" + bytes(20), "no known kind"),
    "gif-cut": (".gif", b"GIF89a" + struct.pack("<HH", 5, 5), "cannot"),
    "avif-bomb": (
        ".avif",
        b"\0\0\0\x1cftypavif" + bytes(16) + b"ispe" + bytes(4) + struct.pack(">II", 50_000, 50_000),
        "too many pixels: 50,000 x 50,000",
    ),
    "avif-small-first": (
        ".avif",
        b"\0\0\0\x1cftypavif"
        + bytes(16)
        + b"".join(b"ispe" + bytes(4) + struct.pack(">II", s, s) for s in (1, 50_000)),
        "too many pixels",
    ),
    "avif-no-size": (".avif", b"\0\0\0\x1cftypavif" + bytes(60), "no known kind"),
    "jp2-bomb": (".jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + b"ihdr" + struct.pack(">II", 40_000, 50_000), "50,000 x 40,000"),
    "png-lies": (".png", None, "cannot be decoded"),
    "tiff-strips": (".tif", b"II*\0\x08\0\0\0" + b"\x01\0" + struct.pack("<HHII", 256, 4, 9, 1 << 31), "no known kind"),
}


@pytest.mark.parametrize(("suffix", "content", "message"), LIES.values(), ids=LIES)
def test_a_header_that_lies_is_refused(tmp_path, suffix, content, message):
    if content is None:  # it says 4000 x 4000 and holds 6 x 9
        good = encoded(pixels(3))
        head = struct.pack(">II", 4000, 4000) + good[24:29]
        content = good[:8] + chunk(b"IHDR", head) + good[33:]
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(BadPicture, match=message):
        read_picture(tmp_path / f"x{suffix}", form())


def test_bytes_are_those_of_the_file(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(pixels(3)))
    assert read_bytes(tmp_path / "x.png", 54) == encoded(pixels(3))
    with pytest.raises(BadPicture, match="too many pixels: 9 x 6"):
        read_bytes(tmp_path / "x.png", 53)
