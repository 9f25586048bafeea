"""Pages that go from nothing to the result, and the whole way of the README: a reader's commands, one after another."""

import os
import re
import shlex
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner

from ptb.cli import main

ROOT = Path(__file__).parents[2]
PAGES = ("train-on-your-table", "train-on-your-pictures", "use-the-trained-model", "train-longer", "read-the-report")
FILE = r"^`([\w./]+)`:\n\n```(?:python|toml)\n(.*?)^```$"
PIPED = re.compile(r"echo '([^']*)' \| (ptb .*)")
COMMANDS = r"^```console\n(.*?)^```$"


def steps(text):
    """What stands in a page in order: files to write, as pairs, and commands with the lines that are shown."""
    for match in re.finditer(f"{FILE}|{COMMANDS}", text, re.S | re.M):
        if match[1]:
            yield match[1], match[2]
            continue
        for part in re.split(r"^\$ ", match[3], flags=re.M)[1:]:
            command, *shown = part.splitlines()
            yield None, (command, shown)


def run_here(arguments, folder):
    """``ptb`` in this process, which imports what exporting needs once for all pages."""
    with chdir(folder):
        done = CliRunner().invoke(main, arguments, prog_name="ptb")
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def follow(text, folder, run_python):
    """Do what the page says, in bash where it asks for more than a program, and hold what is printed against it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = []
    for file, content in steps(text):
        if file:
            (folder / file).write_text(content, encoding="utf-8")
            continue
        command, shown = content
        piped = PIPED.fullmatch(command)
        words = shlex.split(piped[2] if piped else command, comments=True)
        if words[:2] == ["ptb", "export"]:
            ran = run_here(words[1:], folder)
        elif words[0] in ("ptb", "python"):
            words = [sys.executable, *(["-m", "ptb"] if words[0] == "ptb" else []), *words[1:]]
            ran = run_python(words, cwd=folder, env=environment, input=f"{piped[1]}\n" if piped else "")
        else:
            ran = subprocess.run(["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True)
        refused = any(line.startswith("error:") for line in shown)
        assert (ran.returncode != 0) == refused, f"{command}\n{ran.stdout}{ran.stderr}"
        printed = (ran.stdout + ran.stderr).replace(f"{folder}{os.sep}", "").splitlines()
        for line in shown:
            begin, dots, _ = line.partition("...")
            right = any(each.startswith(begin) if dots else each.rstrip() == line for each in printed)
            assert line == "..." or right, f"{command}\nshows: {line}\n{ran.stdout}{ran.stderr}"
        done.append(command)
    return done


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_goes_from_nothing_to_the_result(page, tmp_path, run_python):
    pytest.importorskip("pandas")
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    commands = follow(text, tmp_path, run_python)
    assert sum(command.startswith("ptb run") for command in commands) >= 1
    assert list(tmp_path.glob("runs/*/MODEL_CARD.md")) or list(tmp_path.glob("*/MODEL_CARD.md"))


@pytest.mark.slow
def test_the_whole_way_of_the_readme(tmp_path, run_python):
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## The whole way\n")[1].split("\n## ")[0]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    data, rest = section.split("$ ptb", 1)
    follow(f"{data}```\n", tmp_path, run_python)
    pictures = sorted((tmp_path / "pictures").glob("*/*.png"))
    assert len(pictures) == 1797
    for picture in [picture for number, picture in enumerate(pictures) if number % 4]:
        picture.unlink()  # a quarter of them is enough
    commands = follow(f"```console\n$ ptb{rest}", tmp_path, run_python)
    assert [each.split()[1] for each in commands] == ["run", "eval", "predict", "export", "run"]
    predicted = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(predicted) == 1 + len(list((tmp_path / "pictures" / "7").iterdir())) > 40
    assert (tmp_path / "digits.pt2").stat().st_size > 100_000
    assert '"epoch": 30' in (tmp_path / "runs" / "longer" / "summary.json").read_text()


def test_what_a_page_does_not_show_is_noticed(tmp_path, run_python):
    page = "```console\n$ ptb --version\nptb 7.7.7\n```\n"
    with pytest.raises(AssertionError, match=r"shows: ptb 7\.7\.7"):
        follow(page, tmp_path, run_python)
    with pytest.raises(AssertionError, match="No such option"):
        follow("```console\n$ ptb --nonsense\n```\n", tmp_path, run_python)
