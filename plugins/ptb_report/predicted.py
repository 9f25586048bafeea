"""The recorded predictions of a run: read, or made where they are not there, or why there are none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptb import PtbError, RunRecord

Record = Callable[[str], Any]
"""Records what is predicted for each sample of a split."""


@dataclass(frozen=True)
class Predicted:
    """What is predicted for the samples of a split; without rows ``missing`` says why, in English."""

    split: str
    rows: Sequence[Mapping[str, Any]]
    shown: Mapping[int, Mapping[str, Any]]
    missing: str = ""

    @property
    def step(self) -> Any:
        """The step whose weights have predicted."""
        return self.rows[0].get("step") if self.rows else None


def judged_split(record: RunRecord) -> str:
    """The split that a run is judged by: the test split, else the validation split."""
    data = record.manifest.get("data")
    samples = data.get("samples") if isinstance(data, dict) else None
    return "val" if isinstance(samples, dict) and "val" in samples and "test" not in samples else "test"


def read_predictions(record: RunRecord, make: Record | None = None) -> Predicted:
    """The predictions of a run; where they are not there, or of other weights, ``make`` records them first."""
    split = judged_split(record)
    found, reason = _read(record, split), ""
    step = record.summary.get("test_step") if split == "test" else None
    stale = bool(found and found.rows and step is not None and found.step != step)
    if (found is None or stale) and make is not None:
        try:
            make(split)
            found, stale = _read(record, split), False
        except PtbError as error:
            reason = str(error)
        except Exception as error:  # the run's plugins may raise anything
            reason = f"{type(error).__name__}: {error}"
    if found is not None and not stale:
        return found
    if stale and found is not None:
        used = f"those that are there are of step {found.step}, and the run was measured with step {step}"
        reason = f"{used} ({reason})" if reason else used
    return Predicted(split, (), {}, reason)


def _read(record: RunRecord, split: str) -> Predicted | None:
    try:
        rows = record.predictions(split)
    except PtbError:
        return None
    try:
        shown = record.samples(split)
    except (PtbError, KeyError, TypeError):
        shown = {}
    return Predicted(split, rows, shown)
