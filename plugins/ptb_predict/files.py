"""Predictions that are pictures or arrays: one file for each input."""

import re
from pathlib import Path

import numpy as np
from torch import Tensor

from ptb import DataSpec
from ptb.internals import Predicted


class Files:
    """Writes ``.npy`` files, or PNG where each pixel has a class, into a folder, and gives the names of the files.

    Args:
        folder: where they are written.
        spec: what is predicted.
    """

    def __init__(self, folder: Path, spec: DataSpec) -> None:
        self._folder = folder
        self._png = spec.target == "class" and len(spec.positions) == 2 and spec.target_size <= 256
        self._used: set[str] = set()

    def written(self, batch: Predicted) -> Predicted:
        """The batch with the names of its files as predictions."""
        if not batch.columns:
            return batch
        good = [name for place, name in enumerate(batch.names) if place not in batch.errors]
        names = [self._write(name, each) for name, each in zip(good, batch.columns["prediction"], strict=True)]
        return batch._replace(columns={"prediction": names})

    def _write(self, name: str, values: Tensor) -> str:
        stem = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "input"
        number, unique = 2, stem
        while unique in self._used:
            number, unique = number + 1, f"{stem}-{number}"
        self._used.add(unique)
        path = self._folder / f"{unique}{'.png' if self._png else '.npy'}"
        if self._png:
            import cv2

            path.write_bytes(cv2.imencode(".png", values.numpy().astype(np.uint8))[1].tobytes())
        else:
            np.save(path, values.numpy())
        return str(path)
