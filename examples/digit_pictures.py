"""Writes 1,797 handwritten digits as pictures, a folder for each class: data to try things with, nothing to download.

::

    python examples/digit_pictures.py pictures
"""

import sys
from pathlib import Path

import cv2
from sklearn.datasets import load_digits

digits = load_digits()
folder = Path(sys.argv[1])
for number, (picture, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
    (folder / str(digit)).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / str(digit) / f"{number}.png"), (picture * 255 / 16).astype("uint8"))
print(f"{len(digits.images):,} pictures in {folder}")
