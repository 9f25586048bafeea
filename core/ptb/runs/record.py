"""Reads what a run has recorded. Imports no torch."""

import json
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any

from ptb.errors import ConfigError, StorageError, one_line
from ptb.storage import atomic
from ptb.storage.run_directory import RunDirectory, read_json


class RunRecord:
    """The files of a run directory, each read when it is asked for.

    Args:
        path: the run directory.

    Raises:
        ConfigError: there is no run at ``path``.
        StorageError: a file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self._run = RunDirectory.open(Path(path).expanduser())
        self.path = self._run.path

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        with atomic.storage_errors(self._run.config, verb="read"):
            data = atomic.read(self._run.config)
        try:
            return tomllib.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{self._run.config} cannot be read: {one_line(error)}") from error

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the run was made with; empty without a readable ``manifest.json``."""
        return read_json(self._run.manifest)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """How the run ended; empty while it is going on, or where it was killed."""
        return read_json(self._run.summary)

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``, oldest first; lines that cannot be read are left out."""
        return _objects(self._run.rows())

    def columns(self, split: str) -> dict[str, list[Any]]:
        """The rows of one split as columns: ``step``, ``epoch``, ``lr``, ``samples_per_second`` and each figure.

        Figures are floats, NaN and infinite ones too; None where a row has none.
        """
        rows = [row for row in self.history if row.get("split") == split and isinstance(row.get("values"), dict)]
        names = dict.fromkeys(name for row in rows for name in row["values"])
        facts = {name: [row.get(name) for row in rows] for name in ("step", "epoch", "lr", "samples_per_second")}
        return facts | {name: [_number(row["values"].get(name)) for row in rows] for name in names}

    def predictions(self, split: str = "test") -> list[dict[str, Any]]:
        """What was predicted for each sample of a split, in its order, as ``predictions-SPLIT.jsonl`` has it.

        Raises:
            ConfigError: it was not recorded; the message says how it is.
        """
        return self._recorded(self._run.predictions(split), split)

    def samples(self, split: str = "test") -> dict[int, dict[str, Any]]:
        """What people are shown of some samples, by their number: ``picture`` (a PNG in base64), ``text`` or ``row``.

        Raises:
            ConfigError: it was not recorded; the message says how it is.
        """
        return {row["sample"]: row for row in self._recorded(self._run.samples(split), split)}

    def _recorded(self, path: Path, split: str) -> list[dict[str, Any]]:
        if not path.is_file():
            how = f"`ptb.evaluate({str(self.path)!r}, split={split!r}, record=True)`, `ptb plot` and `ptb report` do"
            raise ConfigError(f"nobody has recorded {path}; {how}")
        with atomic.storage_errors(path, verb="read"):
            return _objects(atomic.read(path))


def _objects(lines: bytes) -> list[dict[str, Any]]:
    """The JSON objects of lines; those that a crash has cut off, or a disk has damaged, are left out."""
    found = []
    for line in lines.splitlines():
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return [each for each in found if isinstance(each, dict)]


def _number(value: Any) -> float | None:
    """A figure of a row: JSON has no NaN, it is there as a string."""
    return None if value is None else float(value)
