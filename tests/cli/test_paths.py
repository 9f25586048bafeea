"""``~`` is the home directory in every path, also where no shell expands it, as in ``--output=~/x``."""

import click
import pytest

from ptb.cli import main
from ptb.cli.commands import PluginCommand
from ptb.internals import UserPath

SHORT = ("--model", "mlp", "--epochs", "1", "dataset.size=8", "model.hidden=[8]", "-q")


def every_command(group, context, name="ptb"):
    """All commands below a group, with what is typed to call each."""
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        if isinstance(command, PluginCommand):
            command = command.load()
        if isinstance(command, click.Group):
            yield from every_command(command, click.Context(command, info_name=word, parent=context), f"{name} {word}")
        else:
            yield f"{name} {word}", command


def test_every_path_of_every_command_expands_the_home_directory():
    paths = [
        (name, option)
        for name, command in every_command(main, main.make_context("ptb", [], resilient_parsing=True))
        for option in getattr(command, "params", ())
        if isinstance(option.type, click.Path | click.File)
    ]
    assert len(paths) >= 8
    assert [(name, option.name) for name, option in paths if not isinstance(option.type, UserPath)] == []


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_run_is_made_evaluated_and_resumed_below_it(ptb, home, tmp_path):
    assert ptb("run", *SHORT, "--output=~/x", "--stop-after", "20").returncode == 0
    assert (home / "x" / "config.toml").exists()
    for command in (["resume", "~/x"], ["eval", "~/x@last"], ["run", *SHORT, "--output=~/x", "--resume", "auto"]):
        done = ptb(*command)
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("command", [["plugins", "check", "~/own.py"], ["-p", "~/own.py", "show", "model", "own"]])
def test_a_plugin_file_may_be_in_it(ptb, home, command):
    source = "from torch import nn\nfrom ptb import Component, hookimpl\n\nclass Own(nn.Linear):\n"
    source += "    def __init__(self, spec):\n        super().__init__(spec.input_shape[0], spec.output_size)\n\n"
    source += "@hookimpl\ndef ptb_provide_models():\n    return [Component('own', f'{__name__}:Own')]\n"
    (home / "own.py").write_text(source)
    done = ptb(*command)
    assert "own" in done.stdout, done.stderr
    assert "there is no" not in done.stderr


@pytest.mark.parametrize("name", ["x.npz", "t.csv"])
def test_so_are_the_paths_among_the_settings(ptb, home, name):
    """What is missing is named where it was looked for."""
    data = ["--dataset", "csv", f"dataset.path=~/{name}", "dataset.target=y"]
    done = ptb("check", "--model", "mlp", *data)
    assert done.returncode == 3
    assert str(home / name) in done.stderr
