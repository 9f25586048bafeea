import cv2
import numpy as np
import pytest

from ptb_datasets.picture_fit import fitted, shrinks_to
from ptb_datasets.picture_form import form_of


def form(size, fit="stretch", interpolation="auto", background=None):
    return form_of(size, "colour", 64_000_000, fit, interpolation, background, None, "full")


def picture(height, width, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


SIZES = [(20, 30), (30, 20), (5, 9), (9, 5), (7, 40), (1, 1), (16, 16)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_gets_the_size(size, fit, channels):
    pixels = picture(*size, channels)
    got = fitted(pixels, form((8, 12), fit))
    assert got.shape == (8, 12, *pixels.shape[2:])
    assert got.dtype == np.uint8


@pytest.mark.parametrize(("height", "width"), [(20, 30), (40, 24), (8, 200)])
def test_a_crop_is_resize_and_centre_crop(height, width):
    pixels = picture(height, width)
    got = fitted(pixels, form(8, "crop"))
    scale = max(8 / height, 8 / width)
    rows, columns = round(8 / scale), round(8 / scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    wanted = cv2.resize(pixels[top : top + rows, left : left + columns], (8, 8), interpolation=cv2.INTER_AREA)
    assert np.array_equal(got, wanted)


def test_a_crop_keeps_proportions_and_loses_the_edges():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    assert (fitted(pixels, form(10, "crop")) == 255).all()


@pytest.mark.parametrize("background", [None, (10, 20, 30)], ids=["black", "colour"])
def test_a_letterbox_has_the_background_around_the_whole_picture(background):
    pixels = np.full((10, 30, 3), 200, np.uint8)
    got = fitted(pixels, form(30, "letterbox", background=background))
    assert (got[10:20] == 200).all()
    assert (got[[*range(10), *range(20, 30)]] == (background or (0, 0, 0))[::-1]).all()


def test_a_grey_letterbox_has_the_brightness_of_the_background():
    got = fitted(np.zeros((10, 30), np.uint8), form(30, "letterbox", background=(255, 0, 0)))
    assert set(np.unique(got)) == {0, 76}
    assert cv2.cvtColor(np.uint8([[[0, 0, 255]]]), cv2.COLOR_BGR2GRAY)[0, 0] == 76


METHODS = {
    "nearest": cv2.INTER_NEAREST_EXACT,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(20, 30), (5, 6)], ids=["shrinks", "grows"])
def test_interpolation_is_opencv_s(name, size):
    pixels = picture(*size)
    assert np.array_equal(
        fitted(pixels, form(9, "stretch", name)), cv2.resize(pixels, (9, 9), interpolation=METHODS[name])
    )


def test_a_mask_takes_values_that_it_has():
    mask = picture(20, 30, 1) // 100
    assert set(np.unique(fitted(mask, form(7, "crop"), mask=True))) <= {0, 1, 2}
    assert set(np.unique(fitted(mask + 1, form(7, "letterbox"), mask=True, empty=99))) <= {1, 2, 3, 99}


def test_how_much_a_picture_shrinks():
    assert shrinks_to(100, 40, form((10, 10))) == 4
    assert shrinks_to(100, 40, form((10, 10), "crop")) == 4
    assert shrinks_to(100, 40, form((10, 10), "letterbox")) == 10
