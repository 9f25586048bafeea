"""``ptb -p FILE.py``: a plugin for one command, from its listing to a run that is resumed."""

import hashlib
import json
import shutil

import pytest

from conftest import TINY

SOURCE = TINY.replace('"tiny:', 'f"{__name__}:').replace(
    "def __init__(self, spec)", "def __init__(self, spec, *, width: int = 4)"
)
RUN = ("run", "--model", "net", "--dataset", "line", "--epochs", "2", "-q", "--output", "mine")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mynet.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("command", [("list", "model"), ("plugins", "list"), ("show", "model", "net")])
def test_it_takes_part_before_and_after_the_command(ptb, file, command):
    before, after = ptb("-p", "./mynet.py", *command), ptb(*command, "-p", "./mynet.py")
    assert (before.returncode, before.stderr) == (0, "")
    assert before.stdout == after.stdout
    assert "mynet.py" in before.stdout
    assert "mynet.py" not in ptb("list").stdout


def test_it_has_settings_and_needs_no_other_plugin(ptb, file):
    done = ptb("--no-plugins", "-p", "mynet.py", "check", "--model", "net", "--dataset", "line", "model.width=x")
    assert done.returncode == 2
    assert "model.width: must be an integer" in done.stderr
    assert ptb("-p", "mynet.py", "check", "--model", "net", "--dataset", "line").returncode == 0


def test_a_run_keeps_it_and_nothing_runs_the_copy_by_itself(ptb, file, tmp_path):
    assert ptb("-p", "./mynet.py", *RUN, "--stop-after", "1").returncode == 0
    copy = tmp_path / "mine" / "plugins" / "mynet.py"
    assert copy.read_text() == SOURCE
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    sha = hashlib.sha256(SOURCE.encode()).hexdigest()
    assert manifest["plugin_files"]["mynet.py"]["files"] == {"mynet.py": sha}
    file.unlink()
    copied = "mine/plugins/mynet.py"
    for command in (["resume", "mine"], ["eval", "mine", "--split", "val"], ["check", "-c", "mine/config.toml"]):
        done = ptb(*command)
        assert done.returncode == 2
        assert f"is in a plugin file: add\n  -p {copied}\n" in done.stderr
        assert ptb(*command, "-p", copied).returncode == 0
    again = ("run", "-c", "mine/config.toml", "--locked", "-q", "--output", "again")
    refused = ptb(*again)
    assert refused.returncode == 7
    assert f"mynet.py is a file: add\n  -p {copied}\n" in refused.stderr
    assert ptb(*again, "-p", copied).returncode == 0
    hashes = [json.loads((tmp_path / run / "summary.json").read_text())["weights_sha256"] for run in ("mine", "again")]
    assert hashes[0] == hashes[1]


def test_a_file_that_has_changed_is_reported(ptb, file):
    assert ptb("-p", "./mynet.py", *RUN, "--stop-after", "1").returncode == 0
    file.write_text(SOURCE + "\n")
    locked = ptb("-p", "mynet.py", "run", "-c", "mine/config.toml", "--locked", "--dry-run")
    assert locked.returncode == 7
    assert "mynet.py: its files differ: mynet.py" in locked.stderr
    strict = ptb("-p", "mynet.py", "resume", "mine", "--strict-resume")
    assert strict.returncode == 5
    assert "plugin mynet.py: its files differ: mynet.py" in strict.stderr


def test_a_copy_that_is_gone_is_asked_for_by_its_name(ptb, file, tmp_path):
    assert ptb("-p", "./mynet.py", *RUN).returncode == 0
    shutil.rmtree(tmp_path / "mine" / "plugins")
    assert "add\n  -p PATH/mynet.py\n" in ptb("eval", "mine").stderr


@pytest.mark.parametrize(
    ("name", "source", "code", "message"),
    [
        ("gone.py", None, 2, "error: -p gone.py: there is no such file\n"),
        (".", None, 2, "must be a file such as ./mynet.py, or no:NAME, got '.'"),
        ("./", None, 2, "error: -p . is a folder; name the .py file in it, or install the package in it with pip\n"),
        ("bad.py", "x = 1\n1/0", 7, "'bad.py' cannot be used: ZeroDivisionError: division by zero (bad.py, line 2)\n"),
        ("bad.py", "x =", 7, "error: plugin 'bad.py' cannot be used: SyntaxError: invalid syntax (bad.py, line 1)\n"),
    ],
    ids=["missing", "no path", "folder", "raises", "syntax"],
)  # fmt: skip
def test_one_that_cannot_be_used_ends_the_command_with_one_message(ptb, tmp_path, name, source, code, message):
    if source:
        (tmp_path / name).write_text(source)
    for command in (("list",), ("run", "--model", "lenet")):
        done = ptb("-p", name, *command)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.endswith(message) or message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_name_of_a_built_in_stays_the_built_in_and_the_id_leads_to_the_file(ptb, file):
    file.write_text(SOURCE.replace('"net"', '"linear"'))
    done = ptb("-p", "mynet.py", "show", "model", "linear")
    assert done.returncode == 0
    assert "the name is also that of 'mynet.py:linear' (mynet.py)" in done.stderr
    assert "mynet.py:linear" in ptb("-p", "mynet.py", "show", "model", "mynet.py:linear").stdout


@pytest.mark.parametrize("given", ["./mynet.py", "mynet:Net"])
def test_a_file_in_place_of_a_name_gets_the_command(ptb, file, given):
    done = ptb("run", "--model", given)
    assert done.returncode == 2
    assert "\n  ptb -p ./mynet.py run --model N" in done.stderr.replace("--model net", "--model N")


def test_it_can_provide_a_command(ptb, file):
    file.write_text(
        "import click\nfrom ptb import Command, hookimpl\n\n"
        "@click.command()\ndef hello():\n    click.echo('hello')\n\n"
        "@hookimpl\ndef ptb_provide_commands():\n    return [Command('hello', f'{__name__}:hello')]\n"
    )
    assert ptb("-p", "mynet.py", "hello").stdout == "hello\n"


def test_the_kit_checks_a_file(ptb, file):
    done = ptb("plugins", "check", "./mynet.py")
    assert "model net: " in done.stdout
    assert "registration-is-light" not in done.stdout
    assert "note     settings-are-described" in done.stdout
