"""What several plots read of runs: their names, their figures, and which of them differ in the seed only."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from ptb import ConfigError, RunRecord

FACTS = ("step", "epoch", "lr", "samples_per_second")  # of a row of metrics; the rest are figures
SPLITS = ("train", "val")


class Group(NamedTuple):
    """Runs that differ in nothing but the seed, or one run."""

    label: str
    runs: tuple[RunRecord, ...]


def one(records: Sequence[RunRecord], plot: str) -> RunRecord:
    """The only run.

    Raises:
        ConfigError: there are several.
    """
    if len(records) != 1:
        raise ConfigError(f"the plot {plot} draws one run, got {len(records)}; draw them one by one")
    return records[0]


def names(records: Sequence[RunRecord]) -> list[str]:
    """What tells the runs apart: the last part of their paths that differs, or a number."""
    for parts in (1, 2, 3):
        found = ["/".join(record.path.resolve().parts[-parts:]) for record in records]
        if len(set(found)) == len(found):
            return found
    return [f"{name} ({number})" for number, name in enumerate(found, 1)]


def groups(records: Sequence[RunRecord]) -> list[Group]:
    """The runs, those together that are alike but for their seeds, and recorded for the same epochs."""
    alike: dict[str, list[tuple[str, RunRecord]]] = {}
    for name, record in zip(names(records), records, strict=True):
        same = {key: value for key, value in record.config.items() if key != "seed"}
        recorded = len({(row.get("epoch"), row.get("step")) for row in record.history if row.get("split") != "test"})
        alike.setdefault(json.dumps([same, recorded], sort_keys=True, default=str), []).append((name, record))
    found: list[list[tuple[str, RunRecord]]] = []
    for members in alike.values():
        seeds = {record.config.get("seed") for _, record in members}
        found += [members] if len(seeds) == len(members) else [[member] for member in members]
    alone = sum(len(members) > 1 for members in found) == 1
    return [Group(_label([name for name, _ in each], alone), tuple(record for _, record in each)) for each in found]


def _label(runs: Sequence[str], alone: bool) -> str:
    """What a curve is called; ``alone`` says that no other curve is one of several seeds."""
    if len(runs) == 1:
        return runs[0]
    seeds = f"{len(runs)} seeds"
    return seeds if alone and seeds not in runs else f"{seeds}: {', '.join(runs)}"


def figure_names(records: Sequence[RunRecord], chosen: Sequence[str] = (), splits: Sequence[str] = SPLITS) -> list[str]:
    """The figures of the runs in the order in which they were recorded, or those that are ``chosen``.

    Raises:
        ConfigError: nothing is recorded, or not what is chosen.
    """
    known = dict.fromkeys(
        name for record in records for split in splits for name in record.columns(split) if name not in FACTS
    )
    if not known:
        raise ConfigError(f"{records[0].path} has recorded no figures of {' or '.join(splits)} yet")
    if unknown := [name for name in chosen if name not in known]:
        raise ConfigError(f"no run has the figure '{unknown[0]}'; there are {', '.join(known)}")
    return [*(chosen or known)]


def best_step(record: RunRecord) -> int | None:
    """The step of the best evaluation; of a run that was killed only where the loss decides."""
    if record.summary:
        return record.summary.get("best_step")
    trainer: Mapping[str, Any] = record.config.get("trainer", {})
    if trainer.get("monitor") != "val/loss" or trainer.get("mode") == "max":
        return None
    columns = record.columns("val")
    rows = [
        (value, step)
        for value, step in zip(columns.get("loss", ()), columns["step"], strict=False)
        if value is not None and isfinite(value)
    ]
    return min(rows, key=lambda row: row[0])[1] if rows else None
