import re
import shlex
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "train-fast.md"


def commands():
    """Those of the page, each with the first line that it shows."""
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            yield tuple(part.splitlines()[:2])


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), list(commands()), ids=[command for command, _ in commands()])
def test_a_command_prints_what_the_page_shows(command, shown, tmp_path, run_python):
    words = [sys.executable, "-m", *shlex.split(command)]
    words += ["--device", "cpu"]
    done = run_python(words, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    first = (done.stdout + done.stderr if "bench" in command else done.stderr).splitlines()[0]
    assert first.startswith(shown.removesuffix(" ..."))
