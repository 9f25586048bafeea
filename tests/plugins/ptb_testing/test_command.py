import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ptb.cli.errors import PtbGroup
from ptb.kinds import KINDS
from ptb_testing.command import check, new
from ptb_testing.kit import minimum

HOOKS = """
from ptb import Component, hookimpl

print("the hooks speak")

@hookimpl
def ptb_provide_losses():
    return [Component("half", "acme_losses:half", "Half", accepts=("real",))]
"""
LOSS = """
from typing import Annotated

from pydantic import Field
from torch.nn.functional import mse_loss

print("so does the loss")

def half(spec, *, weight: Annotated[float, Field(gt=0, description="Factor")]):
    return lambda scores, targets: weight * mse_loss(scores, targets)
"""
PROJECT = """
[project]
name = "ptb-acme"
version = "1.0"
[project.entry-points.ptb]
acme = "acme_hooks"
"""
GIVEN = '[tool.ptb.check.settings]\n"loss/half" = { weight = 0.5 }\n'


@pytest.fixture
def acme(tmp_path):
    """A plugin in a source folder, not installed, whose loss has a setting without a default."""
    folder = tmp_path / "ptb-acme"
    folder.mkdir()
    (folder / "acme_hooks.py").write_text(HOOKS)
    (folder / "acme_losses.py").write_text(LOSS)
    (folder / "pyproject.toml").write_text(PROJECT + GIVEN)
    return folder


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Runs the two commands in this process; what they import from ``tmp_path`` is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    group = PtbGroup("plugins", commands=[check, new])

    def run(*arguments):
        before = set(sys.modules)
        try:
            return CliRunner().invoke(group, list(map(str, arguments)), prog_name="ptb plugins")
        finally:
            for name in set(sys.modules) - before:
                if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
                    del sys.modules[name]

    return run


@pytest.mark.parametrize("kind", [*KINDS, "command"])
def test_new_writes_a_package_and_says_what_to_type(plugins, tmp_path, kind):
    done = plugins("new", "ptb-acme", "--kind", kind)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "ptb-acme" / "ptb_acme" / f"{kind}.py").is_file()
    first, *commands = done.stdout.splitlines()
    assert first == "wrote ptb-acme; now type"
    assert [command.partition(" -m ")[2] or command.strip() for command in commands[:2]] == [
        "pip install --no-deps -e ./ptb-acme",
        "ptb plugins check ./ptb-acme",
    ]
    begins = {"command": "  ptb acme-command --model ", "plot": "  ptb plot "}
    assert commands[-1].startswith(begins.get(kind, "  ptb run --model "))
    assert f" acme-{kind}" in commands[-1]
    assert (commands[2:-1] == ["  ptb run --model lenet --output runs/mine"]) is (kind == "plot")  # which it draws


def test_new_makes_a_model_if_no_kind_is_given(plugins, tmp_path):
    plugins("new", "ptb-acme")
    assert (tmp_path / "ptb-acme" / "ptb_acme" / "model.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("new",), 2, "Missing argument 'NAME'"),
        (("new", "ptb acme"), 2, "error: 'ptb acme' cannot name a distribution"),
        (("new", "json"), 2, "error: 'json' would be imported as 'json', which is there already"),
        (("new", "ptb-acme", "--kind", "layer"), 2, "'layer' is not one of"),
        (("check",), 2, "Missing argument 'DIST|PATH'"),
        (("check", "ptb-nowhere"), 2, "error: no plugin 'ptb-nowhere' is installed"),
        (("check", "./nowhere"), 2, "error: there is no folder ./nowhere"),
        (("check", "."), 2, "error: cannot read pyproject.toml: No such file or directory"),
        (("check", "pytorch-basics", "-c", "nowhere.toml"), 2, "error: cannot read nowhere.toml"),
    ],
)
def test_what_cannot_be_is_told_in_one_message(plugins, arguments, code, message):
    done = plugins(*arguments)
    assert done.exit_code == code
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_source_folder_is_checked_without_installing_it(plugins, acme):
    done = plugins("check", "./ptb-acme")
    assert done.exit_code == 0, done.output
    count = minimum("loss") + 2
    assert done.stdout.splitlines() == [
        "ptb-acme 1.0",
        f"loss half: {count} run, {count} passed, 0 failed, 0 expected failures, 0 skipped",
        f"ok: 1 component, {count} checks run, {count} passed",
    ]
    assert done.stderr == "the hooks speak\nso does the loss\n"


def test_verbose_lists_every_check(plugins, acme):
    lines = plugins("check", str(acme), "-v").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == ["passed"] * (minimum("loss") + 2)
    assert any(line.split() == ["passed", "gradcheck"] for line in lines)


def test_the_report_as_json_is_one_object(plugins, acme):
    done = plugins("check", "./ptb-acme", "--json")
    report = json.loads(done.stdout)
    assert (report["schema"], report["status"], report["plugin"]) == (1, "ok", "ptb-acme 1.0")
    (component,) = report["components"]
    assert (component["kind"], component["name"], component["minimum"]) == ("loss", "half", minimum("loss"))
    assert component["run"] == len(component["checks"]) == report["run"]


def test_too_few_checks_are_red_and_it_says_what_to_give(plugins, acme):
    (acme / "pyproject.toml").write_text(PROJECT)
    done = plugins("check", "./ptb-acme")
    assert done.exit_code == 7
    lines = done.stdout.splitlines()
    assert lines[1].startswith("loss half: 7 run, 7 passed, 0 failed, 0 expected failures, ")
    assert 'write [tool.ptb.check.settings] "loss/half" = { weight = ... }' in lines[2]
    assert lines[-3].split()[:3] == ["skipped", str(minimum("loss") + 2 - 9), "checks"]
    assert lines[-2].split()[:2] == ["failed", "enough-checks-ran"]
    assert lines[-1] == "failed: loss half"


COMMANDS = """
import click
from ptb import Command, hookimpl

@hookimpl
def ptb_provide_commands():
    return [Command(name, "acme_commands:fine", "Acme") for name in ("acme", "plugins list")]
"""


def test_commands_are_checked_too(plugins, acme):
    (acme / "acme_hooks.py").write_text(COMMANDS.replace("import click\n", ""))
    (acme / "acme_commands.py").write_text('import click\n@click.command()\ndef fine():\n    """Fine."""\n')
    (acme / "pyproject.toml").write_text(PROJECT)
    done = plugins("check", "./ptb-acme")
    assert done.exit_code == 7, done.output
    assert done.stdout.splitlines() == [
        "ptb-acme 1.0",
        "command acme: 8 run, 8 passed, 0 failed, 0 expected failures, 0 skipped",
        "command plugins list: 8 run, 7 passed, 1 failed, 0 expected failures, 0 skipped",
        "  failed  name-is-free  'plugins list' is a command of ptb, which stays; choose another name",
        "failed: command plugins list",
    ]
    (acme / "acme_hooks.py").write_text(HOOKS + COMMANDS.replace(', "plugins list"', ","))
    (acme / "pyproject.toml").write_text(PROJECT + GIVEN)
    done = plugins("check", "./ptb-acme")
    count = minimum("loss") + 2
    assert done.stdout.splitlines()[-1] == f"ok: 1 component, 1 command, {count + 8} checks run, {count + 8} passed"


def test_another_file_may_give_the_settings(plugins, acme, tmp_path):
    (acme / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "given.toml").write_text(GIVEN)
    assert plugins("check", "./ptb-acme", "-c", "given.toml").exit_code == 0


def test_what_fails_is_told_with_its_reason(plugins, acme):
    (acme / "acme_losses.py").write_text(LOSS.replace("(scores,", "(scores.detach(),"))
    done = plugins("check", "./ptb-acme")
    assert done.exit_code == 7
    (line,) = (line for line in done.stdout.splitlines() if line.split()[1] == "fits-a-run")
    assert line.split()[0] == "failed"
    assert "loss 'half' cannot be trained: RuntimeError: element 0 of tensors does not require grad" in line
    assert done.stdout.splitlines()[-1] == "failed: loss half"
    report = json.loads(plugins("check", "./ptb-acme", "--json").stdout)
    assert (report["status"], report["failed"]) == ("failed", 1)


def test_the_traceback_of_a_failure_is_there_on_request(plugins, acme):
    (acme / "acme_losses.py").write_text("def half(spec):\n    raise ZeroDivisionError('over')\n")
    (acme / "pyproject.toml").write_text(PROJECT)
    done = plugins("check", "./ptb-acme")
    assert done.exit_code == 7
    assert "building it failed: ZeroDivisionError: over" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    verbose = plugins("check", "./ptb-acme", "-v")
    assert "Traceback (most recent call last)" in verbose.stderr
    assert "acme_losses.py" in verbose.stderr


def test_a_plugin_that_cannot_be_loaded_ends_with_7(plugins, acme):
    (acme / "acme_hooks.py").write_text("import no_such_module_anywhere\n")
    done = plugins("check", "./ptb-acme", "--json")
    assert done.exit_code == 7
    assert json.loads(done.stdout)["error"]["type"] == "PluginError"
    assert "error: plugin 'ptb-acme 1.0' cannot be loaded: ModuleNotFoundError" in done.stderr


def test_a_package_in_src_is_found(plugins, acme):
    (acme / "src").mkdir()
    for name in ("acme_hooks.py", "acme_losses.py"):
        (acme / name).rename(acme / "src" / name)
    assert plugins("check", "./ptb-acme").exit_code == 0


def test_another_copy_of_the_package_is_not_checked_by_mistake(plugins, acme, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (acme / "acme_hooks.py").rename(elsewhere / "acme_hooks.py")
    sys.path.append(str(elsewhere))
    done = plugins("check", "./ptb-acme")
    assert done.exit_code == 2
    assert f"'acme_hooks' is imported from {elsewhere / 'acme_hooks.py'}, not from ptb-acme" in done.stderr


def test_an_installed_plugin_is_checked_by_its_name(plugins, site):
    site.add("ptb-acme", HOOKS, module="acme_hooks")
    site.write("acme_losses.py", LOSS)
    site.write("given.toml", GIVEN)
    sys.path.insert(0, str(site.path))
    done = plugins("check", "PTB_Acme", "-c", site.path / "given.toml")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("ptb-acme 1.0\nloss half: ")
    assert done.stderr == "the hooks speak\nso does the loss\n"


def test_new_needs_no_torch_and_no_pydantic(tmp_path):
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*{'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules), file=sys.stderr))\n"
        "from ptb.cli import main\n"
        "main(['plugins', 'new', 'ptb-acme'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.split()) == (0, [])


def test_both_are_commands_of_click():
    assert all(isinstance(command, click.Command) and command.help for command in (new, check))
    assert (new.name, check.name) == ("new", "check")
