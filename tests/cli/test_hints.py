"""What a message tells the user to type is typed, through a shell where it is a command, and works."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading

import pytest

SHORT = ("--model", "mlp", "--epochs", "1", "dataset.size=8", "model.hidden=[8]")
RUN = "ptb run -q --epochs 1 dataset.size=8 "
CHECK = "ptb config show dataset.size=8 "  # refuses what `ptb run` refuses, and does not wait for torch
PLUGIN = """
from torch import nn
from ptb import Component, hookimpl

class Net(nn.Sequential):
    def __init__(self, spec):
        super().__init__(nn.Flatten(), nn.Linear(64, spec.output_size))

class Count:
    n = 0
    def on_step_end(self, trainer, output): self.n += 1
    def state_dict(self): return {"n": self.n}
    def load_state_dict(self, state): self.n = state["n"]

@hookimpl
def ptb_provide_models():
    return [Component("net", f"{__name__}:Net")]

@hookimpl
def ptb_provide_callbacks():
    return [Component("count", f"{__name__}:Count", role="actor")]
"""


# The program, as far as a shell sees it: it asks the thread of the fixture, which knows a process that can be forked.
ASK = """#!/bin/sh
printf '%s\\0' "$@" > asked
read -r code < answered
cat out
cat err >&2
exit "$code"
"""


@pytest.fixture
def shell(tmp_path, tmp_path_factory, run_python):
    """Runs a line as the user pastes it, in ``tmp_path``, where ``ptb`` is this one."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "ptb"
    for name in ("asked", "answered"):
        os.mkfifo(folder / name)
    script.write_text(re.sub(r"\b(asked|answered|out|err)\b", lambda name: str(folder / name[0]), ASK))
    script.chmod(0o755)
    variables = {}

    def answer():
        while words := (folder / "asked").read_text().split("\0")[:-1]:
            done = run_python([sys.executable, "-m", "ptb", *words], cwd=tmp_path, env=dict(variables))
            (folder / "out").write_text(done.stdout)
            (folder / "err").write_text(done.stderr)
            (folder / "answered").write_text(f"{done.returncode}\n")

    def run(line, **environment):
        variables.clear()
        variables.update(os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"} | environment)
        return subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120
        )

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield run
    (folder / "asked").write_text("")
    thread.join(60)


def hint(pattern, done):
    """What the message says is to be typed."""
    found = re.search(pattern, done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return found[1]


# What is wrong, with {} for the mistake; the mistake; and how the message says what is to be written instead.
MISTAKES = {
    "a list without brackets": (CHECK + "--model mlp {}", "model.hidden=16,32", r"; write (\S+)"),
    "a Python boolean": (CHECK + "--model mlp trainer.compile={}", "False", r"; write (\S+)"),
    "a float without its zero": (CHECK + "--model mlp optimizer.lr={}", ".001", r"; write (\S+)"),
    "a metric as a section": (CHECK + "--model mlp {}", "metrics=accuracy", r"; write (.+?)  \["),
    "a callback as a section": (CHECK + "--model mlp {}", "callbacks=ema", r"; write (.+?)  \["),
    "an optimizer as a section": (CHECK + "--model mlp {}", "optimizer=sgd", r"; write (.+?)  \["),
    "a model as a section": (CHECK + "{}", "model=mlp", r"; write (.+?)  \["),
    "a setting with dashes": (CHECK + "--model mlp {}", "--optimizer.lr 0.1", r"; write (.+)"),
    "one with dashes and a sign": (CHECK + "--model mlp {}", "--optimizer.lr=0.1", r"; write (.+)"),
    "a list with dashes": (CHECK + "--model mlp {}", "--model.hidden '[8, 4]'", r"; write (.+)"),
    "a setting of another section": (CHECK + "--model mlp {}=0.1", "trainer.lr", r"did you mean '([^']+)'"),
    "a setting without a section": (CHECK + "--model mlp {}=0.1", "lr", r"did you mean '([^']+)'"),
    "a slip in a name": (CHECK + "--model {}", "mpl", r"did you mean '([^']+)'"),
    "a slip in a flag": (CHECK + "--model mlp {} 3", "--epoch", r"Did you mean '([^']+)'"),
    "a slip in a command": ("ptb {}", "lst", r"did you mean '([^']+)'"),
    "a former setting": (CHECK + "--model mlp loader.{}=device", "tier", r"use loader\.(\w+)"),
    "nothing for an empty string": (CHECK + "--model mlp {}", "optimizer.lr=", "()there is nothing to remove"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_is_to_be_written_instead_works(shell, case):
    line, mistake, pattern = MISTAKES[case]
    wrong = shell(line.format(mistake))
    assert wrong.returncode == 2, wrong.stdout + wrong.stderr
    written = hint(pattern, wrong)
    if "=" in mistake and "=" not in written and not written.startswith("--"):  # the value alone
        written = written and f"{mistake.partition('=')[0]}={written}"
    done = shell(line.format(written))
    assert done.returncode == 0, done.stderr


def test_a_run_that_stops_says_how_it_goes_on_whatever_its_directory_is_called(shell):
    stopped = shell(RUN + """--model mlp --output "it's my run" --stop-after 20""")
    stopped = stopped if "ptb resume" in stopped.stderr else shell('cat "it\'s my run/log.txt"')
    done = shell(hint(r"`(ptb resume .+?)` continues", stopped) + " --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"


def test_a_config_file_says_how_it_is_run(shell):
    made = shell("ptb config init --model mlp dataset.size=8 trainer.epochs=1 -o 'my run.toml'")
    assert shell(hint(r"run it with: (.+)", made) + " -q").returncode == 0


def test_the_json_of_a_config_is_a_config_file(shell, tmp_path):
    made = shell("ptb config show --model mlp model.hidden=[7] --json > shown.json; " + CHECK + "-c shown.json")
    assert made.returncode == 0, made.stderr
    again = shell("ptb config show -c shown.json --json")
    assert json.loads(again.stdout) == json.loads((tmp_path / "shown.json").read_text())
    dry = shell("ptb run -c shown.json --dry-run --json > dry.json; ptb config show -c dry.json --json")
    assert json.loads(dry.stdout)["config"]["model"]["hidden"] == [7]


def test_a_file_of_torch_save_says_how_it_is_imported_and_then_used(shell, tmp_path):
    import torch

    torch.save({"0.weight": torch.zeros(1)}, tmp_path / "my weights.pt")
    refused = shell("ptb check --model mlp --init weights-file 'initializer.path=my weights.pt'")
    imported = shell(hint(r"run: (ptb import-torch .+)", refused))
    assert imported.returncode == 0, imported.stderr
    shell("ptb run -q --epochs 1 --model mlp --output first; cp first/checkpoints/*.safetensors .")
    again = shell("cp 'my weights.safetensors' x; ptb import-torch x --output y.safetensors")
    assert shlex.split(hint(r"use it with (.+)", again))[:2] == ["--init", "weights-file"]


def test_a_run_of_a_plugin_file_says_where_its_copy_is(shell, tmp_path):
    (tmp_path / "own.py").write_text(PLUGIN)
    assert shell("ptb -p ./own.py run -q --model net --epochs 1 --output 'my run' dataset.size=8").returncode == 0
    refused = shell("ptb eval 'my run'")
    assert refused.returncode == 2
    added = hint(r"add\n  (-p .+)", refused)
    assert shell(f"ptb eval 'my run' {added}").returncode == 0


def test_a_callback_that_is_gone_can_be_dropped_as_the_message_says(shell, tmp_path):
    (tmp_path / "own.py").write_text(PLUGIN)
    run = "ptb -p ./own.py run -q --model mlp --epochs 1 dataset.size=8 --output out --stop-after 20 "
    assert shell(run + "\"callbacks.'my count'={name='own.py:count'}\"").returncode == 0
    config = tmp_path / "out" / "config.toml"
    config.write_text(re.sub(r'\[callbacks\."my count"\]\nname = [^\n]+\n', "", config.read_text()))
    refused = shell("ptb resume out")
    done = shell("ptb resume out " + hint(r"resume with (--drop-state .+)", refused))
    assert done.returncode == 0, done.stderr


def test_a_name_that_several_plugins_claim_is_settled_as_the_message_says(shell, site, tmp_path):
    for name in ("ptb-one", "ptb-two"):
        site.add(name, PLUGIN.replace('f"{__name__}:', f'"{name.replace("-", "_")}:'))
    path = {"PYTHONPATH": f"{site.path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    refused = shell(CHECK + "--model net", **path)
    key, value = re.search(r"\[resolve\] ([\w.]+) = (\S+)", refused.stderr).groups()
    (tmp_path / "settled.toml").write_text(f"[resolve]\n{key} = {value}\n")
    assert shell(CHECK + "--model net -c settled.toml", **path).returncode == 0


@pytest.mark.parametrize("kind", ["required", "extra", "gone"])
def test_what_is_to_be_installed_reaches_pip_as_it_is(shell, site, kind, tmp_path):
    """``>`` in a requirement would write a file; ``[`` is a pattern."""
    path = {"PYTHONPATH": f"{site.path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    if kind == "required":
        wanted, refused = "ptb-none>=1.2,<2", shell(CHECK + "--model mlp 'plugins.require=[\"ptb-none>=1.2,<2\"]'")
    elif kind == "extra":
        source = (
            'from ptb import Component, hookimpl\n@hookimpl\ndef ptb_provide_models():\n    return [Component("x", '
        )
        site.add("ptb-own", source + '"ptb_own:X", requires=("no-such-thing>=2",), extra="all things")]\n')
        wanted, refused = "ptb-own[all things]", shell(CHECK + "--model x", **path)
    else:
        site.add("ptb-own", PLUGIN.replace('f"{__name__}:', '"ptb_own:'), version="1.5")
        made = shell(RUN + "--model net --output out", **path)
        assert made.returncode == 0, made.stderr
        wanted, refused = "ptb-own==1.5", shell("ptb eval out")
        assert "is of the plugin ptb-own 1.5, which is not installed" in refused.stderr
    line = hint(r"run\n  (.+ -m pip install .+)", refused)
    words = shell(line.replace("-m pip install", "-c 'import sys; print(sys.argv[1:])'"))
    assert words.stdout == f"{[wanted]}\n"


@pytest.mark.parametrize(
    ("section", "value", "written"),
    [
        ("metrics", "accuracy", "[metrics.accuracy]"),
        ("model", "mlp", 'model = {name = "mlp"}'),
        ("optimizer", "sgd", 'optimizer = {name = "sgd"}'),
    ],
)
def test_in_a_file_it_is_the_form_of_a_file(shell, tmp_path, section, value, written):
    file = tmp_path / "run.toml"
    file.write_text(f'{section} = "{value}"\n')
    model = "" if section == "model" else "--model mlp "
    refused = shell(CHECK + model + "-c run.toml")
    assert hint(r"; write (.+?)  \[run\.toml:1\]", refused) == written
    file.write_text(written + "\n")
    assert shell(CHECK + model + "-c run.toml").returncode == 0


@pytest.mark.parametrize(("section", "value"), [("metrics", "accuracy"), ("model", "mlp"), ("optimizer", "sgd")])
def test_from_python_it_is_that_of_python(section, value, built_in):
    from ptb import ConfigError, RunConfig
    from ptb.config.resolve import resolve

    given = {"model": {"name": "mlp"}, section: value}
    with pytest.raises(ConfigError, match="; write ") as refused:
        resolve(RunConfig(**given), built_in)
    (problem,) = refused.value.problems
    written = eval(f"dict({problem.message.rpartition('; write ')[2]})")
    resolve(RunConfig(**(given | written)), built_in)
