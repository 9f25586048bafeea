import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ptb.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "how-to" / "draw-a-run.md"
PICTURES = DOCS / "explanation" / "what-the-pictures-say.md"


def text(page):
    return page.read_text(encoding="utf-8")


def named(lines):
    return {name for line in lines for name in re.findall(r"`([a-z-]+)`", line)}


def test_both_pages_name_every_plot_and_no_other(built_in):
    plots = {entry.name for entry in built_in.components("plot")}
    rows = re.findall(r"^\| (`.*?) \|", text(PAGE), re.M)
    assert named(rows) == plots
    headings = re.findall(r"^## (.*?):", text(PICTURES), re.M)
    assert {name for heading in headings for name in re.split(", | and ", heading)} == plots


def test_every_picture_is_shown_with_words_for_those_who_do_not_see_it_and_all_are_small():
    shown = dict(re.findall(r"!\[(.+?)\]\(\.\./gallery/(.+?)\)", text(PICTURES)))
    pictures = {path.name: path.stat().st_size for path in (DOCS / "gallery").glob("*.png")}
    assert set(shown.values()) == set(pictures)
    assert sum(pictures.values()) < 400_000


@pytest.mark.slow
def test_the_commands_of_the_page_do_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```console\n(.*?)^```$", text(PAGE), re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            if command.startswith("ptb ") and "parallel" not in command:  # its page needs ECharts, of the report
                done = CliRunner().invoke(main, shlex.split(command)[1:])
                assert done.exit_code == 0, f"{command}\n{done.output}"
                assert set(shown) <= set(done.output.splitlines()), f"{command}\n{done.output}"


def test_the_plot_of_the_page_about_plugins_works(tmp_path):
    page = text(DOCS / "how-to" / "write-a-plugin.md")
    (source,) = re.findall(r"^<!-- executed: plot -->\n```python\n(.*?)^```$", page, re.S | re.M)
    (tmp_path / "speed.py").write_text(source)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text("seed = 0\n")
    row = '{"step": 1, "epoch": 1, "split": "train", "values": {"loss": 1.0}, "samples_per_second": 3.0}\n'
    (run / "metrics.jsonl").write_text(row)
    done = CliRunner().invoke(main, ["-p", str(tmp_path / "speed.py"), "plot", "speed", str(run), "smooth=true"])
    assert (done.exit_code, done.stdout) == (0, f"drew 1 run into {run}/plots/speed.png\n"), done.output
