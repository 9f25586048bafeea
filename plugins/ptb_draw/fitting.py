"""Does a plot fit these runs? What is predicted for each sample is recorded where it is missing or old."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptb import ConfigError, Registry, RunRecord
from ptb.internals import count, listing

if TYPE_CHECKING:
    from ptb.internals import RegisteredComponent

RECORDED = ("predictions", "samples")


def make_fit(entry: "RegisteredComponent", settings: Any, records: Sequence[RunRecord], registry: Registry) -> None:
    """Refuses runs that a plot cannot draw, and records what they lack of predictions.

    Raises:
        ConfigError: a run has targets of another kind, or lacks what cannot be made.
        PtbError: evaluating a run failed, for example because its data is gone.
    """
    component = entry.component
    if "several-runs" in component.needs and len(records) < 2:
        raise ConfigError(f"the plot {entry.name} compares runs: name two at least")
    for record in records:
        _check_target(entry, record)
        _warn_of_damage(record)
        if "history" in component.needs and not record.history:
            raise ConfigError(f"the plot {entry.name} needs figures, and {record.path} has recorded none yet")
        if "weights" in component.needs and not _has_checkpoint(record):
            raise ConfigError(f"the plot {entry.name} needs weights, and {record.path} has no checkpoint")
        if set(RECORDED) & set(component.needs):
            for split in _splits(settings, record):
                _record(entry.name, record, split, registry)


def target_form(record: RunRecord) -> str:
    """The kind of targets of a run, with ``+positions`` where each position has a class; empty where unknown."""
    data = record.manifest.get("data", {})
    return f"{data.get('target', '')}{'+positions' * bool(data.get('positions') and data.get('target') == 'class')}"


def _splits(settings: Any, record: RunRecord) -> Sequence[str]:
    """Whose predictions a plot reads: its ``split``, of its ``splits`` those that there are, else test."""
    sizes = record.manifest.get("data", {}).get("samples", {})
    if several := getattr(settings, "splits", None):
        return [split for split in several if not sizes or split in sizes]
    return [getattr(settings, "split", "test")]


def _check_target(entry: "RegisteredComponent", record: RunRecord) -> None:
    accepts, form = entry.component.accepts, target_form(record)
    if accepts and form and form not in accepts:
        raise ConfigError(
            f"the plot {entry.name} draws targets of kind {listing([*accepts])}, and {record.path} has targets of kind "
            f"{form}; `ptb list plot` has others"
        )


def _warn_of_damage(record: RunRecord) -> None:
    """Says so where rows of ``metrics.jsonl`` cannot be read."""
    file = record.path / "metrics.jsonl"
    lines = [line for line in file.read_bytes().splitlines() if line.strip()] if file.is_file() else []
    if lost := len(lines) - len(record.history):
        cut = f"{count(lost, 'line')} of {len(lines)} cannot be read, the others are drawn"
        _say(f"warning: {file} is damaged: {cut}")


def _record(plot: str, record: RunRecord, split: str, registry: Registry) -> None:
    """Evaluates the best checkpoint of a run, unless what it predicts is recorded."""
    sizes = record.manifest.get("data", {}).get("samples", {})
    if sizes and split not in sizes:
        raise ConfigError(f"the data of {record.path} has no {split} split; write split={listing(list(sizes), 5)}")
    has, step = _recorded_step(record, split), None
    if _has_checkpoint(record):
        step = _step(record)
        if has == step:
            return
    elif has is not None:
        return  # the checkpoints were deleted, and what was recorded is all that there is
    else:
        raise ConfigError(
            f"the plot {plot} needs what is predicted for each sample, and {record.path} has neither recorded it nor a "
            "checkpoint to evaluate"
        )
    why = "has not recorded what is predicted" if has is None else f"has recorded the predictions of step {has}"
    _say(f"{record.path} {why}: evaluating step {step} on the {split} split, which needs the data of the run")
    from ptb import evaluate

    evaluate(record.path, split=split, record=True, registry=registry)


def _recorded_step(record: RunRecord, split: str) -> int | None:
    """Of which step the predictions are; None where a file is missing or holds nothing."""
    if any(not (record.path / f"{name}-{split}.jsonl").is_file() for name in RECORDED):
        return None
    rows = record.predictions(split)
    return rows[0].get("step") if rows else None


def _step(record: RunRecord) -> int | None:
    """The step whose weights are evaluated: the best, or the last; of a run without summary its checkpoints say it."""
    if record.summary:
        best = record.summary.get("best_step")
        return record.summary.get("step") if best is None else best
    from ptb import checkpoint_path

    return int(checkpoint_path(record.path).name.split("-")[1])


def _has_checkpoint(record: RunRecord) -> bool:
    return any(Path(record.path, "checkpoints").glob("ckpt-*.safetensors"))


def _say(line: str) -> None:
    click.echo(line, err=True)
