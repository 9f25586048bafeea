import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ptb.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "track-runs.md"


def commands():
    """Those of the page that need no server, each with the lines that it shows."""
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            if "localhost:5000" not in command:
                yield command, shown


@pytest.mark.slow
@pytest.mark.filterwarnings("default:callbacks.mlflow")  # the page shows it
def test_it_goes_as_the_page_shows(tmp_path, monkeypatch):
    for library in ("tensorboard", "mlflow", "wandb"):
        pytest.importorskip(library, reason=f"the extra {library} is not installed")
    monkeypatch.chdir(tmp_path)
    for command, shown in commands():
        done = CliRunner().invoke(main, shlex.split(command)[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}"
        for line in shown:
            begin = line.partition("...")[0].rstrip()
            assert any(each.startswith(begin) for each in done.output.splitlines()), f"{command}\n{done.output}"
