"""Reads what a run has recorded. Imports no torch."""

import json
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any

from ptb.errors import StorageError, one_line
from ptb.storage import atomic
from ptb.storage.run_directory import RunDirectory


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
        return self._run.read_manifest()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """How the run ended; empty while it is going on, or where it was killed."""
        return self._run.read_summary()

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``, oldest first; what a crash has cut off is left out."""
        rows = []
        for line in self._run.rows().splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                break
            rows.append(row)
        return rows
