"""Which class was taken for which: counts, figures of each class, calibration. From the recorded predictions alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BINS = 10
MOST_LISTED = 50_000  # samples; of more, only the first of each cell are listed
MOST_IN_A_CELL = 500


@dataclass(frozen=True)
class Confusion:
    """The samples of a split by truth and prediction, each the number of a class; ``rows`` are the recorded ones."""

    classes: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    truths: Sequence[int]
    predictions: Sequence[int]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> "Confusion":
        """Of recorded predictions; classes that ``names`` lacks come after them, in the order in which they appear."""
        numbers = {name: place for place, name in enumerate(names)}
        for row in rows:
            for key in ("truth", "prediction"):
                numbers.setdefault(str(row[key]), len(numbers))
        truths, predictions = ([numbers[str(row[key])] for row in rows] for key in ("truth", "prediction"))
        return cls([*numbers], rows, truths, predictions)

    @property
    def cells(self) -> Counter[tuple[int, int]]:
        """How many samples each pair of truth and prediction has; pairs without samples are left out."""
        return Counter(zip(self.truths, self.predictions, strict=True))

    def matrix(self) -> list[list[int]]:
        """``counts[truth][prediction]``."""
        counts = [[0] * len(self.classes) for _ in self.classes]
        for (truth, prediction), count in self.cells.items():
            counts[truth][prediction] = count
        return counts

    def confused(self, most: int) -> list[tuple[int, int, int]]:
        """The pairs of different classes with the most samples: truth, prediction, samples."""
        pairs = [(truth, prediction, count) for (truth, prediction), count in self.cells.items() if truth != prediction]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))[:most]

    def by_class(self) -> list[tuple[int, float | None, float | None, float | None]]:
        """Of each class the samples, precision, recall and F1; None where it would be a division by zero."""
        pairs = zip(self.truths, self.predictions, strict=True)
        hits = Counter(truth for truth, prediction in pairs if truth == prediction)
        support, claimed = Counter(self.truths), Counter(self.predictions)
        return [
            (
                support[each],
                _ratio(hits[each], claimed[each]),
                _ratio(hits[each], support[each]),
                _ratio(2 * hits[each], claimed[each] + support[each]),
            )
            for each in range(len(self.classes))
        ]

    def accuracy(self) -> float | None:
        """The share of samples that are right."""
        return _ratio(sum(map(int.__eq__, self.truths, self.predictions)), len(self.rows))


@dataclass(frozen=True)
class Bin:
    """Predictions whose probability is at least ``low`` and below ``high``, or 1 in the last one."""

    low: float
    high: float
    samples: int
    probability: float | None  # their mean
    accuracy: float | None


def calibration(confusion: Confusion) -> tuple[list[Bin], float]:
    """How often predictions of a probability are right, and the expected calibration error (ECE).

    ECE is the mean distance of accuracy and probability over bins of equal width, weighted by their samples: Guo et
    al., On Calibration of Modern Neural Networks, 2017, https://arxiv.org/abs/1706.04599, equation 3.
    """
    found: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for row, truth, prediction in zip(confusion.rows, confusion.truths, confusion.predictions, strict=True):
        probability = float(row["probability"])
        if 0 <= probability <= 1:
            found[min(BINS - 1, int(probability * BINS))].append((probability, truth == prediction))
    bins = []
    for place, each in enumerate(found):
        mean, right = (_ratio(sum(column), len(each)) for column in zip(*each, strict=True)) if each else (None, None)
        bins.append(Bin(place / BINS, (place + 1) / BINS, len(each), mean, right))
    total = sum(each.samples for each in bins) or 1
    distances = (each.samples * abs(each.accuracy - each.probability) for each in bins if each.samples)  # type: ignore[operator]
    return bins, sum(distances) / total


def sample_columns(confusion: Confusion, shown: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """What the page looks up the samples of a cell in: columns with a value a sample, and what is ``shown`` of some."""
    seen: Counter[tuple[int, int]] = Counter()
    kept = []
    for place, pair in enumerate(zip(confusion.truths, confusion.predictions, strict=True)):
        seen[pair] += 1
        if len(confusion.rows) <= MOST_LISTED or seen[pair] <= MOST_IN_A_CELL:
            kept.append(place)
    rows = [confusion.rows[place] for place in kept]
    numbers = [row.get("sample", place) for row, place in zip(rows, kept, strict=True)]
    return {
        "classes": [*confusion.classes],
        "number": numbers,
        "input": [str(row.get("input", "")) for row in rows],
        "truth": [confusion.truths[place] for place in kept],
        "prediction": [confusion.predictions[place] for place in kept],
        "probability": [_rounded(row.get("probability")) for row in rows],
        "loss": [_rounded(row.get("loss")) for row in rows],
        "shown": {str(key): dict(value) for key, value in shown.items()},
        "counts": [[*pair, count] for pair, count in sorted(confusion.cells.items())],
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _rounded(value: Any) -> float | str | None:
    """To six digits, which is all that a page shows."""
    return float(f"{value:.6g}") if isinstance(value, float | int) else value
