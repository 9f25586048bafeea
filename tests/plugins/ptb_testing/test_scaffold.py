import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest
from click.testing import CliRunner

from ptb.cli.errors import PtbGroup
from ptb.errors import ConfigError, StorageError
from ptb.kinds import KINDS
from ptb_testing import check_plugin
from ptb_testing.kit import KITS, minimum
from ptb_testing.scaffold import SAMPLES, write_plugin

LETTERS = "abcdefghij"


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A package of each kind beside each other, with names as long as ptb-acme."""
    folder = tmp_path_factory.mktemp("packages")
    return {
        kind: write_plugin(f"ptb-acm{letter}", kind, folder)[0] for kind, letter in zip(SAMPLES, LETTERS, strict=True)
    }


def test_there_is_a_template_for_every_kind():
    assert list(SAMPLES) == list(KITS) == [*KINDS, "command"]


def test_its_tests_pass_as_generated(packages):
    # other plugins of pytest are no matter of the package, and take a second to load
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=packages["command"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > minimum("command")


def test_they_are_what_a_careful_author_writes(packages):
    for check in (("check", "--extend-select", "I,B,UP,SIM,RUF"), ("format", "--check")):
        command = [sys.executable, "-m", "ruff", *check, "--isolated", "."]
        done = subprocess.run(command, cwd=packages["model"].parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    for kind in KINDS:
        target = (packages[kind] / packages[kind].name.replace("-", "_") / f"{kind}.py").read_text()
        assert re.search(r"^\w+ = Annotated\[\w+, Field\(.*description=", target, re.M), kind


def test_the_command_answers_and_refuses(packages, monkeypatch):
    monkeypatch.syspath_prepend(packages["command"])
    target = importlib.import_module("ptb_acmj.command").acmj_command
    done = CliRunner().invoke(target, ["--model", "lenet", "--epochs", "2", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"schema": 1, "sections": {"model": 1, "trainer": 1}})
    refused = CliRunner().invoke(PtbGroup("ptb", commands=[target]), [target.name])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "error: nothing is set; give options of `ptb run`: --model lenet" in refused.stderr


@pytest.mark.parametrize(
    ("name", "kind", "package", "component", "target"),
    [
        ("ptb-acme", "model", "ptb_acme", "acme-model", "AcmeModel"),
        ("ptb-acme", "dataset", "ptb_acme", "acme-dataset", "acme_dataset"),
        ("ptb-acme", "optimizer", "ptb_acme", "acme-optimizer", "AcmeOptimizer"),
        ("ptb-acme", "callback", "ptb_acme", "acme-callback", "AcmeCallback"),
        ("ptb-acme", "plot", "ptb_acme", "acme-plot", "acme_plot"),
        ("ptb-acme", "command", "ptb_acme", "acme-command", "acme_command"),
        ("Acme.Vision_2", "loss", "acme_vision_2", "acme-vision-2-loss", "AcmeVision2Loss"),
        ("ptb-3d", "metric", "ptb_3d", "3d-metric", "Ptb3dMetric"),
        ("ptb-3d", "scheduler", "ptb_3d", "3d-scheduler", "ptb_3d_scheduler"),
        ("PTB_class", "initializer", "ptb_class", "class-initializer", "class_initializer"),
    ],
)
def test_it_keeps_its_contract_and_is_named_after_the_distribution(
    tmp_path, monkeypatch, name, kind, package, component, target
):
    folder, commands = write_plugin(name, kind, tmp_path)
    assert folder == tmp_path / name
    tests = "tests/test_contract.py"
    assert files_of(folder) == sorted(
        ["README.md", f"{package}/__init__.py", f"{package}/{kind}.py", "pyproject.toml", tests]
    )
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    (points,) = project["entry-points"].values()
    assert (project["name"], list(points.values())) == (name, [package])
    assert project["dependencies"] == [f"pytorch-basics>={version('pytorch-basics')}"]
    assert f"{component} " in f"{commands[-1]} "
    monkeypatch.syspath_prepend(folder)
    try:
        report = check_plugin(folder)
        module = sys.modules[package]
    finally:
        for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == package]:
            del sys.modules[loaded]
    assert module.__file__.startswith(str(folder))
    assert report.green
    assert [each.name for each in report.components] == [component]
    assert hasattr(module, kind)
    assert hasattr(getattr(module, kind), target)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "cannot name a distribution"),
        ("ptb acme", "cannot name a distribution"),
        ("-acme", "cannot name a distribution: it may have letters"),
        ("acme-", "cannot name a distribution"),
        ("../acme", "cannot name a distribution"),
        ("ptb-äcme", "cannot name a distribution"),
        ("3d", "would be imported as '3d', which is no module name; try ptb-3d"),
        ("class", "would be imported as 'class', which is no module name; try ptb-class"),
        ("json", "would be imported as 'json', which is there already"),
        ("ptb", "would be imported as 'ptb', which is there already"),
        ("Ptb.Models", "would be imported as 'ptb_models', which is there already"),
        ("PyTorch_Basics", "'PyTorch_Basics' is ptb itself"),
        ("sys", "would be imported as 'sys', which is there already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(tmp_path, name, message):
    with pytest.raises(ConfigError) as error:
        write_plugin(name, "model", tmp_path)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "ptb-acme").mkdir()
    (tmp_path / "ptb-acme" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already, and is not empty"):
        write_plugin("ptb-acme", "model", tmp_path)
    assert files_of(tmp_path) == ["ptb-acme/notes.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "ptb-acme").mkdir()
    folder, _ = write_plugin("ptb-acme", "model", tmp_path)
    assert (folder / "pyproject.toml").is_file()


def test_a_file_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "ptb-acme").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_plugin("ptb-acme", "model", tmp_path)
    assert (tmp_path / "ptb-acme").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"cannot write .*file"):
        write_plugin("ptb-acme", "model", tmp_path / "file")
