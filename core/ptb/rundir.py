"""The directory of a run: what is in it, and how it is written. Imports no torch."""

import json
import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import tomlkit

from ptb.errors import ConfigError, Problem, StorageError, listing, one_line
from ptb.run_config import RunConfig

SCHEMA = 1
RUNS = Path("runs")
# What an evaluation may set beside its metrics: where it computes, and how fast.
EVALUATION_KEYS = ("loader.batch_size", "loader.tier", "loader.num_workers", "device", "threads")
TRAINING_SECTIONS = ("initializer", "optimizer", "scheduler")


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

    def evaluation_config(
        self, device: str | None = None, metrics: Sequence[str] = (), overrides: Sequence[str] = ()
    ) -> RunConfig:
        """The configuration of the run, for an evaluation of it, which needs nothing of ``TRAINING_SECTIONS``.

        Args:
            device: where to compute; that of the run when None.
            metrics: names of metrics, in the place of those of the run; none given leaves those.
            overrides: ``KEY=VALUE`` with a key of ``EVALUATION_KEYS`` or ``metrics.LABEL.KEY``; the strongest layer.

        Raises:
            ConfigError: an override is not of that form, or ``config.toml`` cannot be read.
        """
        wrong = [text for text in overrides if "=" not in text]
        if wrong:
            raise ConfigError(
                f"'{wrong[0]}' is not KEY=VALUE, such as metrics.top-k.k=3; one run is evaluated at a time"
            )
        free = listing(["metrics.LABEL.KEY", *EVALUATION_KEYS])
        problems = [
            Problem(".".join(path), f"cannot be set in an evaluation, which takes all from the run but {free}", text)
            for path, text in RunConfig.read(overrides=overrides).sources.items()
            if ".".join(path) not in EVALUATION_KEYS and (path[0] != "metrics" or len(path) == 1)
        ]
        if problems:
            raise ConfigError(*problems)
        # no evaluation drops samples, and with larger batches the training split would not have one that is full
        config = RunConfig.read([self.config], {"device": device}, ["loader.drop_last=false", *overrides], metrics)
        for section in TRAINING_SECTIONS:  # their plugins may be gone
            config.values.pop(section, None)
        return config

    def data_fingerprint(self) -> str | None:
        """The fingerprint of the data that the run was made with; None where no manifest tells it."""
        try:
            return str(json.loads(self.manifest.read_bytes())["dataset_sha256"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Writes the resolved config, itself a config file."""
        write_atomically(self.config, tomlkit.dumps(values))

    def write_manifest(self, facts: Mapping[str, Any]) -> None:
        """Writes what the run was made with."""
        write_atomically(self.manifest, json.dumps({"schema": SCHEMA, **facts}, indent=2) + "\n")

    def write_summary(self, facts: Mapping[str, Any]) -> None:
        """Writes how the run ended; figures that are not finite become strings, because JSON has none."""
        write_atomically(self.summary, json.dumps({"schema": SCHEMA, **finite(facts)}, indent=2) + "\n")

    def append_row(self, facts: Mapping[str, Any]) -> None:
        """Adds one line to ``metrics.jsonl``."""
        self._append(self.metrics, json.dumps(finite(facts)))

    def append_log(self, line: str) -> None:
        """Adds one line to ``log.txt``."""
        self._append(self.log, line)

    def write_losses(self, split: str, step: int, losses: Sequence[float]) -> Path:
        """Writes the loss of each sample of a split, and tells the file."""
        path = self.path / f"losses-{split}-{step}.csv"
        rows = "".join(f"{sample},{loss!r}\n" for sample, loss in enumerate(losses))
        write_atomically(path, f"sample,loss\n{rows}")
        return path

    def _append(self, path: Path, line: str) -> None:
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Puts ``content`` under ``path``, text as UTF-8: whole or not at all, also when the machine stops in between.

    Raises:
        StorageError: it cannot be written; what was there before is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path} ({len(data)} bytes): {error.strerror}") from error


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
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
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


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; there the rename itself is logged
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()
