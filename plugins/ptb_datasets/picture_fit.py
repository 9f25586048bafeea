"""Brings decoded pictures to one size: stretched, cropped or letterboxed."""

from typing import Any

import numpy as np

from ptb_datasets.picture_form import BLACK, Form, opencv


def fitted(
    pixels: np.ndarray,
    form: Form,
    *,
    mask: bool = False,
    empty: Any = None,
    extent: tuple[float, float] | None = None,
) -> np.ndarray:
    """A picture ``[h, w]`` or ``[h, w, channels]`` at the size of the form, as its ``fit`` says.

    Args:
        pixels: decoded.
        form: of the result. ``"stretch"`` changes the proportions. ``"crop"`` scales until the size is filled and keeps
            the centre, as ``Resize`` and ``CenterCrop`` of torchvision do. ``"letterbox"`` scales until all of the
            picture fits, and puts it into the centre.
        mask: take the value of the nearest pixel, whatever the form's interpolation.
        empty: what a letterbox is filled with; None is the form's background, or black.
        extent: height and width, where the last row or column is one in part only; None: all are whole.
    """
    height, width = pixels.shape[:2]
    if form.fit == "stretch":
        return _resized(pixels, form.height, form.width, form, mask, extent)
    scales = form.height / height, form.width / width
    if form.fit == "crop":
        scale = max(scales)
        rows, columns = min(height, _near(form.height / scale)), min(width, _near(form.width / scale))
        top, left = (height - rows) // 2, (width - columns) // 2
        return _resized(pixels[top : top + rows, left : left + columns], form.height, form.width, form, mask)
    rows = min(form.height, _near(min(scales) * height))
    columns = min(form.width, _near(min(scales) * width))
    top, left = (form.height - rows) // 2, (form.width - columns) // 2
    canvas = np.empty((*form.sides, *pixels.shape[2:]), pixels.dtype)
    canvas[:] = _filling(form, pixels.ndim) if empty is None else empty
    canvas[top : top + rows, left : left + columns] = _resized(pixels, rows, columns, form, mask, extent)
    return canvas


def shrinks_to(height: int, width: int, form: Form) -> float:
    """How many pixels of a picture of this size become one at least, along either side."""
    ratios = height / form.height, width / form.width
    return max(ratios) if form.fit == "letterbox" else min(ratios)


def _resized(
    pixels: np.ndarray, height: int, width: int, form: Form, mask: bool, extent: tuple[float, float] | None = None
) -> np.ndarray:
    """``"auto"`` takes the mean of areas where the picture shrinks, else the line between pixels."""
    if pixels.shape[:2] == (height, width):
        return pixels
    cv2 = opencv(form.max_pixels)
    shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
    method = {
        "auto": cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        "nearest": cv2.INTER_NEAREST_EXACT,
        "linear": cv2.INTER_LINEAR,
        "cubic": cv2.INTER_CUBIC,
        "area": cv2.INTER_AREA,
        "lanczos": cv2.INTER_LANCZOS4,
    }["nearest" if mask else form.interpolation]
    if extent is None or extent == pixels.shape[:2]:
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=method))
    scaled = cv2.resize(pixels, None, fx=width / extent[1], fy=height / extent[0], interpolation=method)
    return np.asarray(scaled)[:height, :width]


def _filling(form: Form, dimensions: int) -> int | tuple[int, ...]:
    """The background as one value, or as blue, green, red."""
    red, green, blue = form.background or BLACK
    return (blue, green, red) if dimensions == 3 else grey_of(red, green, blue)


def grey_of(red: int, green: int, blue: int) -> int:
    """The brightness of a colour (ITU-R BT.601, as OpenCV weighs it)."""
    return round(0.299 * red + 0.587 * green + 0.114 * blue)


def _near(length: float) -> int:
    return max(1, round(length))
