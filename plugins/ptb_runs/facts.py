"""What is said of runs: one line of a list, and what differs between several."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ptb import RunRecord

CONFIG = "config.toml"
LEVELS = 3  # how deep runs are looked for: runs/, an experiment, a run


def find(folder: Path, levels: int = LEVELS) -> Iterator[Path]:
    """The run directories in a folder, by name; a run itself is not looked into."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if entry.is_dir() and not entry.name.startswith(".")), key=_name)
    except OSError:  # it may be gone, or be somebody else's
        return
    for entry in entries:
        if os.path.exists(os.path.join(entry.path, CONFIG)):
            yield Path(entry.path)
        elif levels > 1:
            yield from find(Path(entry.path), levels - 1)


def line(run: RunRecord) -> dict[str, Any]:
    """What a list says of a run."""
    manifest, summary = run.manifest, run.summary
    used = {each.get("section"): each.get("id") for each in manifest.get("plugins", ()) if each.get("used")}
    metrics = summary.get("metrics") or {}
    return {
        "run": str(run.path),
        "name": manifest.get("name"),
        "tags": manifest.get("tags", []),
        "status": summary.get("status", "not ended"),
        "model": _short(used.get("model")),
        "dataset": _short(used.get("dataset")),
        "epoch": summary.get("epoch"),
        "step": summary.get("step"),
        "seconds": summary.get("train_seconds"),
        "metrics": metrics,
    }


def differing(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The keys of the configurations that differ, each with the value of every run, None where it has none.

    Components come first, then keys that all runs have.
    """
    flat = [dict(_leaves(run.config)) for run in runs]
    keys = dict.fromkeys(key for each in flat for key in each)
    values = {key: [each.get(key) for each in flat] for key in keys}
    differ = {key: row for key, row in sorted(values.items()) if any(value != row[0] for value in row)}
    return dict(sorted(differ.items(), key=lambda item: (not item[0].endswith(".name"), None in item[1])))


def figures(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Every figure of the summaries, with its value in each run, None where it has none."""
    metrics = [run.summary.get("metrics") or {} for run in runs]
    return {key: [each.get(key) for each in metrics] for key in dict.fromkeys(key for each in metrics for key in each)}


def _leaves(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def _name(entry: "os.DirEntry[str]") -> str:
    return entry.name


def _short(identity: object) -> str | None:
    return identity.removeprefix("pytorch-basics:") if isinstance(identity, str) else None
