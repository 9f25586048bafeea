import os
import subprocess
import sys

import pytest


def complete(words, shell="bash", told=()):
    """What the shell would offer for the last of ``words``, and whether torch was imported for it."""
    code = (
        "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
        "from ptb.cli import main; main(prog_name='ptb')"
    )
    environment = os.environ | {
        "_PTB_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert sorted(done.stderr.split()) == sorted(["False", *told]), done.stderr
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ptb", "r"), ["report", "resume", "run", "runs"]),
        (("ptb", "config", "s"), ["show", "schema"]),
        (("ptb", "run", "--model", "l"), ["lenet", "linear"]),
        (("ptb", "run", "--dataset", "fash"), ["fashion-mnist"]),
        (("ptb", "run", "--init", "kai"), ["kaiming-normal", "kaiming-uniform"]),
        (("ptb", "show", "mo"), ["model"]),
        (("ptb", "show", "optimizer", "s"), ["sgd", "sparse-adam"]),
        (("ptb", "show", "nonsense", "s"), []),
        (("ptb", "run", "--ep"), ["--epochs"]),
    ],
)
def test_commands_kinds_and_components_are_completed_without_torch(words, offered):
    assert sorted(complete(words)) == sorted(offered)


def test_what_a_plugin_prints_is_not_offered(site, monkeypatch):
    site.add("ptb-loud", "import os; print('plain,le-print'); os.write(1, b'plain,le-write\\n'); raise RuntimeError")
    monkeypatch.setenv("PYTHONPATH", str(site.path))
    assert complete(("ptb", "run", "--model", "le"), told=["plain,le-print", "plain,le-write"]) == ["lenet"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell):
    if shell == "bash" and not os.path.exists("/bin/bash"):
        pytest.skip("click asks bash for its version, and there is none here")
    environment = os.environ | {"_PTB_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-m", "ptb"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "_PTB_COMPLETE" in done.stdout
