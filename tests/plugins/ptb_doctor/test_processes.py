import os
import signal
import sys
import time

import pytest

from ptb.errors import InterruptedRunError
from ptb_doctor import processes
from ptb_doctor.processes import Ended, ended_by_signals, python, run


def code(text, seconds=60.0):
    return run([sys.executable, "-c", text], seconds=seconds)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "status", "how"),
    [
        ("", 0, "exit status 0"),
        ("raise SystemExit(7)", 7, "exit status 7"),
        ("import os; os.kill(os.getpid(), 11)", -11, "killed by SIGSEGV"),
    ],
    ids=["done", "error", "signal"],
)
def test_how_a_process_ended(text, status, how):
    ended = code(text)
    assert (ended.status, ended.how) == (status, how)


def test_a_signal_without_a_name_is_shown_by_its_number():
    assert Ended(-1000).how == "killed by signal 1000"


def test_one_that_hangs_is_stopped_in_time():
    start = time.monotonic()
    ended = code("import time; print('began', flush=True); time.sleep(100)", seconds=0.5)
    assert time.monotonic() - start < 30
    assert (ended.status, ended.how, ended.output) == (None, "does not end", "began\n")


@pytest.mark.parametrize(
    ("errors", "error", "text"),
    [
        ("warning: w\nerror: it broke:\n  so\n  much\nnext\n", "it broke: so much", "exit status 1, it broke: so much"),
        ("Usage: ptb\n\nError: No such option '-z'.\n", "No such option '-z'.", "exit status 1, No such option '-z'."),
        ("Traceback\nKeyError: 'a'\n\n", "", "exit status 1, KeyError: 'a'"),
        ("", "", "exit status 1"),
    ],
    ids=["ptb", "click", "traceback", "silent"],
)
def test_the_error_is_on_one_line_and_else_the_last_words_are_shown(errors, error, text):
    ended = Ended(1, "error: on standard output\n", errors)
    assert (ended.error, str(ended)) == (error, text)


def test_it_reads_nothing_and_what_it_writes_is_kept_apart():
    kept, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    try:
        ended = code("print('out'); input()", seconds=20)
    finally:
        os.dup2(kept, 0)
        for number in (kept, reading, writing):
            os.close(number)
    assert ended.output == "out\n"
    assert str(ended) == "exit status 1, EOFError: EOF when reading a line"


def test_of_very_much_output_the_end_is_kept(monkeypatch):
    monkeypatch.setattr(processes, "MAX_OUTPUT", 4)
    assert code("print('123456')").output == "456\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")
def test_nothing_that_it_started_is_left_behind():
    ended = code(
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)']).pid)"
    )
    deadline = time.monotonic() + 10
    while is_alive(int(ended.output)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_signal_ends_it_and_the_handlers_come_back(tmp_path):
    former = signal.getsignal(signal.SIGTERM)
    note = tmp_path / "pid"
    text = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); os.kill({os.getpid()}, 15)"
    with pytest.raises(InterruptedRunError, match="stopped by SIGTERM") as caught, ended_by_signals():
        code(f"{text}; time.sleep(100)")
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is former
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


@pytest.mark.parametrize("first", ["", None, "/somewhere/bin"], ids=["empty", "current", "other"])
def test_the_current_folder_is_on_the_path_of_a_command_if_it_is_on_ours(monkeypatch, tmp_path, first):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only_here.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path) if first is None else first, *sys.path])
    assert (run(python("-c", "import only_here")).status == 0) is (first != "/somewhere/bin")
