"""Reads files and table rows as the run did, from the sidecar of an exported model alone: NumPy and OpenCV, no ptb.

This file may be copied beside an exported model: ``read(sidecar, path)`` gives what its graph takes.
"""

import csv
import gzip
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

WORD = re.compile(r"\w+(?:'\w+)?")
UNKNOWN, SPECIAL = 1, 2  # the token of an unknown word, and the first of the known ones
DAY = 86_400


def read(sidecar: Mapping[str, Any], path: str | Path, most: int | None = None) -> np.ndarray:
    """Inputs ``[N, ...]`` of a file, as the exported graph takes them.

    Args:
        sidecar: the content of ``NAME.preprocessor.json``.
        path: a picture, an array (``.npy``), a table (CSV), or an IDX file of pictures.
        most: read so many samples at most.

    Raises:
        ValueError: the file cannot be read so; the message has the reason.
    """
    path = Path(path)
    kind, shape = kind_of(sidecar), sidecar["inputs"]["inputs"]["shape"]
    if kind == "TablePreprocessor":
        return rows(sidecar, table(sidecar, path, most))
    if path.suffix.lower() == ".npy":
        values = np.load(path, mmap_mode="r", allow_pickle=False)[:most]
        return array(sidecar, values) if kind == "ArrayPreprocessor" else values.reshape(-1, *shape)
    if kind == "GreyPreprocessor" and ("idx" in path.name or path.suffix in ("", ".gz")):
        return idx(sidecar, path, most)
    if kind in ("PicturePreprocessor", "GreyPreprocessor"):
        return picture(sidecar, path)[None]
    raise ValueError(f"{path}: {sidecar['preprocessor']} reads no such file")


def kind_of(sidecar: Mapping[str, Any]) -> str:
    """The class that reads files in the run; ValueError where this file does not know how it reads them."""
    module, _, name = sidecar["preprocessor"].partition(":")
    if not module.startswith("ptb_datasets."):
        raise ValueError(f"how {sidecar['preprocessor']} reads files is known to its plugin only")
    return str(name)


def picture(sidecar: Mapping[str, Any], path: Path) -> np.ndarray:
    """A picture as uint8 ``[3, H, W]`` (red, green, blue) or ``[1, H, W]``."""
    import cv2

    channels, height, width = sidecar["inputs"]["inputs"]["shape"]
    form = sidecar["state"].get("form", {})
    if form.get("background") or form.get("value_range") or form.get("decode", "full") != "full":
        raise ValueError("background, value_range and decode are not read from the sidecar: make plain pictures first")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    pixels: Any = None
    if len(data):
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise ValueError(f"{path} cannot be decoded")
    fit, method = form.get("fit", "stretch"), form.get("interpolation", "auto")
    scales = height / pixels.shape[0], width / pixels.shape[1]
    if fit == "letterbox":
        inner = min(height, _near(min(scales) * pixels.shape[0])), min(width, _near(min(scales) * pixels.shape[1]))
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        whole = np.zeros((height, width, *pixels.shape[2:]), np.uint8)
        whole[top : top + inner[0], left : left + inner[1]] = resized(pixels, *inner, method)
    else:
        if fit == "crop":
            rows_, columns = (_near(side / max(scales)) for side in (height, width))
            rows_, columns = min(pixels.shape[0], rows_), min(pixels.shape[1], columns)
            top, left = (pixels.shape[0] - rows_) // 2, (pixels.shape[1] - columns) // 2
            pixels = pixels[top : top + rows_, left : left + columns]
        whole = resized(pixels, height, width, method)
    return np.ascontiguousarray(whole[..., ::-1].transpose(2, 0, 1) if channels == 3 else whole[None])


def idx(sidecar: Mapping[str, Any], path: Path, most: int | None) -> np.ndarray:
    """Pictures of an IDX file as MNIST has them, plain or gzipped: uint8 ``[N, 1, H, W]``."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    pixels = np.frombuffer(data, np.uint8, offset=16).reshape(np.frombuffer(data, ">i4", 3, 4))[:most]
    _, height, width = sidecar["inputs"]["inputs"]["shape"]
    pixels = pixels.transpose(0, 2, 1) if sidecar["state"]["transposed"] else pixels
    return np.stack([resized(np.ascontiguousarray(each), height, width, "auto")[None] for each in pixels])


def resized(pixels: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """A picture ``[h, w, ...]`` at another size; ``auto`` is ``area`` where it shrinks, else ``linear``."""
    import cv2

    if pixels.shape[:2] == (height, width):
        return pixels
    if interpolation == "auto":
        shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
        interpolation = "area" if shrinks else "linear"
    names = {"nearest": "INTER_NEAREST_EXACT", "lanczos": "INTER_LANCZOS4"}
    method = getattr(cv2, names.get(interpolation, f"INTER_{interpolation.upper()}"))
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=method))


def array(sidecar: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    """Samples ``[N, ...]`` of the type of the training samples; NaN is filled as the run fills it."""
    state, shape = sidecar["state"], sidecar["inputs"]["inputs"]["shape"]
    if state.get("channels_last"):
        values = np.moveaxis(values, -1, -3)
    typed = values.reshape(-1, *shape).astype(state["dtype"])
    if state.get("fill") is not None:
        typed = np.where(np.isnan(typed), np.array(state["fill"], typed.dtype), typed)
    # Unsigned types of more than a byte are passed to the graph with a sign, bit for bit.
    return typed.view(f"i{typed.itemsize}") if typed.dtype.kind == "u" and typed.itemsize > 1 else typed


def table(sidecar: Mapping[str, Any], path: Path, most: int | None = None) -> list[dict[str, str]]:
    """The rows of a CSV file, or the first of them, the values by column."""
    reading = sidecar["state"]["reading"]
    if reading.get("comment"):
        raise ValueError("files with comments are not read from the sidecar: remove these lines first")
    encoding = reading.get("encoding", "utf-8")
    with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as stream:
        try:
            reader = csv.reader(stream, delimiter=reading.get("separator", ","), strict=True)
            lines = list(islice(filter(None, reader), None if most is None else most + 1))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is not the text of a CSV file: {error}") from error
    if lines and not reading.get("header", True):
        lines.insert(0, [str(place) for place in range(1, len(lines[0]) + 1)])
    header = [name.strip() for name in lines[0]] if lines else []
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def rows(sidecar: Mapping[str, Any], found: Iterable[Mapping[str, str]]) -> np.ndarray:
    """Float32 ``[N, columns]``, or int64 tokens ``[N, length]``, of rows with a text for each column."""
    state = sidecar["state"]
    if state.get("text") is not None:
        numbers = {word: number for number, word in enumerate(state["words"], SPECIAL)}
        return np.array([_tokens(row[state["text"]], numbers, state["length"]) for row in found], np.int64)
    parts = [[_feature(each, row, state["reading"]) for each in state["features"]] for row in found]
    return np.array([np.concatenate(row) for row in parts], np.float32)


def _tokens(text: str, numbers: Mapping[str, int], length: int) -> list[int]:
    tokens = [numbers.get(word, UNKNOWN) for word in WORD.findall(text.lower())[:length]]
    return tokens + [0] * (length - len(tokens))


def _feature(feature: Mapping[str, Any], row: Mapping[str, str], reading: Mapping[str, Any]) -> np.ndarray:
    """The numbers that one value becomes."""
    text = row[feature["name"]].strip()
    missing = text in reading.get("missing_values", ("",))
    if missing and reading.get("missing") != "mean":
        raise ValueError(f"a row has no value for {feature['name']!r}")
    used_as = feature["used_as"]
    if used_as == "category":
        return np.array([not missing and text == each for each in feature["categories"]], np.float32)
    if missing:
        values = feature["fill"]
    elif used_as == "number":
        values = [_number(text, reading)]
    elif used_as == "boolean":
        values = [feature["words"].index(text.casefold())]
    else:
        values = _date(text, feature)
    return np.asarray((np.array(values, np.float64) - feature["mean"]) / np.array(feature["std"]), np.float32)


def _number(text: str, reading: Mapping[str, Any]) -> float:
    for unit in reading.get("units", ()):
        bare = text.lstrip("+-")
        if bare.startswith(unit):
            text = text[: len(text) - len(bare)] + bare.removeprefix(unit).lstrip()
        text = text.removesuffix(unit).rstrip()
    if reading.get("thousands"):
        text = text.replace(reading["thousands"], "")
    return float(text.replace(reading.get("decimal", "."), "."))


def _date(text: str, feature: Mapping[str, Any]) -> list[float]:
    """Days since 1970, or year, month, day, day of the week and perhaps hour."""
    moment = datetime.strptime(text, feature["form"])
    moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    if not feature["parts"]:
        return [moment.timestamp() / DAY]
    parts = [moment.year, moment.month, moment.day, moment.weekday(), moment.hour]
    return [float(part) for part in parts[: feature["parts"]]]


def _near(length: float) -> int:
    return max(1, round(length))
