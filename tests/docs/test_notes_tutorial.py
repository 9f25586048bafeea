import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "tutorial"
ENGLISH = FOLDER / "pytorch-basics.md"
CHINESE = FOLDER / "pytorch-basics.zh.md"
HIDE_GPUS = "CUDA_VISIBLE_DEVICES= "
MASKS = (
    (r"cpu \([^)]*\)", "DEVICE"),
    (r"(loss|accuracy|mae|rmse) [\d.]+", r"\1 #"),
    (r"[\d.]+ s of training \([\d,]+ samples/s\)", "#"),
)
# one process for all of them: importing torch takes longer than most of the commands
DRIVER = """
import contextlib, io, json, sys
from ptb.cli import main
done = []
for arguments in json.load(sys.stdin):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            main(arguments, prog_name="ptb")
        except SystemExit as end:
            code = end.code
    done.append((code, text.getvalue()))
print(json.dumps(done))
"""


def blocks(page):
    return re.findall(r"^```console\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)


def steps(page=ENGLISH):
    """The commands in order, each with the exit code and the lines that the page shows for it."""
    found = []
    for block in blocks(page):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            if command == "echo $?":
                found[-1][1] = int(shown[0])
            else:
                found.append([command, 0, shown])
    return found


def masked(text):
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text)
    return text.rstrip()


def headings(page):
    return re.findall(r"^#+(?= )", page.read_text(encoding="utf-8"), re.M)


def tables(page):
    """The first cells of the tables, where they hold code."""
    return re.findall(r"^\| (`[^|]*`) \|", page.read_text(encoding="utf-8"), re.M)


def test_every_kind_of_component_is_chosen():
    words = {word for command, _, _ in steps() for word in shlex.split(command)}
    assert words >= {"--model", "--dataset", "--init", "--loss", "--optimizer", "--scheduler", "--metric", "--device"}


def test_every_loss_and_optimizer_is_named(built_in):
    text = ENGLISH.read_text(encoding="utf-8")
    assert [
        e.name for kind in ("loss", "optimizer") for e in built_in.components(kind) if f"`{e.name}`" not in text
    ] == []


def test_both_languages_have_the_same_commands_output_and_parts():
    assert blocks(CHINESE) == blocks(ENGLISH)
    assert headings(CHINESE) == headings(ENGLISH)
    assert tables(CHINESE) == tables(ENGLISH)


@pytest.mark.slow
def test_the_commands_do_what_the_text_shows(tmp_path, run_python):
    commands = [shlex.split(command.removeprefix(HIDE_GPUS)) for command, _, _ in steps()]
    assert {words[0] for words in commands} == {"ptb"}
    done = run_python(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([words[1:] for words in commands]),
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for (command, code, shown), (ended, text) in zip(steps(), json.loads(done.stdout), strict=True):
        assert ended == code, f"{command}\n{text}"
        printed = {masked(line) for line in text.splitlines()}
        for line in shown:
            assert line == "..." or masked(line) in printed, f"{command}\nshows: {line}\n{text}"
