import os
import sys
import time

import pytest

from ptb_doctor import processes
from ptb_doctor.processes import Child, Ended, python


def run(code, seconds=60.0):
    with Child([sys.executable, "-c", code]) as child:
        return child.wait(seconds)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("code", "status", "how"),
    [
        ("", 0, "exit status 0"),
        ("raise SystemExit(7)", 7, "exit status 7"),
        ("import os; os.kill(os.getpid(), 11)", -11, "killed by SIGSEGV"),
    ],
    ids=["done", "error", "signal"],
)
def test_how_a_process_ended(code, status, how):
    ended = run(code)
    assert (ended.status, ended.how) == (status, how)


def test_a_signal_without_a_name_is_told_by_its_number():
    assert Ended(-1000, "", "").how == "killed by signal 1000"


def test_one_that_hangs_is_stopped_in_time():
    start = time.monotonic()
    ended = run("import time; print('began', flush=True); time.sleep(100)", seconds=0.5)
    assert time.monotonic() - start < 30
    assert (ended.status, ended.how, ended.output) == (None, "does not come to an end", "began\n")


def test_what_it_writes_is_kept_apart():
    ended = run("import sys; print('out'); print('a\\n b \\n\\n', file=sys.stderr)")
    assert ended.output == "out\n"
    assert ended.last_line == "b"
    assert run("").last_line == ""


def test_it_does_not_wait_for_somebody_to_type():
    kept, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    try:
        assert run("input()", seconds=20).last_line == "EOFError: EOF when reading a line"
    finally:
        os.dup2(kept, 0)
        for number in (kept, reading, writing):
            os.close(number)


def test_of_very_much_output_the_end_is_kept(monkeypatch):
    monkeypatch.setattr(processes, "MAX_OUTPUT", 4)
    assert run("print('123456')").output == "456\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")
def test_nothing_that_it_started_is_left_behind():
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(child.pid)
"""
    pid = int(run(code).output)
    deadline = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")
def test_leaving_the_block_ends_it():
    with Child([sys.executable, "-c", "import time; time.sleep(100)"]) as child:
        pid = child._process.pid
        assert is_alive(pid)
    assert not is_alive(pid)


@pytest.mark.parametrize("first", ["", None, "/somewhere/bin"], ids=["empty", "current", "other"])
def test_the_current_folder_is_on_the_path_of_a_child_if_it_is_on_ours(monkeypatch, tmp_path, first):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only_here.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path) if first is None else first, *sys.path])
    with Child(python("-c", "import only_here")) as child:
        assert (child.wait(60).status == 0) is (first != "/somewhere/bin")
