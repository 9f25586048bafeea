"""What the targets of ``arrays`` are: asked for where they could be two things, and made into what a loss takes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from ptb import DataError

TargetKind = Literal["class", "binary", "multilabel", "real", "distribution"]
MOST_CODES = 100  # so many different whole numbers may be classes, or amounts
AXES = {"class": (1, 2), "binary": (1,), "multilabel": (2,), "distribution": (2,), "real": (1, 2)}
SUM_TOLERANCE = 1e-4  # of the probabilities of one sample
TARGET_FORMS = (
    "classes are whole numbers [N] or one-hot rows [N, C], a binary target is 0 or 1 [N], labels are 0 and 1 [N, K], "
    "real targets are floats [N] or [N, D]"
)


class Doubt(NamedTuple):
    """What targets could be besides real ones or classes, and how that is seen."""

    seen: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class TargetForm:
    """How targets of a file become targets of samples; the same for training and for other data.

    Args:
        kind: of the targets.
        codes: the numbers that stand for classes, in order; empty where they are 0, 1, 2, ...
        classes: how many there are; 0 for other kinds.
        one_hot: the classes are rows with a 1 at their place.
        mean: of each real target, taken off; empty: none is.
        std: that by which the rest is divided.
    """

    kind: TargetKind
    codes: tuple[int, ...] = ()
    classes: int = 0
    one_hot: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Targets of a file, ``[N]`` or ``[N, D]``, as samples have them.

        Returns:
            int64 ``[N]`` for class, else float32 ``[N, D]``.

        Raises:
            WrongTarget: one cannot be made into that; it names the first.
        """
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if self.kind == "class":
            return self._labels(values)
        columns = values.reshape(len(values), -1)
        if self.kind == "binary":
            return self._labels(values)[:, None].astype(np.float32)
        _check(np.isfinite(columns).all(axis=1), columns, "finite numbers")
        if self.kind == "multilabel":
            _check(((columns == 0) | (columns == 1)).all(axis=1), columns, "0 and 1")
        elif self.kind == "distribution":
            _check(_are_probabilities(columns), columns, "probabilities, sum 1")
        elif self.mean:
            columns = (columns - np.array(self.mean)) / np.array(self.std)
        with np.errstate(over="ignore"):
            encoded = columns.astype(np.float32)
        _check(np.asarray(np.isfinite(encoded).all(axis=1)), columns, "what a 32-bit number can hold")
        return encoded

    def standardized(self, training: np.ndarray) -> "TargetForm":
        """The same with the mean and std of the training samples, ``[n]`` or ``[n, D]``; 1 for a constant."""
        columns = training.reshape(len(training), -1).astype(np.float64)
        std = columns.std(axis=0)
        return replace(self, mean=tuple(columns.mean(axis=0).tolist()), std=tuple(np.where(std > 0, std, 1).tolist()))

    def state(self) -> dict[str, Any]:
        """Plain values, from which ``TargetForm(**state)`` is the same."""
        return asdict(self)

    def _labels(self, values: np.ndarray) -> np.ndarray:
        if self.one_hot:
            is_hot = ((values == 0) | (values == 1)).all(axis=1) & (values.sum(axis=1, dtype=np.float64) == 1)
            _check(is_hot, values, "rows with one 1, else 0")
            return np.asarray(values.argmax(axis=1), dtype=np.int64)
        codes = np.array(self.codes or range(self.classes))
        labels = np.searchsorted(codes, values).clip(0, len(codes) - 1)
        valid = _numbers(codes.tolist())
        _check(codes[labels] == values, values, valid)
        return labels.astype(np.int64)


class WrongTarget(ValueError):
    """A target that is none; with its row and what is valid."""

    def __init__(self, row: int, value: object, valid: str) -> None:
        super().__init__(f"is {value}; valid are {valid}")
        self.row = row


def form_of(path: Path, values: np.ndarray, asked: str, rows: np.ndarray) -> TargetForm:
    """What the targets are: what is asked for, or what they can only be.

    Args:
        path: of the file, for messages.
        values: booleans or numbers ``[N]`` or ``[N, D]``, all finite.
        asked: the kind, or ``"auto"``.
        rows: their numbers in the file, int64 ``[N]``.

    Raises:
        DataError: they can be two things and ``asked`` is ``"auto"``, or they are not what is asked for.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    form = f"{path} holds {values.dtype} {list(values.shape)}"
    kind = asked
    if asked == "auto":
        kind, doubt = _seen(values)
        if doubt is not None:
            answers = "; or ".join(f"dataset.kind={answer}" for answer in doubt.answers)
            raise DataError(f"{form}: {doubt.seen}; say what they are: {answers}")
    if values.ndim not in AXES.get(kind, ()):
        raise DataError(f"{form}, and dataset.kind is {asked}: {TARGET_FORMS}")
    made = TargetForm(cast(TargetKind, kind))
    if kind in ("class", "binary"):
        made = _classes(path, values, made, form, rows)
    try:
        made.encode(values)
    except WrongTarget as error:
        raise DataError(f"{path}: target {rows[error.row]} {error}, and dataset.kind is {asked}") from error
    return made


def _seen(values: np.ndarray) -> tuple[str, Doubt | None]:
    """The kind, and what else it may be; no kind where nothing fits."""
    floats, flags = values.dtype.kind == "f", bool(((values == 0) | (values == 1)).all())
    if values.ndim == 2:
        if flags and (values.sum(axis=1, dtype=np.float64) == 1).all():
            other = ("real", "multilabel") if floats else ("multilabel",)
            return "class", Doubt("every row is one-hot, a class each or separate targets", ("class", *other))
        if flags:
            doubt = Doubt("every value is 0 or 1, labels or amounts", ("multilabel", "real"))
            return "multilabel", doubt if floats else None
        if floats and _are_probabilities(values).all():
            return "distribution", Doubt("every row sums to 1, probabilities or amounts", ("distribution", "real"))
        return ("real" if floats else ""), None
    if flags:
        return "binary", None
    distinct = np.unique(values)
    few = 1 < len(distinct) <= min(MOST_CODES, len(values) // 2)
    kind = "binary" if len(distinct) == 2 else "class"
    if floats:
        if not few or bool((distinct % 1).any()):
            return "real", None
        what = f"{len(distinct)} different values, all whole, classes or amounts"
        return kind, Doubt(f"{what} ({_numbers(distinct.astype(int).tolist())})", (kind, "real"))
    if few or _counts_up(distinct) or len(distinct) == 1:
        return kind, None
    return "class", Doubt(f"{len(distinct)} different values, classes or amounts", ("class", "real"))


def _are_probabilities(values: np.ndarray) -> np.ndarray:
    """Bool ``[N]`` of rows ``[N, C]``."""
    close = np.abs(values.sum(axis=1, dtype=np.float64) - 1) <= SUM_TOLERANCE
    return np.asarray(close & (values >= 0).all(axis=1))


def _counts_up(distinct: np.ndarray) -> bool:
    """Whether they are 0, 1, 2, ..."""
    return bool(distinct[0] == 0 and distinct[-1] == len(distinct) - 1)


def _classes(path: Path, values: np.ndarray, made: TargetForm, form: str, rows: np.ndarray) -> TargetForm:
    if values.ndim == 2:
        made = replace(made, one_hot=True, classes=values.shape[1])
        try:
            missing = np.bincount(made.encode(values), minlength=made.classes) == 0
        except WrongTarget as error:
            raise DataError(
                f"{form}, and dataset.kind is class: target {rows[error.row]} {error}; or whole numbers [N]"
            ) from error
        if missing.any():
            raise DataError(f"{path}: no row is of the class {missing.argmax()}, counted from 0; leave its column out")
        return made
    whole = values % 1 == 0 if values.dtype.kind == "f" else np.ones(len(values), dtype=bool)
    if not whole.all():
        raise DataError(
            f"{form}, and classes are whole numbers: target {rows[whole.argmin()]} is {values[whole.argmin()]}; say "
            "dataset.kind=real, or number the classes by numpy.unique(array, return_inverse=True)[1]"
        )
    distinct = np.unique(values)
    if len(distinct) == 1:
        raise DataError(f"{path}: every target is {values[0]}; of one class nothing can be learnt")
    if made.kind == "binary" and len(distinct) > 2:
        first = int((~np.isin(values, distinct[:2])).argmax())
        valid = "0 and 1" if {0, 1} <= set(distinct.tolist()) else "two values"
        raise DataError(
            f"{path}: target {rows[first]} is {values[first]}, and dataset.kind is binary: valid are {valid}"
        )
    if 2 < len(distinct) == len(values):
        raise DataError(
            f"{path}: every target is another number, and a class needs several samples; dataset.kind=real predicts "
            "numbers"
        )
    codes = () if _counts_up(distinct) else tuple(int(value) for value in distinct)
    return replace(made, codes=codes, classes=len(distinct))


def _numbers(codes: Sequence[int]) -> str:
    """``0 to 9`` of numbers without gaps, else the numbers, only the first of many."""
    if codes[-1] - codes[0] == len(codes) - 1 and len(codes) > 2:
        return f"{codes[0]} to {codes[-1]}"
    return ", ".join(map(str, codes[:10])) + (f", ..., {codes[-1]}" if len(codes) > 10 else "")


def _check(fine: np.ndarray, values: np.ndarray, valid: str) -> None:
    if not fine.all():
        row = int(fine.argmin())
        value = values[row].tolist()
        raise WrongTarget(row, value[0] if isinstance(value, list) and len(value) == 1 else value, valid)
