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


# The command, measuring a tenth of the samples.
LESS = """
import sys
from ptb.cli import main
from ptb_bench import measure
measure.SMALL_SAMPLES, measure.LOADED, measure.EMPTY_EPOCHS = 2_000, (6_000, 784), 20
main(sys.argv[1:], prog_name="ptb")
"""


def ten_times(line):
    """The line with ten times as many samples."""
    return re.sub(
        r"[\d,]+(?= (train|val|test|samples) )", lambda found: f"{int(found[0].replace(',', '_')) * 10:,}", line
    )


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), list(commands()), ids=[command for command, _ in commands()])
def test_a_command_prints_what_the_page_shows(command, shown, tmp_path, run_python):
    words, measured = shlex.split(command), "bench" in command
    words = ["-c", LESS, *words[1:]] if measured else ["-m", *words]
    done = run_python([sys.executable, *words, "--device", "cpu"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = ten_times(done.stdout.splitlines()[0]) if measured else done.stderr.splitlines()[0]
    assert first.startswith(shown.removesuffix(" ..."))
