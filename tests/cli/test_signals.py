import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

LONG = ("run", "--model", "mlp", "--epochs", "100000", "--output", "out", "dataset.size=8")


def started(tmp_path, **options):
    """A run that has trained its first epoch."""
    process = subprocess.Popen([sys.executable, "-m", "ptb", *LONG], cwd=tmp_path, text=True, **options)
    metrics = tmp_path / "out" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_saves_and_says_so(ptb, tmp_path, number, code):
    process = started(tmp_path, stderr=subprocess.PIPE)
    try:
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in told
    assert f"stopped by {number.name} after step" in told
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    evaluated = json.loads(ptb("eval", "out", "--json").stdout)
    assert evaluated["step"] == summary["step"]


def test_on_a_terminal_there_is_a_bar(tmp_path):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ptb", "run", "--model", "mlp", "--epochs", "30", "--output", "out"],
        cwd=tmp_path,
        stderr=follower,
        stdout=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(follower)
    seen = b""
    try:
        while chunk := read(leader):
            seen += chunk
        result, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert process.returncode == 0
    assert b"epoch 30/30  train loss" in seen
    assert b"steps" in seen
    assert b"\x1b[" in seen
    assert result.startswith(b"finished: 30 epochs")


def read(leader):
    try:
        return os.read(leader, 65536)
    except OSError:  # the other end is closed
        return b""
