"""The directory of a run: what is in it, and how it is written. Imports no torch."""

import errno
import json
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import tomlkit

from ptb.config.layers import RunConfig
from ptb.errors import ConfigError, Problem, StorageError, listing, one_line
from ptb.storage import atomic

SCHEMA = 1
RUNS = Path("runs")
# What an evaluation may set beside its metrics: where it computes, and how fast.
EVALUATION_KEYS = ("loader.batch_size", "loader.tier", "loader.num_workers", "loader.timeout", "device", "threads")
# What may be another way when a run goes on: none of it changes what is computed, the first two but the last bits.
RESUME_KEYS = (
    "device",
    "threads",
    "loader.tier",
    "loader.num_workers",
    "loader.timeout",
    "trainer.checkpoint_every",
    "trainer.keep_last",
)
LOCK = ".lock"
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
        with atomic.told(output or RUNS):
            path = _new_path(model, dataset) if output is None else output
            run = cls(path)
            atomic.make_folders(run.checkpoints)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """The run directory at ``path``.

        Raises:
            ConfigError: there is no run.
        """
        run = cls(path)
        if not run.config.is_file():
            remedy = "put it back, there are checkpoints" if run.checkpoints.is_dir() else f"runs are under {RUNS}/"
            raise ConfigError(f"{path} is not a run directory: it has no config.toml; {remedy}")
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

    def resume_config(self, overrides: Sequence[str] = (), device: str | None = None) -> RunConfig:
        """The configuration of the run, to go on with it.

        Args:
            overrides: ``KEY=VALUE`` with a key of ``RESUME_KEYS``.
            device: where to compute; that of the run when None.

        Raises:
            ConfigError: an override is not of that form, or ``config.toml`` cannot be read.
        """
        wrong = [text for text in overrides if "=" not in text]
        if wrong:
            raise ConfigError(f"'{wrong[0]}' is not KEY=VALUE, such as threads=1; one run is resumed at a time")
        problems = [
            Problem(".".join(path), f"cannot be set when a run goes on, only {listing(RESUME_KEYS)}", text)
            for path, text in RunConfig.read(overrides=overrides).sources.items()
            if ".".join(path) not in RESUME_KEYS
        ]
        if problems:
            raise ConfigError(*problems)
        return RunConfig.read([self.config], {"device": device}, overrides)

    def read_manifest(self) -> dict[str, Any]:
        """What the run was made with; empty where no manifest tells it.

        Raises:
            StorageError: there is one, and it cannot be read.
        """
        return _facts(self.manifest)

    def is_far(self) -> bool:
        """Whether ``summary.json`` tells of steps that were taken.

        Raises:
            StorageError: it cannot be read.
        """
        return _facts(self.summary).get("step") not in (None, 0)

    def is_begun(self) -> bool:
        """Whether there is a run here to go on with."""
        return self.config.is_file()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Nobody else writes here while the block runs; what a writer that was killed has left is cleared away.

        Raises:
            StorageError: another process writes here.
        """
        with atomic.locked(self.path / LOCK):
            with atomic.told(self.path):
                atomic.make_folders(self.checkpoints)
                atomic.sync_folder(self.path.parent)  # the one who made the folder may have been killed before that
                atomic.remove_temporaries(self.path)
                atomic.remove_temporaries(self.checkpoints)
            yield

    def remove_summary(self) -> None:
        """The run goes on: how it ended is not known any more."""
        with atomic.told(self.summary), suppress(FileNotFoundError):
            atomic.remove(self.summary)

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Writes the resolved config, itself a config file."""
        atomic.write_atomically(self.config, tomlkit.dumps(values))

    def write_manifest(self, facts: Mapping[str, Any]) -> None:
        """Writes what the run was made with."""
        atomic.write_atomically(self.manifest, json.dumps({"schema": SCHEMA, **facts}, indent=2) + "\n")

    def write_summary(self, facts: Mapping[str, Any]) -> None:
        """Writes how the run ended; figures that are not finite become strings, because JSON has none."""
        atomic.write_atomically(self.summary, json.dumps({"schema": SCHEMA, **finite(facts)}, indent=2) + "\n")

    def append_row(self, facts: Mapping[str, Any]) -> bytes:
        """Adds one line to ``metrics.jsonl``, and tells it."""
        line = json.dumps(finite(facts)) + "\n"
        atomic.append(self.metrics, line)
        return line.encode()

    def rows(self) -> bytes:
        """All of ``metrics.jsonl``, which need not be there.

        Raises:
            StorageError: it cannot be read.
        """
        with atomic.told(self.metrics, verb="read"):
            try:
                return atomic.read(self.metrics)
            except FileNotFoundError:
                return b""

    def sync_rows(self) -> None:
        """Waits until they are on the disk."""
        if self.has_rows():
            atomic.sync_file(self.metrics)

    def has_rows(self) -> bool:
        """Whether some split was measured."""
        with atomic.told(self.metrics, verb="read"), suppress(FileNotFoundError):
            return atomic.size_of(self.metrics) > 0
        return False

    def cut_rows(self, rows: int) -> bool:
        """Leaves the first ones only; tells whether there are as many.

        Raises:
            StorageError: the file cannot be cut.
        """
        data = self.rows()
        lines = data.split(b"\n")[:-1]
        size = sum(len(line) + 1 for line in lines[:rows])
        if size < len(data):
            with atomic.told(self.metrics):
                atomic.cut(self.metrics, size)
        return len(lines) >= rows

    def append_log(self, line: str) -> None:
        """Adds one line to ``log.txt``."""
        atomic.append(self.log, line + "\n")

    def write_losses(self, split: str, step: int, losses: Sequence[float]) -> Path:
        """Writes the loss of each sample of a split, and tells the file."""
        path = self.path / f"losses-{split}-{step}.csv"
        rows = "".join(f"{sample},{loss!r}\n" for sample, loss in enumerate(losses))
        atomic.write_atomically(path, f"sample,loss\n{rows}")
        return path


def check_output(output: Path) -> None:
    """Refuses an output directory that holds something.

    Raises:
        ConfigError: it is a file, or a directory that is not empty, or no name that a directory can have.
        StorageError: the disk fails.
    """
    try:
        is_folder, there = output.is_dir(), output.exists()
        used = is_folder and any(not _is_remnant(path) for path in output.iterdir())
    except (OSError, ValueError) as error:  # a name that is too long, or holds what no name may
        kind = StorageError if getattr(error, "errno", None) == errno.EIO else ConfigError
        raise kind(f"the output directory {str(output)[:80]!r} cannot be used: {one_line(error)}") from error
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


def _facts(path: Path) -> dict[str, Any]:
    """What a JSON file tells; nothing where it is not there, or is none.

    Raises:
        StorageError: it cannot be read.
    """
    with atomic.told(path, verb="read"), suppress(FileNotFoundError, ValueError, RecursionError):
        facts = json.loads(atomic.read(path))
        return facts if isinstance(facts, dict) else {}
    return {}


def _new_path(model: str, dataset: str) -> Path:
    """Makes a directory nobody else has; two runs that start in one second get ``-2``, ``-3``."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{model}-{dataset}"
    atomic.make_folders(RUNS)
    number = 1
    while True:
        path = RUNS / (stem if number == 1 else f"{stem}-{number}")
        try:
            atomic.make_folder(path)
        except FileExistsError:
            number += 1
        else:
            atomic.sync_folder(RUNS)
            return path


def _is_remnant(path: Path) -> bool:
    """Whether it is all that is left of a run that was killed before it wrote anything."""
    if path.name == "checkpoints" and path.is_dir():
        return not any(path.iterdir())
    return path.name == LOCK or atomic.is_temporary(path.name)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()
