"""Decodes what OpenCV does not with Pillow, where that is installed: GIF, AVIF and JPEG 2000."""

import io

import numpy as np

from ptb_datasets.picture_form import BadPicture
from ptb_datasets.picture_header import kind_of

INSTALL = "pip install 'pytorch-basics[pillow]'"


def decode_with_pillow(data: bytes, colour: bool | None, max_pixels: int) -> np.ndarray | None:
    """The pixels as ``picture_file.decode`` gives them, of the first frame; None for a kind that OpenCV decodes.

    Raises:
        BadPicture: it cannot be decoded, or Pillow is not installed.
    """
    kind = kind_of(data)
    if kind is None:
        return None
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise BadPicture(f"this OpenCV cannot decode it ({kind}); Pillow may: {INSTALL}") from None
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            if image.width * image.height > max_pixels:
                raise BadPicture(f"too many pixels: {image.width:,} x {image.height:,}")
            if colour is False:
                return np.array(ImageOps.exif_transpose(image).convert("L"))
            if colour is None and (image.has_transparency_data or image.mode in ("RGBA", "LA")):
                red, green, blue, alpha = image.convert("RGBA").split()
                return np.array(Image.merge("RGBA", (blue, green, red, alpha)))
            whole = ImageOps.exif_transpose(image) if colour else image
            return np.ascontiguousarray(np.array(whole.convert("RGB"))[..., ::-1])
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadPicture("cannot be decoded") from error
