"""The sidecar of an exported file: how files and rows become its inputs; compared with what the run makes of them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from ptb import ConfigError, NumericalError, TrainedModel
from ptb_export import reading
from ptb_export.check import SAMPLES

TOLERANCE = 1e-6  # of numbers that were written in decimals; pixels and tokens are the same
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
FILES = 64  # that are read of a folder


def sidecar_of(model: TrainedModel) -> str:
    """What the preprocessor has learnt, as JSON."""
    kind = type(model.preprocessor)
    values = {
        "preprocessor": f"{kind.__module__}:{kind.__qualname__}",
        "inputs": {
            name: {"shape": list(each.shape), "kind": each.kind} for name, each in model.spec.all_inputs().items()
        },
        "target": model.spec.target,
        "class_names": list(model.class_names),
        "state": _json(model.preprocessor.state_dict()),
    }
    return json.dumps(values, indent=2) + "\n"


def compare(model: TrainedModel, text: str, inputs: Any, sources: Iterable[Path]) -> tuple[int, str | None]:
    """Read files with the sidecar alone and with the run.

    Args:
        model: of the run.
        text: the sidecar.
        inputs: real samples, of which files are made too: pictures of several sizes, arrays, a table.
        sources: files and folders.

    Returns:
        How many inputs were compared, and why some or all were not.

    Raises:
        NumericalError: the sidecar makes other inputs of a file than the run.
    """
    sidecar = json.loads(text)
    if sidecar["class_names"] != list(model.class_names):
        raise NumericalError(
            f"the sidecar names the classes {sidecar['class_names']}, the run {list(model.class_names)}; nothing was "
            "written"
        )
    count, reason = 0, None
    try:
        kind = reading.kind_of(sidecar)
    except ValueError as error:
        return 0, str(error)
    with TemporaryDirectory() as folder:
        for path in (*_made(kind, sidecar, inputs, Path(folder)), *_files(sources)):
            try:
                count += _compared(model, sidecar, kind, path)
            except (ValueError, KeyError, OSError) as error:
                reason = f"{path.name}: {error}"
    return count, reason


def _compared(model: TrainedModel, sidecar: Any, kind: str, path: Path) -> int:
    samples = list(islice(model.preprocessor.read([path]), SAMPLES))
    good = [place for place, sample in enumerate(samples) if sample.inputs is not None]
    if kind == "TablePreprocessor":
        table = reading.table(sidecar, path, SAMPLES)
        found = reading.rows(sidecar, [table[place] for place in good])
    else:
        found = reading.read(sidecar, path, SAMPLES)[good] if good else np.zeros(0)
    for place, values in zip(good, found, strict=True):
        wanted = samples[place].inputs.numpy()
        if wanted.dtype != values.dtype or wanted.shape != values.shape or not _same(wanted, values):
            raise NumericalError(
                f"the sidecar makes another input of {samples[place].name} than the run; nothing was written"
            )
    return len(good)


def _same(wanted: np.ndarray, values: np.ndarray) -> bool:
    if wanted.dtype.kind != "f":
        return bool((wanted == values).all())
    return bool(np.allclose(values, wanted, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def _files(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            found = (path for path in sorted(source.rglob("*")) if path.suffix.lower() in PICTURES)
            yield from islice(found, FILES)
        else:
            yield source


def _made(kind: str, sidecar: Any, inputs: Any, folder: Path) -> Sequence[Path]:
    """Files of the samples themselves; none where they are of several tensors, or cannot be written."""
    if not isinstance(inputs, Tensor):
        return []
    values = inputs.numpy()
    if kind == "ArrayPreprocessor":
        values = values.view(sidecar["state"]["dtype"])
        np.save(
            folder / "samples.npy", np.moveaxis(values, -3, -1) if sidecar["state"].get("channels_last") else values
        )
        return [folder / "samples.npy"]
    if kind in ("PicturePreprocessor", "GreyPreprocessor"):
        return [path for number, each in enumerate(values[:4]) for path in _pictures(each, folder, number)]
    features = sidecar["state"]["features"]
    if not features or any(each["used_as"] != "number" for each in features):
        return []
    mean, std = (np.array([each[name][0] for each in features]) for name in ("mean", "std"))
    state = sidecar["state"]["reading"]
    if state.get("decimal", ".") != "." or state.get("separator", ",") != "," or not state.get("header", True):
        return []
    lines = [json.dumps([each["name"] for each in features], ensure_ascii=False)[1:-1].replace('", "', '","')]
    lines += [",".join(map(repr, row)) for row in (values * std + mean).tolist()]
    (folder / "samples.csv").write_text("\n".join(lines), encoding=state.get("encoding", "utf-8"))
    return [folder / "samples.csv"]


def _pictures(pixels: np.ndarray, folder: Path, number: int) -> Iterator[Path]:
    """A picture ``[C, H, W]`` at its own size, larger and smaller, and stretched, without a loss of pixels."""
    import cv2

    _, height, width = pixels.shape
    plain = np.ascontiguousarray(pixels.transpose(1, 2, 0)[..., ::-1])
    sizes = [
        (height, width),
        (2 * height + 1, 3 * width),
        (height // 2 + 1, width // 2 + 1),
        (3 * height, width // 2 + 1),
    ]
    for place, (rows, columns) in enumerate(sizes):
        path = folder / f"{number}-{place}.png"
        cv2.imwrite(str(path), cv2.resize(plain, (columns, rows), interpolation=cv2.INTER_NEAREST))
        yield path


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json(each) for each in value]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ConfigError(f"the state of the preprocessor holds a {type(value).__name__}, which JSON has not")
