"""What a model says of the samples of a split, and what people are shown of them: two files of the run directory."""

import base64
import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count, islice, zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from ptb.data.batch import Batch
from ptb.data.decoding import plain, target_names
from ptb.data.loader import BatchLoader
from ptb.data.preprocessor import Preprocessor
from ptb.data.spec import DataBundle, DataSpec
from ptb.errors import ConfigError, DataError
from ptb.runs.compose import ComposedRun
from ptb.storage import atomic
from ptb.storage.checkpoint import load_checkpoint, resolve_checkpoint
from ptb.storage.run_directory import RunDirectory, finite
from ptb.training.evaluation import borrowed
from ptb.training.objective import Objective
from ptb.training.state import preserve_state

MOST_CLASSES = 20  # of which the probabilities are recorded one by one
WORST = 25  # samples of the largest losses are shown,
EACH = 9  # and of each pair of truth and prediction so many,
MOST_BYTES = 300_000  # in all
THUMBNAIL = 64  # pixels of the longer side of a picture
MOST_TEXT = 500


class RunView:
    """A run as observers see it.

    Attributes:
        path: the run directory.
    """

    def __init__(self, run: RunDirectory, composed: ComposedRun) -> None:
        self.path = run.path
        self._run, self._composed = run, composed

    def record_predictions(self, split: str = "test") -> None:
        """Write ``predictions-SPLIT.jsonl`` and ``samples-SPLIT.jsonl`` with the best weights, else the last ones."""
        trainer = self._composed.trainer
        loaders = trainer.eval_loaders
        if split not in loaders:
            raise ConfigError(f"the data set has no {split} split; it has: {', '.join(loaders)}")
        saved = load_checkpoint(resolve_checkpoint(self._run.checkpoints, None))
        with trainer.alone(), borrowed(trainer.objective, saved.decode(trainer.device)):
            write_predictions(self._run, self._composed, loaders[split], split, saved.step)


def prediction_rows(composed: ComposedRun, loader: BatchLoader, split: str) -> Iterator[dict[str, Any]]:
    """A dict for each sample of a split: input, truth, what is predicted, and its loss where there is one."""
    bundle, objective = composed.bundle, composed.trainer.objective
    preprocessor = _preprocessor(bundle)
    objective.calls.now = "dataset"
    names = iter(bundle.names(split)) if bundle.names else (f"{split}:{number}" for number in count(0))
    with preserve_state(objective.model, objective.loss), torch.inference_mode(), _unreduced(objective.loss):
        objective.model.eval()
        _, size = objective.turn
        batches = loader.epoch(turn=objective.turn)
        while group := list(islice(batches, size)):  # each process computes one of them
            rows = [row for batch in group if batch.size for row in _rows_of(preprocessor, objective, batch)]
            if objective.processes is not None:
                rows = [*chain(*objective.processes.gather(rows))]
            objective.calls.now = "dataset"
            for row, name in zip_longest(rows, islice(names, len(rows))):
                if name is None:
                    raise DataError(f"the data set gives fewer names of its {split} split than it has samples")
                yield {"input": name, **row}


def _rows_of(preprocessor: Preprocessor, objective: Objective, batch: Batch) -> Iterator[dict[str, Any]]:
    outputs = objective.forward(batch.inputs)
    scores = objective.predictions(outputs)
    objective.calls.now = "dataset"
    columns = {"truth": preprocessor.decode_targets(batch.targets)}
    columns |= preprocessor.decode(scores)
    loss = objective.loss_values(outputs, batch.targets)
    if loss.ndim:
        columns["loss"] = objective.by_sample(loss, batch.targets).cpu()
    for row in zip(*map(plain, columns.values()), strict=True):
        yield dict(zip(columns, row, strict=True))


def write_predictions(run: RunDirectory, composed: ComposedRun, loader: BatchLoader, split: str, step: int) -> None:
    """Write both files of a split, with the weights that the model has now, those of ``step``."""
    bundle, processes = composed.bundle, composed.trainer.objective.processes
    left_out = _left_out(bundle.spec)
    shown, lines = {}, []
    losses: list[tuple[float, int]] = []
    pairs: dict[tuple[str, str], list[int]] = defaultdict(list)  # samples by truth and prediction
    for number, row in enumerate(prediction_rows(composed, loader, split)):
        kept = {name: value for name, value in row.items() if name not in left_out}
        lines.append(json.dumps({"step": step, "sample": number, **finite(kept)}, ensure_ascii=False) + "\n")
        if "loss" in row:
            losses.append((-row["loss"], number))
        is_class = isinstance(row["truth"], str) and isinstance(row.get("prediction"), str)
        pairs[(row["truth"], row["prediction"]) if is_class else ("", "")].append(number)
    samples: Any = getattr(bundle, split, None)
    size = 0
    for number in _chosen(losses, pairs) if hasattr(samples, "__getitem__") else ():
        line = json.dumps({"sample": number, **_preview(_preprocessor(bundle).show(samples[number][0]))})
        size += len(line)
        if size > MOST_BYTES:
            break
        shown[number] = line + "\n"
    if processes is not None and processes.rank:
        return
    atomic.write_atomically(run.samples(split), "".join(shown[number] for number in sorted(shown)))
    atomic.write_atomically(run.predictions(split), "".join(lines))


def _chosen(losses: list[tuple[float, int]], pairs: dict[tuple[str, str], list[int]]) -> list[int]:
    """The samples that are shown: the worst, then the first of each pair of truth and prediction, mistakes first."""
    worst = [number for _, number in sorted(losses)[:WORST]]
    mistakes_first = sorted(pairs, key=lambda pair: pair[0] == pair[1])
    return [*dict.fromkeys([*worst, *(number for pair in mistakes_first for number in pairs[pair][:EACH])])]


def _left_out(spec: DataSpec) -> set[str]:
    """Columns that would make the file many times larger than its samples."""
    if spec.positions or spec.target == "none":
        return {"truth", "prediction"}
    names = target_names(spec)
    return {f"probability:{name}" for name in names} if len(names) > MOST_CLASSES else set()


def _preview(shown: Any) -> dict[str, Any]:
    if isinstance(shown, Tensor):
        return {"picture": base64.b64encode(png(_thumbnail(shown))).decode()}
    return {"text": shown[:MOST_TEXT]} if isinstance(shown, str) else {"row": finite(dict(shown))}


def _thumbnail(picture: Tensor) -> Tensor:
    height, width = picture.shape[1:]
    scale = THUMBNAIL / max(height, width)
    if scale >= 1:
        return picture
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    return nn.functional.interpolate(picture[None].float(), size, mode="area")[0].round().byte()


def png(picture: Tensor) -> bytes:
    """A uint8 picture ``[1 or 3, H, W]`` as a PNG file (ISO/IEC 15948); no library of pictures is imported for it."""
    channels, height, width = picture.shape
    lines = picture.permute(1, 2, 0).reshape(height, -1).contiguous().numpy()
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines), 9)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _preprocessor(bundle: DataBundle) -> Preprocessor:
    preprocessor = bundle.preprocessor or Preprocessor()
    preprocessor.spec = bundle.spec
    return preprocessor


@contextmanager
def _unreduced(loss: Any) -> Iterator[None]:
    """Inside it, a loss that can give one value a sample does."""
    before = getattr(loss, "reduction", None)
    if before is not None:
        loss.reduction = "none"
    try:
        yield
    finally:
        if before is not None:
            loss.reduction = before
