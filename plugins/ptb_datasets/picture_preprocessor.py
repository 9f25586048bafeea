"""Turns pictures that a model has not seen into samples as training saw them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptb import DataError, DataSpec, Preprocessor, Sample
from ptb_datasets.folder_scan import Refused, Walk, files_in
from ptb_datasets.images import Normalize
from ptb_datasets.picture_cache import in_threads
from ptb_datasets.picture_file import BadPicture, pixels_of_array, planes, read_picture
from ptb_datasets.picture_form import Form

SOURCES = "a file, a folder, or a NumPy array of uint8 [H, W], [H, W, C] or [N, H, W, C]"


class PicturePreprocessor(Preprocessor):
    """Reads files, folders and arrays as the data sets of pictures read theirs."""

    def __init__(self) -> None:
        self.form: dict[str, Any] = {}
        self.mean: Any = 0.5
        self.std: Any = 0.5

    @classmethod
    def fit(cls, spec: DataSpec, form: Form, normalize: Normalize) -> "PicturePreprocessor":
        """One that makes pictures of this form and normalises them so."""
        made = cls()
        made.spec = spec
        made.form = {name: list(part) if isinstance(part, tuple) else part for name, part in form._asdict().items()}
        made.mean, made.std = (list(n) if isinstance(n, tuple) else n for n in (normalize.mean, normalize.std))
        return made

    @property
    def transform(self) -> Normalize:  # type: ignore[override]  # built from what is saved
        """``(inputs / 255 - mean) / std``."""
        mean, std = (tuple(n) if isinstance(n, list) else n for n in (self.mean, self.std))
        return Normalize(mean, std)

    def read(self, sources: Iterable[Any]) -> Iterator[Sample]:
        """Yields uint8 pictures ``[C, H, W]``, read by a thread for each core.

        A folder gives the files in it and in its folders; where one of these has the name of a class, that is the
        target. What cannot be used gives a sample with the reason.

        Args:
            sources: paths of files and folders, and NumPy arrays ``[H, W]``, ``[H, W, C]`` or ``[N, H, W, C]`` with the
                channels red, green, blue and perhaps opacity.
        """
        form = self._form()
        for number, source in enumerate(sources):
            if isinstance(source, np.ndarray):
                rows = source if source.ndim == 4 else source[None]
                for row, pixels in enumerate(rows):
                    yield _sample(f"[{row if source.ndim == 4 else number}]", lambda p=pixels: _of_array(p, form))
            elif isinstance(source, str | os.PathLike):
                yield from self._read_path(Path(source), form)
            else:
                yield Sample(f"[{number}]", error=f"is of type {type(source).__name__}; valid is {SOURCES}")

    def _read_path(self, path: Path, form: Form) -> Iterator[Sample]:
        if not path.is_dir():
            reason = None if path.exists() else "is not there"
            sample = (
                Sample(str(path), error=reason) if reason else _sample(str(path), lambda: _of_file(str(path), form))
            )
            target = None if sample.error else self._target(f"{path.absolute().parent.name}/{path.name}")
            yield sample._replace(targets=target)
            return
        refused: list[Refused] = []
        top = path.resolve()
        try:
            files = files_in(Walk(top, recursive=True, follow_links=True), str(top), refused)
        except DataError as error:
            yield Sample(str(path), error=str(error))
            return
        names = [os.path.relpath(file, top).replace(os.sep, "/") for file in files]
        pairs = list(zip(names, files, strict=True))
        for sample in in_threads(lambda pair: _sample(pair[0], lambda: _of_file(pair[1], form)), pairs):
            target = None if sample.error else self._target(f"{top.name}/{sample.name}")
            yield sample._replace(name=f"{path}/{sample.name}", targets=target)
        yield from (Sample(f"{path}/{os.path.relpath(item.path, top)}", error=item.reason) for item in refused)

    def _target(self, name: str) -> Tensor | None:
        """The class whose folder a file is in; the outermost but the folder itself counts first."""
        classes = () if self.spec.positions else self.spec.class_names
        itself, *folders = name.split("/")[:-1]
        found = [folder for folder in (*folders, itself) if folder in classes]
        return torch.tensor(classes.index(found[0])) if found else None

    def _form(self) -> Form:
        parts: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in self.form.items()}
        return Form(**parts)


def _sample(name: str, read: Any) -> Sample:
    try:
        return Sample(name, torch.from_numpy(read()))
    except BadPicture as error:
        return Sample(name, error=str(error))


def _of_file(path: str, form: Form) -> np.ndarray:
    return read_picture(path, form)


def _of_array(pixels: np.ndarray, form: Form) -> np.ndarray:
    return planes(pixels_of_array(pixels, form), form)
