import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ptb.cli import main
from ptb_doctor.command import _arguments
from ptb_doctor.processes import Ended

BOUND = ["pytorch-basics>=0.1"]
DONE = Ended(0, "done\n")


@pytest.fixture(autouse=True)
def own_ptb_comes_first(monkeypatch):
    """Otherwise the doctor notes that the ``ptb`` of the shell is that of another Python."""
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"])


def model(name):
    """The source of a plugin with one model."""
    return f"""
from ptb import Component, hookimpl

@hookimpl
def ptb_provide_models():
    return [Component("{name}", "nowhere:Tiny")]

"""


def failure(status, error):
    return Ended(status, errors=f"error: {error}\n")


def runs(stderr):
    return [line for line in stderr.splitlines() if re.match(r"run \d+: ", line)]


@pytest.fixture
def bisect(site, monkeypatch):
    """Runs ``ptb plugins bisect`` with eight plugins on a command that ends as a function of their names says."""
    for i in range(8):
        site.add(f"ptb-p{i}", "", version=f"1.{i}")
    monkeypatch.syspath_prepend(str(site.path))

    def search(end, *arguments):
        def run(command, environment, seconds):
            return end(set(environment["PTB_PLUGINS"].split(",")))

        monkeypatch.setattr("ptb_doctor.processes.run", run)
        return CliRunner().invoke(main, ["plugins", "bisect", *(arguments or ("list",))])

    return search


def fails_with(*names):
    return lambda plugins: failure(1, "unexpected KeyError: 'a'") if plugins >= set(names) else DONE


@pytest.mark.parametrize("culprit", [0, 3, 7])
def test_bisect_finds_one_culprit_among_eight_in_five_runs_and_confirms_it_in_three(bisect, culprit):
    done = bisect(fails_with(f"ptb-p{culprit}"))
    assert (done.exit_code, done.stdout) == (0, f"culprit: ptb-p{culprit} 1.{culprit}\n")
    first, second, *_ = lines = runs(done.stderr)
    assert first == "run 1: 8 of 8 plugins: fails: exit status 1, unexpected KeyError: 'a'"
    assert second == f"run 2: 4 of 8 plugins: {'fails' if culprit < 4 else 'succeeds'}"
    assert len(lines) <= 8
    assert [line.partition(": ")[2] for line in lines[-3:]] == [
        "7 of 8 plugins: succeeds",
        "7 of 8 plugins: succeeds",
        "1 of 8 plugins: fails",
    ]
    assert f"pip uninstall ptb-p{culprit}" in done.stderr


def test_bisect_finds_plugins_that_are_at_fault_together(bisect):
    done = bisect(fails_with("ptb-p1", "ptb-p4"))
    assert done.stdout == "needs two: ptb-p1 1.1 and ptb-p4 1.4\n"
    assert len(runs(done.stderr)) <= 13
    assert "only need" not in done.stderr
    assert bisect(fails_with("ptb-p1", "ptb-p4", "ptb-p6")).stdout == "needs 3: ptb-p1 1.1, ptb-p4 1.4 and ptb-p6 1.6\n"


def test_bisect_says_that_there_is_more_than_one(bisect):
    def end(plugins):
        return failure(1, "unexpected KeyError: 'a'") if plugins & {"ptb-p1", "ptb-p5"} else DONE

    done = bisect(end)
    assert done.stdout == "more than one: ptb-p1 1.1, without which the command fails, too\n"
    assert "to find the others, disable this one in COMMAND, and search again\n" in done.stderr
    found = json.loads(bisect(end, "--json", "list").stdout)
    assert found.pop("runs") == len(runs(done.stderr))
    plugins = [{"name": "ptb-p1", "version": "1.1"}]
    error = "exit status 1, unexpected KeyError: 'a'"
    assert found == {"schema": 1, "result": "several", "plugins": plugins, "error": error}


def test_bisect_names_no_plugin_where_equal_runs_end_differently(bisect):
    turns = iter([Ended(9), DONE] * 10)
    done = bisect(lambda _: next(turns))
    assert done.stdout.startswith(
        "unsteady: equal runs, with the same plugins, do not always end in the same way: exit"
    )
    assert "pip uninstall" not in done.stderr


def test_bisect_does_not_blame_what_the_command_needs(bisect):
    def end(plugins):
        if "ptb-p1" not in plugins:
            return failure(2, "unknown model 'm1'; available: lenet")
        return failure(1, "unexpected ImportError") if "ptb-p6" in plugins else DONE

    done = bisect(end)
    assert done.stdout == "culprit: ptb-p6 1.6\n"
    assert "the command needs ptb-p1 1.1 to get that far" in done.stderr
    assert "fails otherwise: exit status 2, unknown model 'm1'" in done.stderr


def test_bisect_says_where_the_command_may_only_need_the_plugin(bisect):
    def end(plugins):
        return failure(*((7, "importing failed") if "ptb-p1" in plugins else (2, "unknown model 'm1'")))

    done = bisect(end)
    assert done.stdout == "culprit: ptb-p1 1.1\n"
    assert "the command may only need it: exit status 2, unknown model 'm1'" in done.stderr


def test_bisect_says_that_it_is_not_a_plugin_and_that_there_is_nothing_to_find(bisect):
    done = bisect(lambda _: failure(2, "unknown model 'nothing'"))
    assert (
        done.stdout == "not a plugin: the command fails without any of them: exit status 2, unknown model 'nothing'\n"
    )
    assert runs(done.stderr)[-1] == "run 5: 0 of 8 plugins: fails"
    found = json.loads(bisect(lambda _: DONE, "--json", "list").stdout)
    assert found == {"schema": 1, "result": "nothing", "plugins": [], "runs": 1, "error": ""}


def test_bisect_searches_among_the_plugins_that_the_environment_names(bisect, monkeypatch):
    monkeypatch.setenv("PTB_PLUGINS", "ptb-p4,ptb_p5,ptb-p6")
    done = bisect(fails_with("ptb-p5"))
    assert done.stdout == "culprit: ptb-p5 1.5\n"
    assert runs(done.stderr)[0].startswith("run 1: 3 of 3 plugins: fails")
    monkeypatch.setenv("PTB_PLUGINS", "ptb-p44")
    done = bisect(fails_with("ptb-p5"))
    assert (done.exit_code, runs(done.stderr)) == (2, [])
    assert "unknown plugin 'ptb-p44' (did you mean 'ptb-p4'?)" in done.stderr


def test_real_runs_are_compared_too(ptb, site):
    """One plugin spoils the end of the command, and the other one is needed to get there."""
    settled = model("tiny").replace('"nowhere:Tiny"', '"nowhere:Tiny", settings="nowhere:Settings"')
    site.add("ptb-a", settled)  # of a class with settings `show` imports nothing heavy
    site.add("ptb-b", f"{model('other')}import atexit, os; atexit.register(os._exit, 7)")
    site.write("nowhere.py", "from pydantic import BaseModel\n\nclass Settings(BaseModel): ...\n")
    done = ptb("plugins", "bisect", "-v", "--", "ptb", "show", "model", "tiny", site=site.path)
    assert (done.returncode, done.stdout) == (0, "culprit: ptb-b 1.0\n")
    assert "target:  nowhere:Tiny" in done.stderr  # -v


@pytest.mark.parametrize("verbose", [False, True])
def test_the_runs_of_a_training_leave_no_directory_behind(site, monkeypatch, tmp_path, verbose):
    outputs = []

    def run(command, environment, seconds):
        outputs.append(Path(command[-1]))
        assert (command[-2], seconds) == ("--output", 5)
        assert outputs[-1].parent.is_dir()
        outputs[-1].mkdir()
        return Ended(0, "finished: 1 epoch\n", "epoch 1\n")

    monkeypatch.setattr("ptb_doctor.processes.run", run)
    options = ("-v",) if verbose else ()
    command = ("run", "--model", "linear", "--output", str(tmp_path / "out"))
    done = CliRunner().invoke(main, ["plugins", "bisect", "--timeout", "5", *options, "--", *command])
    assert done.stdout == "nothing to find: the command succeeds with all plugins\n"
    assert ("finished: 1 epoch\nepoch 1\n" in done.stderr) is verbose
    assert not outputs[0].parent.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["ptb", "list"], ["list"]),
        (["run"], ["run", "--output", "F"]),
        (["-p", "no:a", "run", "--output", "out"], ["-p", "no:a", "run", "--output", "out", "--output", "F"]),
        (["run", "--lr", "1", "--", "seed=1"], ["run", "--lr", "1", "--output", "F", "--", "seed=1"]),
        (["show", "model", "run"], ["show", "model", "run"]),
    ],
    ids=" ".join,
)
def test_a_run_gets_a_directory_of_its_own(command, expected):
    with click.Context(main):
        assert _arguments(command)("F") == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plugins", "bisect"], "Missing argument"),
        (["plugins", "bisect", "--", "ptb"], "give a command of ptb after --"),
        (["plugins", "bisect", "--timeout", "0", "list"], "timeout"),
        (["-p", "no:ptb-acme", "plugins", "bisect", "list"], "give them in COMMAND"),
        (["--no-plugins", "plugins", "doctor"], "doctor examines every installed plugin"),
        (["--no-plugins", "plugins", "freeze"], "freeze prints all plugins"),
    ],
    ids=" ".join,
)
def test_usage_errors_come_before_anything_runs(arguments, message):
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, runs(done.stderr)) == (2, [])
    assert message in done.stderr


HANGS = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(100)"


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [(["bisect", "list"], signal.SIGINT, 130), (["doctor"], signal.SIGTERM, 143)],
    ids=["bisect", "doctor"],
)
def test_a_signal_ends_it_and_what_it_has_started(site, tmp_path, command, number, code):
    site.add("ptb-acme", HANGS)
    pid_file = tmp_path / "pid"
    process = subprocess.Popen(
        [sys.executable, "-m", "ptb", "plugins", *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert errors == f"error: stopped by {number.name}\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_doctor_finds_nothing_where_all_is_well_and_loads_nothing_in_its_own_process(site, tmp_path):
    site.write("torch.py", "")
    site.add("ptb-acme", model("tiny"), requires=BOUND)
    code = """
import atexit, sys
atexit.register(lambda: print("LOADED:", *sys.modules.keys() & {"torch", "ptb_acme", "ptb_models"}))
from ptb.cli import main
main(prog_name="ptb")
"""
    environment = os.environ | {"PYTHONPATH": str(site.path)}
    command = [sys.executable, "-c", code, "plugins", "doctor"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert re.search(r"^ptb-acme +1\.0 +ok +\d+ ms$", done.stdout, re.M)
    assert done.stdout.endswith("\n\nno problems found\nLOADED: ptb_models\n")


@pytest.mark.slow
def test_doctor_survives_every_plugin_and_says_what_is_wrong_with_each(ptb, site, monkeypatch):
    ends = "keeps every command from ending normally: "
    changes = "changes the process while it registers: "
    sick = {
        "raises": ("raise RuntimeError('boom')", "cannot be used (failed): RuntimeError: boom"),
        "leaves": ("import sys; sys.exit('bye')", "cannot be used (failed): SystemExit: bye"),
        "lacks": ("import no_such_module", "cannot be used (failed): ModuleNotFoundError"),
        "exits": ("import os; os._exit(0)", "stops every command: it ends the process: exit status 0"),
        "crashes": (
            "import os; os.write(2, b'oh no'); os.kill(os.getpid(), 11)",
            "stops every command: it ends the process: killed by SIGSEGV, oh no",
        ),
        "interrupts": ("raise KeyboardInterrupt", "stops every command: it ends the process: "),
        "hangs": ("import time; time.sleep(100)", "stops every command: its import does not return within 2 s"),
        "gone": ("", "cannot be found: its entry point is 'gone', and there is no module 'gone'"),
        "twice": (model("twice"), "is installed twice: "),
        "stays": (
            f"{model('stays')}import threading, time; threading.Thread(target=time.sleep, args=(1000,)).start()",
            f"{changes}a thread, 'Thread-1 (sleep)', and {ends}does not end",
        ),
        "spoils": (
            f"{model('spoils')}import atexit, os; atexit.register(os._exit, 9)",
            f"{changes}a function of spoils that runs at exit, and {ends}exit status 9",
        ),
        "old": (model("old"), "cannot be used (incompatible): it needs pytorch-basics<0.1"),
    }
    noted = {
        "big": (f"{model('big')}import torch", "imports torch while it registers"),
        "moves": (f"{model('moves')}import os; os.chdir('/')", f"{changes}the current folder"),
        "unbound": (model("tiny"), "does not say which versions of pytorch-basics it works with"),
        "shares": (model("old-tiny"), "shares names: model 'old-tiny' is also given by shares-too"),
        "shares-too": (model("old-tiny"), "shares names: model 'old-tiny' is also given by shares 1.0"),
    }
    for name, (source, _) in {**sick, **noted}.items():
        requires = {"old": ["pytorch-basics<0.1"], "unbound": []}.get(name, BOUND)
        site.add(name, source, requires=requires)
    (site.path / "gone.py").unlink()
    site.add("twice", model("twice"), requires=BOUND, version="0.9")
    site.write("torch.py", "")
    site.add("prints", f"{model('prints')}import os; print('{{}}'); os.write(1, b'{{}}\\n')", requires=BOUND)
    monkeypatch.setenv("PTB_PLUGINS", "")  # disabled plugins are examined too
    done = ptb("plugins", "doctor", "--json", "--timeout", 2, site=site.path)
    assert (done.returncode, done.stderr) == (7, "")
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    findings = {finding["subject"].split()[0]: finding for finding in report["findings"]}
    assert findings.keys() == {*sick, *noted}
    for name, (_, text) in {**sick, **noted}.items():
        assert findings[name]["severity"] == ("problem" if name in sick else "note"), name
        assert findings[name]["text"].startswith(text), name
    severities = [finding["severity"] for finding in report["findings"]]
    assert severities == sorted(severities, reverse=True)  # problems come first
    plugins = {plugin.pop("name"): plugin for plugin in report["plugins"]}
    assert list(plugins) == ["pytorch-basics", *sorted([*sick, *noted, "prints"])]
    assert plugins["prints"].keys() == {"version", "status", "milliseconds", "imports", "components"}
    assert (plugins["prints"]["status"], plugins["prints"]["components"]) == ("ok", 1)
    assert (plugins["big"]["imports"], plugins["hangs"]["milliseconds"]) == (["torch"], None)


def test_notes_alone_are_no_failure(ptb, site):
    site.write("torch.py", "")
    for name in ("ptb-one", "ptb-two"):
        site.add(name, model("tiny"))
    done = ptb("plugins", "doctor", site=site.path)
    assert done.returncode == 0
    *_, last = done.stdout.splitlines()
    assert last == "4 notes"
    assert re.search(r"^ptb-two +1\.0 +conflict ", done.stdout, re.M)
    assert (
        "note: ptb-one 1.0 shares names: model 'tiny' is also given by ptb-two 1.0; choose with the id" in done.stdout
    )
