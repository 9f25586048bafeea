"""The process that starts the others: what it passes on, and when it waits no longer."""

import signal
import subprocess
import sys

import pytest

DEAF = """
import subprocess, sys
from ptb.distributed import launcher

deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
launcher._start = lambda *_: subprocess.Popen([sys.executable, "-c", deaf])
sys.exit(launcher.launch(2, []))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to pass on")
def test_a_second_signal_ends_processes_that_hear_none():
    run = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert [run.stdout.readline() for _ in range(2)] == ["up\n", "up\n"]
    run.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(timeout=0.5)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=30)
    assert (run.returncode, said) == (143, "error: ended by a second SIGTERM\n")
