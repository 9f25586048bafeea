"""The directory of a run: what is in it, and how it is written. It may be moved or copied. Imports no torch."""

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import tomlkit

from ptb.errors import ConfigError, StorageError, one_line
from ptb.storage import atomic

SCHEMA = 1
RUNS = Path("runs")
LOCK = ".lock"


class RunDirectory:
    """The files of a run directory. All methods raise ``StorageError`` where the disk fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.manifest = path / "manifest.json"  # what the run was made with
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"  # how the run ended
        self.card = path / "MODEL_CARD.md"  # what people read of the run first
        self.report = path / "report.html"
        self.log = path / "log.txt"
        self.checkpoints = path / "checkpoints"
        self.plugins = path / "plugins"

    @classmethod
    def create(cls, output: Path | None, model: str, dataset: str) -> "RunDirectory":
        """Make the directory: ``output``, or one under ``runs/`` named after the time, the model and the data set."""
        if output is not None:
            check_output(output)
        with atomic.storage_errors(output or RUNS):
            run = cls(output or _new_path(model, dataset))
            atomic.make_folders(run.checkpoints)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """The run directory at ``path``; raises ``ConfigError`` where there is no run."""
        run = cls(path)
        if not run.is_started():
            remedy = "put it back, there are checkpoints" if run.checkpoints.is_dir() else f"runs are under {RUNS}/"
            raise ConfigError(f"{path} is not a run directory: it has no config.toml; {remedy}")
        return run

    def is_started(self) -> bool:
        """Whether there is a run here that can be resumed."""
        with atomic.storage_errors(self.config, verb="read"):
            return self.config.is_file()

    def has_trained(self) -> bool:
        """Whether ``metrics.jsonl`` or ``summary.json`` show that steps were taken."""
        return bool(self.rows()) or read_json(self.summary).get("step") not in (None, 0)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the directory while the block runs, and delete what a killed writer has left."""
        with atomic.locked(self.path / LOCK):
            with atomic.storage_errors(self.path):
                atomic.make_folders(self.checkpoints)
                atomic.sync_folder(self.path.parent)  # whoever made the folder may have been killed before that
                atomic.remove_temporaries(self.path)
                atomic.remove_temporaries(self.checkpoints)
            yield

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Write the resolved config, itself a config file."""
        atomic.write_atomically(self.config, tomlkit.dumps(values))

    def write_plugin(self, name: str, source: bytes) -> None:
        """Keep a copy of a plugin file."""
        with atomic.storage_errors(self.plugins):
            atomic.make_folders(self.plugins)
        atomic.write_atomically(self.plugins / name, source)

    def remove_summary(self) -> None:
        """Delete the summary and the model card of a run that goes on."""
        for path in (self.summary, self.card):
            with atomic.storage_errors(path), suppress(FileNotFoundError):
                os.unlink(path)

    def append_row(self, row: Mapping[str, Any]) -> bytes:
        """Add one line to ``metrics.jsonl`` and return it; there is one for each step and split."""
        line = json.dumps(finite(row)) + "\n"
        atomic.append(self.metrics, line)
        return line.encode()

    def rows(self) -> bytes:
        """All of ``metrics.jsonl``, or nothing."""
        with atomic.storage_errors(self.metrics, verb="read"), suppress(FileNotFoundError):
            return atomic.read(self.metrics)
        return b""

    def sync_rows(self) -> None:
        """Wait until the rows are on the disk."""
        with atomic.storage_errors(self.metrics, verb="read"), suppress(FileNotFoundError):
            if os.stat(self.metrics).st_size:
                atomic.sync_file(self.metrics)

    def truncate_rows(self, rows: int) -> bool:
        """Keep the first ``rows`` rows; False if there are fewer."""
        data = self.rows()
        whole = data.split(b"\n")[:-1]  # what follows the last line end was cut off by a crash
        kept = b"".join(line + b"\n" for line in whole[:rows])
        if kept != data:
            atomic.write_atomically(self.metrics, kept)
        return len(whole) >= rows

    def append_log(self, line: str) -> None:
        """Add one line to ``log.txt``."""
        atomic.append(self.log, line + "\n")

    def predictions(self, split: str) -> Path:
        """What was predicted for each sample of a split."""
        return self.path / f"predictions-{split}.jsonl"

    def samples(self, split: str) -> Path:
        """What people are shown of some samples of a split."""
        return self.path / f"samples-{split}.jsonl"


def split_checkpoint(text: str) -> tuple[Path, str | None]:
    """The directory and the checkpoint of ``RUN@C``, None without ``@C``; a directory may have an ``@`` in its name."""
    run, at, checkpoint = text.rpartition("@")
    if not at or "/" in checkpoint or Path(text).is_dir():
        return Path(text), None
    return Path(run), checkpoint


def check_output(output: Path) -> None:
    """Raise ``ConfigError`` unless ``output`` is new, or an empty directory."""
    try:
        is_folder, exists = output.is_dir(), output.exists()
        used = is_folder and any(not _is_remnant(path) for path in output.iterdir())
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL
        kind = StorageError if getattr(error, "errno", None) == errno.EIO else ConfigError
        raise kind(f"the output directory {str(output)[:80]!r} cannot be used: {one_line(error)}") from error
    if used:
        raise ConfigError(f"the output directory {output} is not empty; name a new one, or empty it")
    if exists and not is_folder:
        raise ConfigError(f"the output directory {output} is a file; name a new directory")


def finite(value: Any) -> Any:
    """``value`` with each float that JSON cannot hold as a string: ``"nan"``, ``"inf"``, ``"-inf"``."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write the manifest or the summary of a run."""
    atomic.write_atomically(path, json.dumps({"schema": SCHEMA, **finite(values)}, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is missing or holds something else."""
    with atomic.storage_errors(path, verb="read"), suppress(FileNotFoundError, ValueError, RecursionError):
        values = json.loads(atomic.read(path))
        return values if isinstance(values, dict) else {}
    return {}


def _new_path(model: str, dataset: str) -> Path:
    """Make a directory that nobody else has; two runs that start in one second get ``-2``, ``-3``."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{model}-{dataset}"
    atomic.make_folders(RUNS)
    number = 1
    while True:
        path = RUNS / (stem if number == 1 else f"{stem}-{number}")
        with suppress(FileExistsError):
            os.mkdir(path)
            atomic.sync_folder(RUNS)
            return path
        number += 1


def _is_remnant(path: Path) -> bool:
    """Whether it is all that is left of a run that was killed before it wrote anything."""
    if path.name == "checkpoints" and path.is_dir():
        return not any(path.iterdir())
    return path.name == LOCK or atomic.is_temporary(path.name)
