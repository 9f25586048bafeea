import json
import os
import re
import signal
import subprocess
import sys
import time

import click
import pytest

from ptb.cli import main
from ptb_doctor.command import _arguments

BOUND = ["pytorch-basics>=0.1"]
TINY = "class Tiny:\n    def __init__(self, spec): ...\n"  # what the models of these plugins are


def model(name):
    """The source of a plugin with one model."""
    return f"""
from ptb import Component, hookimpl

@hookimpl
def ptb_provide_models():
    return [Component("{name}", "nowhere:Tiny")]

"""


def eight(site, *broken, source="raise RuntimeError('boom')"):
    for i in range(8):
        site.add(f"ptb-p{i}", source if i in broken else model(f"m{i}"), version=f"1.{i}")


def runs(done):
    return [line for line in done.stderr.splitlines() if re.match(r"run \d+: ", line)]


@pytest.mark.parametrize("culprit", [0, 3, 7])
def test_bisect_finds_one_culprit_among_eight_in_five_runs_and_confirms_it_in_three(ptb, site, culprit):
    eight(site, culprit)
    done = ptb("plugins", "bisect", "--", "ptb", "list", "--strict-plugins", site=site.path)
    assert (done.returncode, done.stdout) == (0, f"culprit: ptb-p{culprit} 1.{culprit}\n")
    first, second, *_ = runs(done)
    assert first.startswith("run 1: 8 of 8 plugins: fails: exit status 7, plugins that cannot be loaded are an error")
    assert second == f"run 2: 4 of 8 plugins: {'fails' if culprit < 4 else 'succeeds'}"
    assert len(runs(done)) <= 8
    assert [line.partition(": ")[2] for line in runs(done)[-3:]] == [
        "7 of 8 plugins: succeeds",
        "7 of 8 plugins: succeeds",
        "1 of 8 plugins: fails",
    ]
    assert f"pip uninstall ptb-p{culprit}" in done.stderr


def test_bisect_finds_one_that_meddles_with_ptb(ptb, site):
    eight(site, 5, source="import ptb.registry.registry; ptb.registry.registry.Registry.components = None")
    done = ptb("plugins", "bisect", "list", site=site.path)
    assert done.stdout == "culprit: ptb-p5 1.5\n"
    assert "TypeError" in runs(done)[0]


def test_bisect_finds_one_that_ends_the_process_and_says_so_as_json(ptb, site):
    eight(site, 2, source="import os; os._exit(0 if os.environ['PTB_PLUGINS'] == 'ptb-p2' else 9)")
    eight_but_two = ptb("plugins", "bisect", "--json", "--", "list", site=site.path)
    found = json.loads(eight_but_two.stdout)
    assert found.keys() == {"schema", "result", "plugins", "runs", "error"}
    assert (found["schema"], found["error"]) == (1, "exit status 9")
    assert found["result"] == "needs"  # alone it does no harm
    assert {"name": "ptb-p2", "version": "1.2"} in found["plugins"]


def test_bisect_finds_two_that_are_at_fault_together(ptb, site):
    for i, name in enumerate(["a", "tiny", "b", "c", "tiny"]):
        site.add(f"ptb-p{i}", model(name), version=f"1.{i}")
    site.write("nowhere.py", TINY)
    done = ptb("plugins", "bisect", "--", "show", "model", "tiny", site=site.path)
    assert (done.returncode, done.stdout) == (0, "needs two: ptb-p1 1.1 and ptb-p4 1.4\n")
    assert len(runs(done)) == 12  # eight, all of them once more, and three that confirm it
    assert "only needs" not in done.stderr


def test_bisect_says_that_there_is_more_than_one(ptb, site):
    eight(site, 1, 5, source="import ptb.registry.registry; ptb.registry.registry.Registry.components = None")
    done = ptb("plugins", "bisect", "list", site=site.path)
    assert (done.returncode, done.stdout) == (0, "more than one: ptb-p1 1.1, without which the command fails, too\n")
    assert "to find the others, leave it out in COMMAND, and search again\n" in done.stderr
    found = json.loads(ptb("plugins", "bisect", "--json", "list", site=site.path).stdout)
    assert (found["result"], found["plugins"]) == ("several", [{"name": "ptb-p1", "version": "1.1"}])


EVERY_SECOND_TIME = """
import os
from pathlib import Path
with open("loads", "a") as file:
    file.write(".")
if len(Path("loads").read_text()) % 2:
    os._exit(9)
"""


def test_bisect_names_no_plugin_where_equal_runs_end_differently(ptb, site):
    eight(site, 5, source=EVERY_SECOND_TIME)
    done = ptb("plugins", "bisect", "list", site=site.path)
    told = "unsteady: the command does not always end in the same way with the same plugins: exit status 9\n"
    assert (done.returncode, done.stdout) == (0, told)
    assert "pip uninstall" not in done.stderr


def test_bisect_tells_a_culprit_from_what_the_command_needs(ptb, site):
    eight(site, 6, source="import ptb.registry.settings; del ptb.registry.settings.derive_model")
    site.write("nowhere.py", TINY)
    done = ptb("plugins", "bisect", "--", "show", "model", "m1", site=site.path)
    assert done.stdout == "culprit: ptb-p6 1.6\n"
    assert "the command needs ptb-p1 1.1 to get that far" in done.stderr


def test_bisect_says_where_the_command_may_only_need_the_plugin(ptb, site):
    eight(site)  # the target of each does not exist
    done = ptb("plugins", "bisect", "--", "show", "model", "m1", site=site.path)
    assert done.stdout == "culprit: ptb-p1 1.1\n"
    assert "it may be that the command only needs it: exit status 2, unknown model 'm1'" in done.stderr


def test_bisect_says_that_it_is_not_a_plugin(ptb, site):
    eight(site)
    done = ptb("plugins", "bisect", "--", "show", "model", "nothing", site=site.path)
    assert done.returncode == 0
    assert done.stdout.startswith("not a plugin: the command fails without any of them: exit status 2, unknown model")
    assert runs(done)[-1] == "run 5: 0 of 8 plugins: fails"


def test_bisect_finds_nothing_where_the_command_succeeds(ptb, site):
    eight(site, 1)  # set aside, which is a warning
    done = ptb("plugins", "bisect", "--json", "--", "list", site=site.path)
    expected = {"schema": 1, "result": "nothing", "plugins": [], "runs": 1, "error": ""}
    assert (done.returncode, json.loads(done.stdout)) == (0, expected)


def test_bisect_looks_among_the_plugins_that_the_environment_names(ptb, site, monkeypatch):
    eight(site, 1, 5)
    command = ("plugins", "bisect", "--", "list", "--strict-plugins", "-p", "no:ptb-p7")
    monkeypatch.setenv("PTB_PLUGINS", "ptb-p4,ptb_p5,ptb-p6")
    done = ptb(*command, site=site.path)
    assert done.stdout == "culprit: ptb-p5 1.5\n"
    assert runs(done)[0].startswith("run 1: 3 of 3 plugins: fails")
    monkeypatch.setenv("PTB_PLUGINS", "ptb-p44")
    done = ptb(*command, site=site.path)
    assert (done.returncode, runs(done)) == (2, [])
    assert "unknown plugin 'ptb-p44' (did you mean 'ptb-p4'?)" in done.stderr


def test_a_plugin_that_is_required_but_left_out_is_another_failure(ptb, site, tmp_path):
    eight(site, 6, source="import atexit, os; atexit.register(os._exit, 7)")
    (tmp_path / "c.toml").write_text('[plugins]\nrequire = ["ptb-p2"]\n')
    done = ptb("plugins", "bisect", "--", "config", "show", "--model", "lenet", "-c", "c.toml", site=site.path)
    assert done.stdout == "culprit: ptb-p6 1.6\n"
    assert "fails otherwise: exit status 7, required plugins are not there" in done.stderr


@pytest.mark.slow
def test_the_runs_of_a_training_leave_no_directory_behind(ptb, site, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    site.add("ptb-acme", "import atexit, os; atexit.register(os._exit, 9)\n")
    command = ("run", "--model", "linear", "--epochs", 1, "--output", "out", "dataset.size=8")
    done = ptb("plugins", "bisect", "-v", "--", *command, site=site.path)
    assert done.stdout == "culprit: ptb-acme 1.0\n"
    assert runs(done)[1] == "run 2: 0 of 1 plugins: succeeds"
    assert "finished: 1 epoch" in done.stderr  # -v
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "tmp"]
    assert [path.name for path in (tmp_path / "tmp").iterdir() if path.name.startswith("ptb-")] == []


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
    ("arguments", "told"),
    [
        (["plugins", "bisect"], "Missing argument"),
        (["plugins", "bisect", "--", "ptb"], "give a command of ptb after --"),
        (["plugins", "bisect", "--", "lits"], "No such command 'lits'"),
        (["plugins", "bisect", "--timeout", "0", "list"], "timeout"),
        (["-p", "no:ptb-acme", "plugins", "bisect", "list"], "give them in COMMAND"),
        (["--no-plugins", "plugins", "doctor"], "doctor examines every installed plugin"),
    ],
    ids=" ".join,
)
def test_usage_errors_are_told_before_anything_runs(ptb, arguments, told):
    done = ptb(*arguments)
    assert (done.returncode, runs(done)) == (2, [])
    assert told in done.stderr


HANGS = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(100)"


def test_a_hanging_command_is_a_failure_if_the_first_run_hangs(ptb, site):
    site.add("ptb-acme", HANGS)
    start = time.monotonic()
    done = ptb("plugins", "bisect", "--timeout", 3, "--", "list", site=site.path)
    assert time.monotonic() - start < 50
    assert done.stdout == "culprit: ptb-acme 1.0\n"
    assert runs(done)[0] == "run 1: 1 of 1 plugins: fails: does not come to an end"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", [["bisect", "list"], ["doctor"]], ids=["bisect", "doctor"])
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
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert told == f"error: stopped by {number.name}\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_doctor_finds_nothing_where_all_is_well(ptb, site):
    site.write("torch.py", "")
    site.add("ptb-acme", model("tiny"), requires=BOUND)
    done = ptb("plugins", "doctor", site=site.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^ptb-acme +1\.0 +ok +\d+ ms$", done.stdout, re.M)
    assert done.stdout.endswith("\n\nno problems found\n")


def test_doctor_survives_every_plugin_and_tells_what_is_wrong_with_each(ptb, site, monkeypatch):
    sick = {
        "raises": ("raise RuntimeError('boom')", "is set aside (failed): RuntimeError: boom"),
        "leaves": ("import sys; sys.exit('bye')", "is set aside (failed): SystemExit: bye"),
        "lacks": ("import no_such_module", "is set aside (failed): ModuleNotFoundError"),
        "exits": ("import os; os._exit(0)", "stops every command: it ends the process that imports it (exit status 0)"),
        "crashes": (
            "import os; os.write(2, b'oh no'); os.kill(os.getpid(), 11)",
            "stops every command: it ends the process that imports it (killed by SIGSEGV, its last words: oh no)",
        ),
        "interrupts": ("raise KeyboardInterrupt", "stops every command: it ends the process that imports it ("),
        "hangs": ("import time; time.sleep(100)", "stops every command: it does not come back from its import"),
        "gone": ("", "is not there: its entry point is 'gone', and there is no module 'gone'"),
    }
    for name, (source, _) in sick.items():
        site.add(name, source, requires=BOUND)
    (site.path / "gone.py").unlink()
    site.write("torch.py", "")
    site.add("prints", f"{model('tiny')}import os; print('{{}}'); os.write(1, b'{{}}\\n')", requires=BOUND)
    site.add("big", f"{model('big')}import torch", requires=BOUND)
    site.add("old", model("old"), requires=["pytorch-basics<0.1"])
    monkeypatch.setenv("PTB_PLUGINS", "")  # what is left out is examined too
    start = time.monotonic()
    done = ptb("plugins", "doctor", "--json", "--timeout", 3, site=site.path)
    assert (done.returncode, done.stderr) == (7, "")
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    told = {finding["subject"].split()[0]: finding for finding in report["findings"]}
    assert told.keys() == {*sick, "big", "old"}
    for name, (_, text) in sick.items():
        assert told[name]["severity"] == "problem"
        assert told[name]["text"].startswith(text), name
    assert told["old"]["text"].startswith("is set aside (incompatible): it needs pytorch-basics<0.1")
    assert told["big"]["severity"] == "note"
    assert told["big"]["text"].startswith("imports torch while it registers")
    plugins = {plugin.pop("name"): plugin for plugin in report["plugins"]}
    assert list(plugins) == ["pytorch-basics", *sorted([*sick, "prints", "big", "old"])]
    assert plugins["prints"].keys() == {"version", "status", "milliseconds", "imports", "components"}
    assert (plugins["prints"]["status"], plugins["prints"]["components"]) == ("ok", 1)
    assert (plugins["big"]["imports"], plugins["hangs"]["milliseconds"]) == (["torch"], None)
    assert report["findings"][-1]["severity"] == "note"  # problems come first
    assert time.monotonic() - start < 25


@pytest.mark.parametrize("command", [["doctor"], ["bisect", "list"]], ids=" ".join)
def test_neither_loads_a_plugin_or_torch_in_its_own_process(site, tmp_path, command):
    site.write("torch.py", "")
    site.add("ptb-acme", model("tiny"), requires=BOUND)
    code = """
import atexit, sys
atexit.register(lambda: print("LOADED:", *sys.modules.keys() & {"torch", "ptb_acme", "ptb_models"}))
from ptb.cli import main
main(prog_name="ptb")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "plugins", *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("LOADED:\n")


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


def test_doctor_finds_a_second_copy_of_a_plugin(ptb, site):
    site.write("torch.py", "")
    site.add("ptb-acme", model("tiny"), requires=BOUND)
    site.add("ptb-acme", model("tiny"), requires=BOUND, version="0.9")
    done = ptb("plugins", "doctor", site=site.path)
    assert done.returncode == 7
    assert re.search(
        r"problem: ptb-acme \S+ is installed twice: .*ptb_acme-\d.\d.dist-info counts and hides", done.stdout
    )


def test_doctor_finds_those_that_change_the_process_or_spoil_its_end(ptb, site):
    site.write("torch.py", "")
    bad = {
        "hangs": "import threading, time; threading.Thread(target=time.sleep, args=(1000,)).start()",
        "ends": "import atexit, os; atexit.register(os._exit, 9)",
        "moves": "import os, sys; os.chdir('/'); sys.path.insert(0, '/acme')",
        "pools": "from concurrent.futures import ThreadPoolExecutor as P; p = P(1, 'acme'); p.submit(print).result()",
    }
    for name, source in {**bad, "sound": ""}.items():
        site.add(name, model(name) + source, requires=BOUND)
    start = time.monotonic()
    done = ptb("plugins", "doctor", "--json", "--timeout", 90, site=site.path)
    assert (done.returncode, done.stderr) == (7, "")
    assert time.monotonic() - start < 60  # that time is for an import, not for the end
    told = {f["subject"].split()[0]: (f["severity"], f["text"]) for f in json.loads(done.stdout)["findings"]}
    changes = "changes the process while it registers: "
    assert told == {
        "ends": (
            "problem",
            f"{changes}a function of ends that runs at exit, and lets no command end as it should: exit status 9",
        ),
        "hangs": (
            "problem",
            f"{changes}a thread, 'Thread-1 (sleep)', and lets no command end as it should: does not come to an end",
        ),
        "moves": ("note", f"{changes}the current folder, sys.path"),
        "pools": ("note", f"{changes}a thread, 'acme_0'"),
    }


def extension(site, source, name="acme"):
    site.add(f"torch-{name}", source)
    (site.path / f"torch_{name}-1.0.dist-info" / "entry_points.txt").write_text(
        f"[torch.backends]\n{name} = torch_{name}:load\n"
    )


def test_doctor_finds_a_backend_extension_that_torch_cannot_load(ptb, site):
    extension(site, "def load():\n    raise ImportError('libacme.so is\\nnot there')")
    extension(site, "def load(): ...", name="sound")
    done = ptb("plugins", "doctor", site=site.path)
    assert done.returncode == 7
    expected = (
        "problem: torch backend extension acme (torch-acme 1.0) fails to load, and with it every command that uses"
    )
    assert expected in done.stdout
    assert (
        "torch: ImportError: libacme.so is not there; switch it off with TORCH_DEVICE_BACKEND_AUTOLOAD=0" in done.stdout
    )
    assert "pip uninstall torch-acme" in done.stdout
    assert "sound" not in done.stdout


READS_ALL = """
    import os
    from importlib.metadata import entry_points

    if os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD") != "0":
        entry_points(group="torch.backends")
"""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[other]\na = b\njust words\n", "line 3 of {file} is not NAME = MODULE: 'just words'"),
        (b"[other]\na = \xff\n", "line 2 of {file} is not UTF-8: 'a = "),
    ],
    ids=["no-sign", "no-text"],
)
@pytest.mark.parametrize("extensions", [[], ["sound"]], ids=["alone", "beside-an-extension"])
def test_doctor_finds_entry_points_that_torch_cannot_read(ptb, site, content, told, extensions):
    site.write("torch.py", READS_ALL)
    for name in extensions:
        extension(site, "def load(): ...", name=name)
    site.add("odd", "", requires=BOUND)
    file = site.path / "odd-1.0.dist-info" / "entry_points.txt"
    file.write_bytes(content)
    done = ptb("plugins", "doctor", site=site.path)
    assert done.returncode == 7
    assert "problem: torch cannot be imported: it reads the entry points of all that is installed, " in done.stdout
    assert told.format(file=file) in done.stdout
    assert "pip uninstall odd, or switch it off with TORCH_DEVICE_BACKEND_AUTOLOAD=0" in done.stdout
    assert "extension" not in done.stdout


AUTOLOADS = """
    import os

    if os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD") != "0":
        import torch_acme
        torch_acme.load()
"""


@pytest.mark.parametrize(
    ("torch", "told"),
    [
        (AUTOLOADS, "torch backend extension acme (torch-acme 1.0) fails to load, and with it every command that uses"),
        ("raise OSError('libc10.so')", "torch cannot be imported: OSError: libc10.so; "),
        ("import os; os._exit(4)", "torch cannot be imported: exit status 4; "),
    ],
    ids=["extension", "torch-raises", "torch-exits"],
)
def test_an_extension_that_ends_the_process_is_told_from_a_torch_that_is_broken(ptb, site, torch, told):
    extension(site, "import os\ndef load():\n    os._exit(5)")
    site.write("torch.py", torch)
    done = ptb("plugins", "doctor", site=site.path)
    assert done.returncode == 7
    assert f"problem: {told}" in done.stdout
    assert "1 problem\n" in done.stdout
