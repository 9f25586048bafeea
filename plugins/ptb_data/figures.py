"""Running figures of the samples of one split: of inputs as the model sees them, and of targets."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ptb import DataSpec, InputSpec, Preprocessor

MOST_COLUMNS = 32  # of a vector that are described one by one
FAR = 20.0  # standard deviations from the mean
SHOWN = 5


class Figures:
    """Means, standard deviations, extremes and counts, one batch after another."""

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self._targets = Preprocessor()
        self._targets.spec = spec
        self._inputs = {name: _Running(each) for name, each in spec.all_inputs().items()}
        self._values = _Running(InputSpec((spec.target_size, *spec.positions), "vector"))
        self.counts: Tensor | None = None
        self.hidden = 0

    def add(self, inputs: Any, targets: Any) -> None:
        """Take in a batch, its inputs transformed."""
        for name, each in (inputs if isinstance(inputs, dict) else {"inputs": inputs}).items():
            self._inputs[name].add(each)
        if self._spec.target == "real":
            values = self._targets.decode_targets(targets)
            self._values.add(values[:, None] if values.ndim == 1 else values)
        elif self._spec.target in ("class", "binary", "multilabel"):
            self._count(targets)

    def input_figures(self) -> list[dict[str, Any]]:
        """Of each input: mean, standard deviation, smallest and largest value; of short vectors for each column too."""
        return [{"name": name, **each.figures()} for name, each in self._inputs.items()]

    def target_figures(self) -> list[dict[str, float]]:
        """Of each real target in its own units."""
        return self._values.columns()

    def warnings(self) -> Iterator[str]:
        """What looks wrong with columns of vectors that nobody has described."""
        for name, each in self._inputs.items():
            where = "" if name == "inputs" else f" of '{name}'"
            rows = list(enumerate(each.columns()))
            if constant := [str(place) for place, row in rows if row["min"] == row["max"]]:
                yield f"{_some('column', constant)}{where} {'is' if len(constant) == 1 else 'are'} the same in all rows"
            far = [
                str(p) for p, row in rows if max(row["max"] - row["mean"], row["mean"] - row["min"]) > FAR * row["std"]
            ]
            if far := [place for place in far if place not in constant]:
                has = "has" if len(far) == 1 else "have"
                yield f"{_some('column', far)}{where} {has} values {FAR:g} standard deviations away"

    def _count(self, targets: Tensor) -> None:
        size = 2 if self._spec.target == "binary" else self._spec.target_size
        if self._spec.target == "multilabel":
            found = targets.sum(0).long()
        else:
            labels = targets.long().flatten()
            self.hidden += int((labels < 0).sum())
            found = torch.bincount(labels[labels >= 0], minlength=size)
        self.counts = found if self.counts is None else self.counts + found


class _Running:
    """Sums over samples: of a vector for each column, of a picture for each channel, else of all values."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._sums: list[Tensor] = []
        self._count = 0

    def add(self, values: Tensor) -> None:
        values = values.detach().double()
        if self._spec.kind == "vector":
            flat = values.flatten(2).movedim(1, -1).flatten(0, -2) if values.ndim > 2 else values
        elif self._spec.kind == "image" and values.ndim >= 4:
            flat = values.movedim(-3, -1).flatten(0, -2)
        else:
            flat = values.reshape(-1, 1)
        self._count += len(flat)
        found = [flat.sum(0), flat.square().sum(0), flat.amin(0), flat.amax(0)]
        if not self._sums:
            self._sums = found
            return
        total, squares, low, high = self._sums
        self._sums = [total + found[0], squares + found[1], low.minimum(found[2]), high.maximum(found[3])]

    def columns(self) -> list[dict[str, float]]:
        """Of each column or channel."""
        if not self._sums or self._spec.kind == "tokens":
            return []
        total, squares, low, high = self._sums
        mean = total / self._count
        std = (squares / self._count - mean.square()).clamp(min=0).sqrt()
        rows = zip(mean.tolist(), std.tolist(), low.tolist(), high.tolist(), strict=True)
        return [dict(zip(("mean", "std", "min", "max"), row, strict=True)) for row in rows]

    def figures(self) -> dict[str, Any]:
        """Of all values, and of each column where there are few."""
        if not self._sums:
            return {}
        low, high = float(self._sums[2].min()), float(self._sums[3].max())
        if self._spec.kind == "tokens":
            return {"min": low, "max": high}
        total = self._count * self._sums[0].numel()
        mean = float(self._sums[0].sum()) / total
        std = max(float(self._sums[1].sum()) / total - mean**2, 0.0) ** 0.5
        columns = self.columns()
        shown = columns if 1 < len(columns) <= MOST_COLUMNS else []
        return {"mean": mean, "std": std, "min": low, "max": high, "columns": shown}


def _some(word: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{word}{'s' * (len(names) > 1)} {', '.join(names[:SHOWN])}{more}"
