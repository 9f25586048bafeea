"""Writes the page of a run again and again while the run goes on."""

import os
import time
from pathlib import Path

from ptb import RunRecord, StorageError
from ptb.internals import write_atomically
from ptb_report.page import page

SECONDS = 5  # between two pages, at least
SILENT = 6  # looks without a change after which it is asked whether anybody still writes the run


def follow(run: Path, target: Path, language: str) -> None:
    """Return when the run has ended, in whatever way; Ctrl-C ends it before, and leaves a page that stays as it is."""
    try:
        _write_while_it_goes_on(run, target, language)
    except KeyboardInterrupt:
        write_atomically(target, page([run], language, ended=False))
        raise


def _write_while_it_goes_on(run: Path, target: Path, language: str) -> None:
    seen: object = None
    silent = 0
    while not _has_ended(run, silent):
        state = _state(run)
        if state != seen:
            seen, silent = state, 0
            write_atomically(target, page([run], language, ended=False, live=SECONDS))
        else:
            silent += 1
        time.sleep(SECONDS)


def _has_ended(run: Path, silent: int) -> bool:
    if RunRecord(run).summary:
        return True
    return silent >= SILENT and not _is_written(run)


def _is_written(run: Path) -> bool:
    """Whether a process holds the lock of the run: one that was killed has left the file, not the lock."""
    from ptb.internals import RunDirectory

    try:
        with RunDirectory(run).writing():
            return False
    except StorageError:
        return True


def _state(run: Path) -> tuple[int, int] | None:
    """Changes with every row."""
    try:
        found = os.stat(run / "metrics.jsonl")
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
