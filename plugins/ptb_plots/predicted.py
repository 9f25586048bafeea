"""What several plots read of the predictions of a run."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptb import ConfigError, RunRecord
from ptb_plots.runs import one

PROBABILITY = "probability:"
Numbers = NDArray[np.float64]


class Classified(NamedTuple):
    """Classes of a split by their numbers.

    Attributes:
        names: of all classes.
        truth: int64 ``[N]``.
        predicted: int64 ``[N]``.
    """

    names: list[str]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]

    def counts(self) -> NDArray[np.int64]:
        """How often class ``i`` was taken for class ``j``, ``[C, C]``."""
        size = len(self.names)
        return np.bincount(self.truth * size + self.predicted, minlength=size * size).reshape(size, size)


def rows_of(records: Sequence[RunRecord], plot: str, split: str) -> tuple[RunRecord, list[dict[str, Any]]]:
    """The only run and the rows of its predictions.

    Raises:
        ConfigError: there are several runs, or nothing is recorded.
    """
    record = one(records, plot)
    rows = record.predictions(split)
    if not rows:
        raise ConfigError(f"the {split} split of {record.path} holds no samples: there is nothing to draw")
    return record, rows


def classified(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> Classified:
    """Truth and prediction of each sample, by the numbers of their classes.

    Raises:
        ConfigError: the rows have no class each.
    """
    if not isinstance(rows[0].get("truth"), str) or "prediction" not in rows[0]:
        raise ConfigError(f"the predictions of {record.path} are no class a sample")
    names = class_names(record, rows)
    numbers = {name: number for number, name in enumerate(names)}
    truth = np.array([numbers[row["truth"]] for row in rows])
    return Classified(names, truth, np.array([numbers[row["prediction"]] for row in rows]))


def class_names(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of all classes or labels in their order; of those without names, all that occur."""
    named = record.manifest.get("data", {}).get("class_names") or [
        key.removeprefix(PROBABILITY) for key in rows[0] if key.startswith(PROBABILITY)
    ]
    several = record.manifest.get("data", {}).get("target") == "multilabel"
    said = {row[key] for row in rows for key in ("truth", "prediction") if isinstance(row.get(key), str)}
    said = {each for text in said for each in text.split("|") if each} if several else said
    return [*named, *sorted(said - {*named}, key=lambda name: (not name.isdigit(), len(name), name))]


def probabilities(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[NDArray[np.bool_], Numbers]]:
    """Of each class or label whether it is there and how probable it was, ``[N]`` each; the positive one of two.

    Raises:
        ConfigError: they are not recorded one by one: the run has too many classes.
    """
    names = [key.removeprefix(PROBABILITY) for key in rows[0] if key.startswith(PROBABILITY)]
    if not names:
        raise ConfigError(
            f"{record.path} has too many classes for this plot: their probabilities are not recorded one by one"
        )
    target = record.manifest.get("data", {}).get("target")
    if target == "multilabel":
        there = {name: [name in row["truth"].split("|") for row in rows] for name in names}
    else:
        there = {name: [row["truth"] == name for row in rows] for name in names}
    chosen = names[1:] if len(names) == 2 and target != "multilabel" else names
    return {name: (np.array(there[name]), _column(rows, PROBABILITY + name)) for name in chosen}


def real_values(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Numbers, Numbers]]:
    """Truth and prediction of each real target by its name, ``[N]`` each, in its own units.

    Raises:
        ConfigError: the rows hold something else.
    """
    columns = [key for key in rows[0] if key == "prediction" or key.startswith("prediction:")]
    truth = np.array(
        [row["truth"] if isinstance(row.get("truth"), list) else [row.get("truth")] for row in rows], float
    )
    if not columns or truth.ndim != 2 or truth.shape[1] != len(columns):
        raise ConfigError(f"the predictions of {record.path} are not one for each real target")
    names = [column.partition(":")[2] or "target" for column in columns]
    return {name: (truth[:, place], _column(rows, columns[place])) for place, name in enumerate(names)}


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Numbers:
    return np.array([float(row[name]) for row in rows])
