"""What is said of the pictures of a data set to somebody who wants to see it before training."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptb_datasets.folder_scan import Refused
from ptb_datasets.images import Normalize
from ptb_datasets.picture_cache import in_threads
from ptb_datasets.picture_file import BadPicture, decode, read_bytes
from ptb_datasets.picture_form import Form
from ptb_datasets.picture_header import picture_size
from ptb_datasets.picture_traits import turned
from ptb_datasets.typed import typed

SHOWN = 10
CHANNELS = {1: "grey", 2: "grey and opacity", 3: "colour", 4: "colour and opacity"}


@dataclass(frozen=True)
class Describe:
    """Reads all files again when it is called, and says what they are and what is made of them.

    Args:
        top: the folder that they are shown relative to.
        paths: the files that are used.
        labels: the number of the class of each, int64 ``[N]``; None where files have no class.
        class_names: of the classes.
        refused: the files that are left out.
        form: what the pictures are made into.
        normalize: with the numbers.
    """

    top: Path
    paths: Sequence[str]
    labels: np.ndarray | None
    class_names: Sequence[str]
    refused: Sequence[Refused]
    form: Form
    normalize: Normalize

    def __call__(self) -> dict[str, Any]:
        """``pictures`` with figures of the files, ``transforms`` and ``warnings`` with sentences."""
        seen = [each for each in in_threads(self._look, self.paths) if each is not None]
        areas = sorted((each.size for each in seen), key=lambda size: size[0] * size[1])
        figures: dict[str, Any] = {"files": len(self.paths)}
        if areas:
            sizes = {"smallest": areas[0], "median": areas[len(areas) // 2], "largest": areas[-1]}
            figures["sizes"] = {name: list(size) for name, size in sizes.items()}
        figures["channels"] = dict(Counter(each.channels for each in seen).most_common())
        figures["bits"] = {str(bits): number for bits, number in Counter(each.bits for each in seen).most_common()}
        left = [{"file": self._relative(item.path), "why": item.reason} for item in self.refused]
        figures["left_out"] = left
        duplicates = self._duplicates([each.digest for each in seen]) if len(seen) == len(self.paths) else []
        figures["same_bytes_in_two_classes"] = duplicates
        return {
            "pictures": figures,
            "transforms": [*_said(figures), *self._transforms(areas)],
            "warnings": self._warnings(left, duplicates),
        }

    def _look(self, path: str) -> "_Look | None":
        try:
            data = read_bytes(path, self.form.max_pixels)
            stored = turned(decode(data, None, self.form.max_pixels), data)
        except BadPicture:  # it was good at the start
            return None
        channels = CHANNELS.get(stored.shape[2] if stored.ndim == 3 else 1, "other")
        size = picture_size(data) or stored.shape[:2][::-1]
        height, width = stored.shape[:2] if sorted(stored.shape[:2]) == sorted(size) else size[::-1]
        return _Look((int(height), int(width)), channels, 8 * stored.dtype.itemsize, hashlib.sha256(data).hexdigest())

    def _duplicates(self, digests: Sequence[str]) -> list[list[str]]:
        """Groups of files of the same bytes that lie in several classes."""
        if self.labels is None:
            return []
        groups: dict[str, list[int]] = defaultdict(list)
        for row, digest in enumerate(digests):
            groups[digest].append(row)
        return [
            [self._relative(Path(self.paths[row])) for row in rows]
            for rows in groups.values()
            if len({int(self.labels[row]) for row in rows}) > 1
        ]

    def _transforms(self, areas: Sequence[tuple[int, int]]) -> list[str]:
        form, sentences = self.form, []
        if form.value_range is not None:
            sentences.append("values from {:g} to {:g} become 0 to 255".format(*form.value_range))
        if form.background is not None:
            sentences.append(f"transparent pixels are composed on the colour {list(form.background)}")
        how = {"stretch": "stretched", "crop": "scaled and cropped", "letterbox": "put into a letterbox"}[form.fit]
        if any(size != form.sides for size in areas):
            method = "areas or linear" if form.interpolation == "auto" else form.interpolation
            sentences.append(f"{how} to {form.height} x {form.width} pixels (height x width; {method})")
        sentences.append(f"made {'red, green and blue' if form.colour else 'grey'}")
        sentences.append(
            f"normalised as (value / 255 - mean) / std with mean {_rounded(self.normalize.mean)} and std "
            f"{_rounded(self.normalize.std)}"
        )
        return sentences

    def _warnings(self, left: Sequence[dict[str, str]], duplicates: Sequence[Sequence[str]]) -> list[str]:
        found = [f"{len(left)} files are left out; the first: {left[0]['file']}: {left[0]['why']}"] if left else []
        if duplicates:
            found.append(
                f"{len(duplicates)} pictures are in several classes with the same bytes, so one of these is wrong; the "
                f"first: {', '.join(duplicates[0][:SHOWN])}. Remove the wrong files"
            )
        empty = [name for number, name in enumerate(self.class_names) if not self._count(number)]
        if empty and self.labels is not None:
            rest = [name for name in self.class_names if name not in empty]
            found.append(f"the class {empty[0]!r} has no pictures; {typed('classes', rest)} leaves it out")
        return found

    def _count(self, number: int) -> int:
        return 0 if self.labels is None else int((self.labels == number).sum())

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.top)) if path.is_relative_to(self.top) else str(path)


def _said(figures: dict[str, Any]) -> list[str]:
    """The figures of the files in one sentence; nothing where there are none."""
    if "sizes" not in figures:
        return []
    sizes = [" x ".join(map(str, figures["sizes"][name])) for name in ("smallest", "median", "largest")]
    extent = f"{sizes[0]} pixels" if len(set(sizes)) == 1 else f"{sizes[0]} to {sizes[2]} pixels, the median {sizes[1]}"
    channels = ", ".join(f"{number:,} {name}" for name, number in figures["channels"].items())
    bits = ", ".join(figures["bits"])
    return [f"read from {figures['files']:,} files of {extent} (height x width): {channels}; {bits} bits a value"]


@dataclass(frozen=True)
class _Look:
    size: tuple[int, int]  # height and width
    channels: str
    bits: int
    digest: str


def _rounded(numbers: float | Sequence[float]) -> float | list[float]:
    return round(numbers, 4) if isinstance(numbers, float | int) else [round(number, 4) for number in numbers]
