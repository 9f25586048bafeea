"""What was sent of a run to a tracker: a small file in the run directory, and the lock of whoever sends."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ptb import StorageError
from ptb.internals import locked, storage_errors, write_atomically
from ptb_trackers.rows import Position

FOLDER = "trackers"
LOOK_AGAIN = 0.2  # seconds until a lock is tried once more


def file_of(run: Path, label: str, suffix: str) -> Path:
    """A file of the tracker with this label; a label may be any text."""
    return run / FOLDER / (quote(label, safe=" ").replace(".", "%2E") + suffix)


@dataclass
class State:
    """What a tracker has of a run.

    Attributes:
        tracker: the name of the component.
        settings: its settings, so that `ptb sync` knows them of a tracker that was added when the run was resumed.
        destination: where it was sent; what was sent to one place says nothing about another.
        id: of the run there.
        position: how far the rows were sent.
        ended: the signature of the outcome that was sent.
        problem: what went wrong last.
        replaced: variables whose values were found in what was to be sent.
    """

    tracker: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    destination: str = ""
    id: str = ""
    position: Position = field(default_factory=Position)
    ended: list[Any] | None = None
    problem: str = ""
    replaced: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, run: Path, label: str) -> "State":
        """That of a tracker; a new one where there is none that can be read."""
        try:
            values = json.loads(file_of(run, label, ".json").read_bytes())
            values.pop("schema")
            return cls(**values | {"position": Position(**values["position"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return cls()

    def write(self, run: Path, label: str) -> None:
        """Write it, whole or not at all."""
        path = file_of(run, label, ".json")
        with storage_errors(path):
            path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps({"schema": 1, **asdict(self)}, indent=2) + "\n")


@contextmanager
def only_sender(run: Path, label: str, patience: float) -> Iterator[None]:
    """Hold the lock while the block runs: two senders would send rows twice.

    Raises:
        StorageError: another process has held it for ``patience`` seconds.
    """
    path = file_of(run, label, ".lock")
    with storage_errors(path):
        path.parent.mkdir(exist_ok=True)
    last = time.monotonic() + patience
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(path))
                break
            except StorageError as error:
                if time.monotonic() >= last:
                    raise StorageError(f"another process sends to {label}: a run that trains, or `ptb sync`") from error
                time.sleep(LOOK_AGAIN)
        yield
