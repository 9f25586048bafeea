import os
import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import ptb
from ptb.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "import-weights.md"


def commands():
    """Those of the page, each with the lines that it shows."""
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            yield command, shown


def seen(line, printed):
    """Whether a line was printed; ``...`` at its end stands for any text."""
    return any(text.startswith(line[:-3]) if line.endswith("...") else text == line for text in printed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:loaded 8 of 10 tensors")  # it says which layer is new
def test_it_goes_as_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = ptb.DataSpec((1, 32, 32), "image", "class", 10)
    lenet = ptb.load_registry().build("model", "lenet", spec)
    state = {f"module.{name}": value for name, value in lenet.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "lenet.pt")
    torch.save(lenet, tmp_path / "whole-model.pt")
    for command, shown in commands():
        done = CliRunner().invoke(main, shlex.split(command)[1:])  # in this process, which has imported torch
        refused = any(line.startswith("error:") for line in shown)
        assert (done.exit_code != 0) == refused, f"{command}\n{done.output}"
        printed = done.output.replace(f"{tmp_path}{os.sep}", "").splitlines()
        for line in shown:
            assert seen(line, printed), f"{command}\nshows: {line}\n{done.output}"


def test_a_line_that_is_not_printed_is_noticed():
    assert seen("ok: lenet ...", ["x", "ok: lenet on digits"])
    assert not seen("ok: lenet", ["ok: lenet on digits"])


def test_the_page_shows_every_command_of_the_way():
    shown = [command.split()[1] for command, _ in commands()]
    assert shown == ["run", "run", "import-torch", "run", "import-torch", "check", "check"]
