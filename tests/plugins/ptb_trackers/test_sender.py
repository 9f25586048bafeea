import os
import threading
from types import SimpleNamespace

import pytest

from ptb_trackers import sender as module
from ptb_trackers.about import KILLED
from ptb_trackers.sender import DONE, FAILED, GAVE_UP, Sender
from ptb_trackers.state import State
from recorded_runs import append, end, rows_of


class Memory:
    """A tracker that keeps what it gets; ``errors`` are raised in turn, by the method that they are for."""

    def __init__(self, *, late=False):
        self.destination = "memory"
        self.confirms_late = late
        self.errors = []
        self.opened, self.rows, self.outcomes, self.gone = [], [], [], False

    def is_gone(self, id):
        return self.gone

    def open(self, about, state, seconds):
        self._fail("open")
        self.opened.append(about)
        state.id = about.id

    def send(self, rows):
        self._fail("send")
        self.rows += rows

    def finish(self, outcome):
        self._fail("finish")
        self.outcomes.append(outcome and outcome.status)

    def close(self):
        pass

    def _fail(self, method):
        if self.errors and self.errors[0] == method:
            self.errors.pop(0)
            raise ConnectionError(f"no {method}")


@pytest.fixture
def store(monkeypatch):
    store = Memory()
    monkeypatch.setattr(module, "load_store", lambda *_: store)
    monkeypatch.setattr(module, "RETRY", 0.01)
    monkeypatch.setattr(module, "POLL", 0.01)
    return store


def sender(run, *, over=True):
    made = Sender(run, "memory", "memory", {}, 1.0)
    if over:
        made.over.set()
    return made


def steps(store):
    return [(row.step, row.split) for row in store.rows]


ALL = [(10, "train"), (10, "val"), (20, "train"), (20, "val"), (10, "test")]


def test_a_run_that_is_over_is_sent_whole_and_once(made, store):
    run = made(tags=["a"])
    assert sender(run).run() == DONE
    assert steps(store) == ALL
    assert store.outcomes == ["finished"]
    assert store.opened[0].tags == ["a"]
    assert sender(run).run() == DONE
    assert len(store.opened) == 1


def test_rows_are_sent_as_they_come(made, store):
    run = made(status=None)
    running = sender(run, over=False)
    thread = threading.Thread(target=running.run)
    thread.start()
    for epoch in (3, 4):
        append(run, *list(rows_of(epoch))[-2:])
        while len(store.rows) < 2 * epoch:
            assert thread.is_alive()
    end(run)
    running.over.set()
    thread.join(10)
    assert steps(store) == [(step, split) for step in (10, 20, 30, 40) for split in ("train", "val")]
    assert store.outcomes == ["finished"]


@pytest.mark.parametrize("method", ["open", "send", "finish"])
@pytest.mark.parametrize("late", [False, True])
def test_what_failed_is_tried_again(made, store, method, late):
    run = made()
    store.confirms_late, store.errors = late, [method, method]
    assert sender(run).run() == FAILED
    state = State.read(run, "memory")
    assert state.problem == f"ConnectionError: no {method}"
    assert state.ended is None
    assert state.position.step == (20 if method == "finish" and not late else -1)
    assert sender(run).run() == FAILED
    store.rows = store.rows if not late else []  # such a tracker asks its server which of them are there
    assert sender(run).run() == DONE
    assert steps(store) == ALL
    assert State.read(run, "memory").problem == ""


def test_a_sender_tries_again_until_the_run_is_over(made, store):
    run = made(status=None)
    store.errors = ["open", "open", "send"]
    running = sender(run, over=False)
    thread = threading.Thread(target=running.run)
    thread.start()
    while len(store.rows) < 4:
        assert thread.is_alive()
    end(run)
    running.over.set()
    thread.join(10)
    assert steps(store) == ALL[:4]


def test_a_process_that_was_killed_ends_its_run(made, store):
    run = made(status=None)
    assert sender(run).run() == DONE
    assert store.outcomes == [KILLED]


def test_a_run_that_another_process_trains_is_not_ended(made, store, monkeypatch):
    monkeypatch.setattr(module, "_is_locked", lambda path: path.name == ".lock")
    assert sender(made(status=None)).run() == DONE
    assert store.outcomes == [None]


def test_another_destination_gets_everything(made, store):
    run = made()
    sender(run).run()
    store.destination = "elsewhere"
    sender(run).run()
    assert steps(store) == ALL * 2


def test_what_is_gone_is_sent_anew(made, store):
    run = made()
    sender(run).run()
    store.gone = True
    sender(run).run()
    assert steps(store) == ALL * 2


def test_a_state_that_cannot_be_written_stops_nothing(made, store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(State, "write", full)
    assert sender(made()).run() == FAILED  # what was sent could not be noted
    assert store.outcomes == []


def test_the_error_of_the_system_is_shown(made, store):
    class LibraryError(Exception):
        pass

    def refused(*_):
        try:
            try:
                raise ConnectionRefusedError(111, "Connection refused")
            except OSError as error:
                raise OSError("no errno, as in requests") from error
        except OSError:
            raise LibraryError("x" * 300)  # noqa: B904  # libraries do this

    run, store.open = made(), refused
    assert sender(run).run() == FAILED
    assert State.read(run, "memory").problem == "ConnectionRefusedError: [Errno 111] Connection refused"


@pytest.mark.parametrize("told", [True, False])
def test_a_tracker_that_hangs_is_left_in_time(made, monkeypatch, told):
    """The end is noticed by the summary too, without a word of the process that trains."""
    codes = []
    monkeypatch.setattr(module, "os", SimpleNamespace(_exit=codes.append))
    monkeypatch.setattr(module, "POLL", 0.01)
    hanging = Sender(made(status=None if told else "finished"), "memory", "memory", {}, 0.01)
    hanging.loaded.set()
    if told:
        hanging.over.set()
    hanging.end_in_time()
    assert codes == [GAVE_UP]


def test_the_lock_of_a_living_process_is_seen(tmp_path, run_python):
    (tmp_path / ".lock").touch()
    assert not module._is_locked(tmp_path / ".lock")
    assert not module._is_locked(tmp_path / "none")
    descriptor = os.open(tmp_path / ".lock", os.O_RDWR)
    os.lockf(descriptor, os.F_LOCK, 0)
    try:
        program = (
            "import sys, pathlib; from ptb_trackers.sender import _is_locked; print(_is_locked(pathlib.Path('.lock')))"
        )
        seen = run_python([module.sys.executable, "-c", program], cwd=tmp_path)
        assert seen.stdout == "True\n"
    finally:
        os.close(descriptor)
