import json
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "survive-broken-plugins.md"


def steps():
    """The page's commands in order, each with its exit code and the lines that the page shows for it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            if command == "echo $?":
                found[-1][1] = int(shown[0])
            elif not command.startswith("export "):
                found.append([command, 0, shown])
    return found


def seen(line, printed):
    """Whether a line was printed; ``...`` stands for any text, and so do columns of another width."""
    pattern = r"\s*".join(r".*?" if word == "..." else re.escape(word) for word in line.split())
    return re.search(rf"^\s*{pattern}", printed, re.M) is not None


@pytest.mark.slow
def test_the_day_goes_as_the_page_shows(tmp_path, run_python, ptb_here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("bad-day")
    for name, value in {"PYTHONPATH": "bad-day", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    for command, code, shown in steps():
        words = shlex.split(command)
        if words[1:3] == ["plugins", "bisect"]:
            done = ptb_here(*words[1:])
        else:
            words = ["-m", *words] if words[0] == "ptb" else [str(ROOT / words[1]), *words[2:]]
            done = run_python([sys.executable, *words], cwd=tmp_path, timeout=240)
        assert done.returncode == code, f"{command}\n{done.stderr}"
        for line in shown:
            assert seen(line, done.stdout + done.stderr), f"{command}\nshows: {line}\n{done.stdout}{done.stderr}"
    among, alone = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("among-them", "alone"))
    assert among["weights_sha256"] == alone["weights_sha256"]


def test_a_line_that_is_not_printed_is_noticed():
    assert seen("ptb-two  1.0  ...  end", "x\nptb-two 1.0 and the end\n")
    assert not seen("ptb-two  1.1", "ptb-two 1.0\n")
