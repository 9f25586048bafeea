import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ptb.cli import main
from ptb.config.layers import RunConfig
from ptb.config.resolve import resolve
from ptb.registry.registry import Registry

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
PAGE = PAGES / "use-callbacks.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)


def commands():
    """Those of the page, each with the lines that it shows."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            yield command, shown


@pytest.mark.slow
def test_it_goes_as_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command, shown in commands():
        done = CliRunner().invoke(main, shlex.split(command)[1:])  # in this process, which has imported torch
        refused = any(line.startswith("error:") for line in shown)
        assert (done.exit_code != 0) == refused, f"{command}\n{done.output}"
        for line in shown:
            assert line == "..." or line in done.output.splitlines(), f"{command}\n{done.output}"


def test_every_built_in_callback_has_a_section(built_in: Registry):
    pages = [page.read_text(encoding="utf-8") for page in (PAGE, PAGES / "track-runs.md")]
    titles = re.findall(r"^## .*: ([\w-]+)$", "\n".join(pages), re.M)
    assert sorted(titles) == [entry.name for entry in built_in.components("callback")]


def test_the_file_is_a_configuration(built_in: Registry, tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "run.toml").write_text(text)
    callbacks = resolve(RunConfig.read([tmp_path / "run.toml"]), built_in).callbacks
    assert {label: each.entry.name for label, each in callbacks.items()} == {
        "ema": "ema",
        "by-accuracy": "best-checkpoint",
    }
