"""The directory of a run: what is in it, and how it is written. Imports no torch."""

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import tomlkit

from ptb.errors import ConfigError, StorageError, one_line

SCHEMA = 1
RUNS = Path("runs")


class RunDirectory:
    """An existing run directory, by its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.manifest = path / "manifest.json"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.log = path / "log.txt"
        self.checkpoints = path / "checkpoints"

    @classmethod
    def create(cls, output: Path | None, model: str, dataset: str) -> "RunDirectory":
        """Makes the directory: ``output``, or one under ``runs/`` named after the time, the model and the data set.

        Raises:
            ConfigError: ``output`` is not new or empty.
            StorageError: it cannot be made.
        """
        if output is not None:
            check_output(output)
        try:
            path = _new_path(model, dataset) if output is None else output
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path)
            run.checkpoints.mkdir()
        except OSError as error:
            raise StorageError(f"cannot make the run directory {output or RUNS}: {error.strerror}") from error
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """The run directory at ``path``.

        Raises:
            ConfigError: there is no run.
        """
        run = cls(path)
        if not run.config.is_file():
            raise ConfigError(
                f"{path} is not a run directory: it has no config.toml; runs are under {RUNS}/ by default"
            )
        return run

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Writes the resolved config, itself a config file."""
        self._write(self.config, tomlkit.dumps(values))

    def write_manifest(self, facts: Mapping[str, Any]) -> None:
        """Writes what the run was made with."""
        self._write(self.manifest, json.dumps({"schema": SCHEMA, **facts}, indent=2) + "\n")

    def write_summary(self, facts: Mapping[str, Any]) -> None:
        """Writes how the run ended; figures that are not finite become strings, because JSON has none."""
        self._write(self.summary, json.dumps({"schema": SCHEMA, **finite(facts)}, indent=2) + "\n")

    def append_row(self, facts: Mapping[str, Any]) -> None:
        """Adds one line to ``metrics.jsonl``."""
        self._append(self.metrics, json.dumps(finite(facts)))

    def append_log(self, line: str) -> None:
        """Adds one line to ``log.txt``."""
        self._append(self.log, line)

    def write_losses(self, split: str, step: int, losses: Sequence[float]) -> Path:
        """Writes the loss of each sample of a split, and tells the file."""
        path = self.path / f"losses-{split}-{step}.csv"
        self._write(path, "sample,loss\n" + "".join(f"{sample},{loss!r}\n" for sample, loss in enumerate(losses)))
        return path

    def _write(self, path: Path, text: str) -> None:
        # these files are small and made anew with each run; the checkpoints alone must outlive a crash
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            try:
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {path} ({len(text)} characters): {error.strerror}") from error

    def _append(self, path: Path, line: str) -> None:
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error


def check_output(output: Path) -> None:
    """Refuses an output directory that holds something.

    Raises:
        ConfigError: it is a file, or a directory that is not empty.
    """
    try:
        is_folder, there = output.is_dir(), output.exists()
        used = is_folder and any(output.iterdir())
    except (OSError, ValueError) as error:  # a name that is too long, or holds what no name may
        raise ConfigError(f"the output directory {str(output)[:80]!r} cannot be used: {one_line(error)}") from error
    if used:
        raise ConfigError(f"the output directory {output} is not empty; name a new one, or empty it")
    if there and not is_folder:
        raise ConfigError(f"the output directory {output} is a file; name a new directory")


def git_commit() -> str | None:
    """The commit of the working directory, with ``+`` if files were changed, or None outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def finite(value: Any) -> Any:
    """``value`` with each float that JSON cannot hold as a string: ``"nan"``, ``"inf"``, ``"-inf"``."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return value


def _new_path(model: str, dataset: str) -> Path:
    """Makes a directory nobody else has; two runs that start in one second get ``-2``, ``-3``."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{model}-{dataset}"
    number = 1
    while True:
        path = RUNS / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return path


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()
