"""The plugin of the README and those of the scaffold are installed from a folder in which ptb was used."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ptb_testing.scaffold import write_plugin

ROOT = Path(__file__).parents[2]


def of_the_readme(folder):
    blocks = re.findall(
        r"```(?:toml|python)\n# (pyproject\.toml|\w+\.py)\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    folder.mkdir()
    for name, text in blocks:
        (folder / name).write_text(text)
    assert [name for name, _ in blocks] == ["pyproject.toml", "ptb_acme.py"]
    return folder


@pytest.mark.parametrize("source", ["readme", "scaffold"])
def test_it_is_installed_beside_the_runs_and_the_data(source, tmp_path):
    if source == "readme":
        folder = of_the_readme(tmp_path / "ptb-acme")
    else:
        folder, _ = write_plugin("ptb-acme", "model", tmp_path)
    for file in ("runs/20260101-mine/config.toml", "data/train/a.txt", "notebooks/one.py", "scratch.py"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")
    target = tmp_path / "site"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    there = {path.name for path in target.iterdir() if not path.name.endswith("-info")}
    (module,) = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]["ptb"].values()
    assert {name.removesuffix(".py") for name in there} - {"__pycache__"} == {module}


def test_without_the_names_of_its_modules_it_is_not(tmp_path):
    """So that the test above can fail."""
    folder = of_the_readme(tmp_path / "ptb-acme")
    file = folder / "pyproject.toml"
    file.write_text(re.sub(r"(?m)^\[tool\.setuptools\]\n.*\n", "", file.read_text()))
    for name in ("runs", "data"):
        (folder / name).mkdir()
        (folder / name / "x.txt").write_text("")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    done = subprocess.run([*command, str(tmp_path / "site"), str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "Multiple top-level" in done.stdout + done.stderr
