import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "first-run.md"
MASKS = (
    (r"(cpu|cuda:\d+) \([^)]*\)|\bmps\b", "DEVICE"),
    (r"(loss|accuracy) [\d.]+", r"\1 #"),
    (r"(val/\w+) [\d.e-]+", r"\1 #"),
    (r"[\d.]+ s of training", "# s of training"),
    (r"[\d,.]+ samples/s", "# samples/s"),
    (r"\d{8}-\d{6}", "TIME"),
)


def steps():
    """The tutorial's shell commands in order, each with the exit code and the lines that the text shows for it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            if command == "echo $?":
                found[-1][1] = int(shown[0])
                continue
            found += [[each, 0, shown] for each in command.split(" && ")]
    return [(command.removeprefix(".venv/bin/"), code, shown) for command, code, shown in found]


def masked(text):
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text)
    return text.rstrip()


def test_the_commands_are_found():
    ours = [command for command, _, _ in steps() if command.startswith("ptb ")]
    assert "ptb run --model lenet" in ours
    assert {command.split()[1] for command in ours} == {"run", "list", "show", "config", "check", "eval"}
    assert sorted(code for _, code, _ in steps() if code) == [2, 3]


@pytest.mark.slow
def test_the_commands_do_what_the_text_shows(tmp_path, run_python):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    for command, code, shown in steps():
        if not command.startswith("ptb "):
            continue
        done = run_python([sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, env=environment)
        assert done.returncode == code, f"{command}\n{done.stderr}"
        printed = {masked(line) for line in (done.stdout + done.stderr).splitlines()}
        for line in shown:
            assert line == "..." or masked(line) in printed, f"{command}\nshows: {line}\n{done.stdout}{done.stderr}"
    config = (tmp_path / "run.toml").read_text(encoding="utf-8").splitlines()
    ((_, _, shown),) = [step for step in steps() if step[0] == "cat run.toml"]
    assert set(shown) - {"..."} <= set(config)
    (first,) = (tmp_path / "runs").glob("*-lenet-digits")
    ((_, _, shown),) = [step for step in steps() if step[0].startswith("ls ")]
    assert sorted(path.name for path in first.iterdir()) == shown
    short, again = (json.loads((tmp_path / "runs" / run / "summary.json").read_text()) for run in ("short", "again"))
    assert short["weights_sha256"] == again["weights_sha256"]
