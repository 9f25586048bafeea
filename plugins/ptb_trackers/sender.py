"""The process that sends the rows of one run to one tracker. Nothing of a tracker runs where the training does.

It reads the files of the run directory: ``metrics.jsonl`` is the queue, and what was sent is noted in ``trackers/``.
"""

import copy
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ptb import PtbError, RunRecord
from ptb.internals import one_line
from ptb_trackers.about import KILLED, Outcome, describe, outcome
from ptb_trackers.redaction import Redaction
from ptb_trackers.rows import Position, Tail, unsent
from ptb_trackers.state import State, only_sender
from ptb_trackers.store import Store, load_store

DONE, FAILED, GAVE_UP = 0, 1, 3  # exit codes
POLL = 0.5  # seconds from one look at the run directory to the next
RETRY, LONGEST_RETRY = 2.0, 60.0  # seconds from a failed attempt to the next
LOADING = 30.0  # seconds that the import of a library may take, which is no waiting for a server
PATIENCE = 60.0  # seconds of waiting for another sender, while the run trains


class Sender:
    """Sends what a run records until it is over.

    Args:
        run: the run directory.
        label: of the tracker.
        tracker: the name of the component.
        settings: its settings.
        seconds: how long it goes on, at most, once the run is over.
    """

    def __init__(self, run: Path, label: str, tracker: str, settings: Mapping[str, Any], seconds: float) -> None:
        self.over = threading.Event()  # the run, or the process that trains
        self.loaded = threading.Event()  # the library
        self._run = run
        self._label = label
        self._seconds = seconds
        self._tracker = tracker
        self._settings = settings
        self._state = State()
        self._redaction = Redaction()
        self._store: Store | None = None

    def run(self) -> int:
        """Send until all has arrived, or the first attempt fails that began after the end; returns the exit code."""
        with only_sender(self._run, self._label, self._seconds if self.over.is_set() else PATIENCE):
            self._state = State.read(self._run, self._label)
            self._state.tracker, self._state.settings = self._tracker, dict(self._settings)
            wait = RETRY
            while True:
                last = self.over.is_set()
                try:
                    self._attempt()
                    self._state.problem = ""
                    return DONE
                except Exception as error:  # the library of a tracker may raise anything
                    reason = _reason(error)
                    told = str(reason) if isinstance(reason, PtbError) else one_line(reason)
                    problem = self._redaction.clean(told)
                    if problem != self._state.problem:  # a server may be away for days
                        traceback.print_exc()
                    self._state.problem = problem
                finally:
                    with suppress(Exception):  # what has failed may fail again
                        if self._store:
                            self._store.close()
                    with suppress(Exception):
                        self._note()
                if last:
                    return FAILED
                self.over.wait(wait)
                wait = min(2 * wait, LONGEST_RETRY)

    def end_in_time(self) -> None:
        """Wait for the end of the run, then end this process when its time is up, whatever it waits for."""
        while not self.over.wait(POLL):
            if (self._run / "summary.json").exists():
                self.over.set()
        self.loaded.wait(LOADING)
        time.sleep(self._seconds)
        os._exit(GAVE_UP)

    def _attempt(self) -> None:
        if self._store is None:
            self._store = load_store(self._tracker, self._settings, self._run)
        self.loaded.set()
        store, state = self._store, self._state
        if state.destination != store.destination or (state.id and store.is_gone(state.id)):
            tracker, settings = state.tracker, state.settings
            self._state = state = State(tracker, settings, store.destination)
        if self._is_done():
            return
        about = describe(RunRecord(self._run), self._redaction)
        store.open(about, state, self._seconds if self.over.is_set() else LONGEST_RETRY)
        state.ended = None
        self._note()
        sent = self._send(store)
        ended = self._outcome()
        store.finish(ended)
        state.position, state.ended = sent, None if ended is None else ended.signature

    def _send(self, store: Store) -> Position:
        """Send rows until there are no more; returns how far that was."""
        tail, sent = Tail(self._run / "metrics.jsonl"), copy.deepcopy(self._state.position)
        while True:
            over = self.over.is_set()  # asked before the rows are read, so that none is missed
            read = tail.read()
            rows = [row._replace(figures=self._redaction.clean(row.figures)) for row in read if not sent.covers(row)]
            if rows:
                store.send(rows)
                for row in rows:
                    sent.add(row)
                if not store.confirms_late:
                    self._state.position = copy.deepcopy(sent)
                    self._note()
            elif over and not read:
                return sent
            elif not read:
                self.over.wait(POLL)

    def _is_done(self) -> bool:
        ended, state = outcome(RunRecord(self._run), self._redaction), self._state
        left, _ = unsent(self._run / "metrics.jsonl", state.position)
        return not left and ended is not None and state.ended == ended.signature

    def _outcome(self) -> Outcome | None:
        """How the run ended; None while a process still trains it."""
        found = outcome(RunRecord(self._run), self._redaction)
        return found or (None if _is_locked(self._run / ".lock") else Outcome(KILLED, {}, {}))

    def _note(self) -> None:
        self._state.replaced = sorted({*self._state.replaced, *self._redaction.replaced})
        self._state.write(self._run, self._label)


def _reason(error: BaseException) -> BaseException:
    """The error of the system behind that of a library, which may say it in three hundred characters or not at all."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.errno is not None:
            return inner
        inner = inner.__cause__ or inner.__context__
    return error


def _is_locked(path: Path) -> bool:
    """Whether another process holds this lock."""
    if not hasattr(os, "lockf"):  # Windows
        return path.exists()
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        os.lockf(descriptor, os.F_TEST, 0)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def main() -> None:
    """What the process does: the first line of its input says what to send, the next one that the run is over."""
    request = json.loads(sys.stdin.readline())
    with suppress(OSError, AttributeError):  # the training comes first where they share a core
        os.nice(10)
    sender = Sender(Path(request.pop("run")), **request)

    def listen() -> None:
        sys.stdin.readline()
        sender.over.set()

    for task in (listen, sender.end_in_time):
        threading.Thread(target=task, daemon=True).start()
    try:
        code = sender.run()
    except Exception:
        traceback.print_exc()
        code = FAILED
    sender.over.set()  # what libraries do when a process ends has a limit too
    sys.exit(code)
