import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

import ptb
from ptb import RunConfig
from ptb.storage.checkpoint import differences, find_checkpoints, load_checkpoint

CONFIG = {
    "model": {"name": "mlp", "hidden": [8], "dropout": 0.3},
    "dataset": {"name": "random", "inputs": "vector", "input_shape": [4], "output_size": 3, "samples": 40},
    "optimizer": {"name": "adam", "lr": 0.05},
    "scheduler": {"name": "cosine"},
    "loader": {"batch_size": 4},
    "trainer": {"epochs": 2, "checkpoint_every": 1},
    "device": "cpu",
    "threads": 1,
}
STEPS = 20
# Has torch and ptb at hand, and forks a process for each life of a run: it begins, or goes on, and is killed.
SERVER = """
    import gc, json, mmap, os, sys, time, warnings
    import torch
    import ptb.storage.checkpoint

    CALLS = ("open", "write", "fsync", "close", "read", "replace", "listdir", "unlink")
    SAVE, PRUNE = ptb.storage.checkpoint.save_checkpoint, ptb.storage.checkpoint.prune_checkpoints


    class Saves:
        "Shows in shared memory where it is in a save, and waits there if it is asked to."

        def __init__(self):
            self.inside, self.memory, self.saves, self.calls = False, bytearray(3), 0, 0
            for name in CALLS:
                setattr(os, name, self.around(name, getattr(os, name)))

        def watch(self, file, save, call):
            with open(file, "r+b") as stream:
                self.memory = mmap.mmap(stream.fileno(), 3)
            self.wanted = (save, call)

        def around(self, name, function):
            def called(*arguments, **options):
                if not self.inside:
                    return function(*arguments, **options)
                if name == "write":  # a system may take fewer bytes than there are
                    descriptor, data = arguments
                    arguments = (descriptor, data[: max(len(data) // 2, 512)])
                try:
                    return function(*arguments, **options)
                finally:
                    self.calls += 1
                    self.note()
            return called

        def save(self, *arguments):
            self.saves, self.calls, self.inside = self.saves + 1, 0, True
            self.note()
            return SAVE(*arguments)

        def prune(self, *arguments):
            PRUNE(*arguments)
            self.inside = False
            self.note()

        def note(self):
            self.memory[0] = int(self.inside)
            self.memory[1] = min(self.calls, 255)
            if self.inside and (self.saves, self.calls) == self.wanted:
                self.memory[2] = 1
                time.sleep(60)


    saves = Saves()
    # Whoever saves and prunes a checkpoint imports these from there.
    ptb.storage.checkpoint.save_checkpoint = lambda *arguments: saves.save(*arguments)
    ptb.storage.checkpoint.prune_checkpoints = lambda *arguments: saves.prune(*arguments)

    import ptb.training.snapshot, ptb.training.metrics, ptb.runs.compose
    import ptb_datasets.random_data, ptb_models.mlp, ptb_schedulers.cosine, ptb_metrics.accuracy, ptb_losses
    from pathlib import Path
    from ptb import RunConfig
    from ptb.runs import start as runs
    from ptb.config.resolve import resolve
    from ptb.runs import recorder
    from ptb.runs.compose import compose
    from ptb.runs.overrides import resume_config
    from ptb.runs.provenance import content_hashes
    from ptb.registry.discovery import BUILT_IN, find_plugins, load_plugin
    from ptb.registry.registry import Registry
    from ptb.storage import atomic
    from ptb.storage.run_directory import RunDirectory

    torch.set_num_threads(1)
    registry = Registry([load_plugin(found) for found in find_plugins() if found.name == BUILT_IN])
    for found in find_plugins():
        if found.name == BUILT_IN:
            content_hashes(found)  # read once, not in each life
    gc.freeze()  # otherwise a collection in a fork copies all of torch


    def live(order):
        warnings.simplefilter("error")  # a life that follows a kill has nothing to warn of
        saves.watch(order["memory"], order["save"], order["call"])
        exec(order["before"])
        path = Path(order["path"])
        directory = RunDirectory(path)
        if directory.is_started():
            runs.resume_run(compose(resolve(resume_config(directory), registry)), directory)
        else:
            runs.start_run(compose(resolve(RunConfig(**order["config"]), registry)), path)


    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(log, 1)
                os.dup2(log, 2)
                live(order)
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
            finally:
                os._exit(code)
        print("born", child, flush=True)
        print("died", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Lives:
    """Processes that live through a run, one after the other."""

    def __init__(self, folder):
        self._memory, self.log = folder / "memory", folder / "log"
        self._memory.write_bytes(bytes(3))
        script = folder / "server.py"
        script.write_text(textwrap.dedent(SERVER))
        self._server = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.landed = []

    def live(self, path, kill=None, save=0, call=0, before=""):
        """Lets a process begin the run or go on with it, and kills it after ``kill`` seconds or at a call of a save.

        Tells the exit code, and the seconds it lived.
        """
        self._memory.write_bytes(bytes(3))
        order = {"path": str(path), "memory": str(self._memory), "log": str(self.log), "save": save, "call": call}
        self._server.stdin.write(json.dumps(order | {"config": CONFIG, "before": before}) + "\n")
        self._server.stdin.flush()
        child, began = self._told("born"), time.monotonic()
        if kill is not None:
            time.sleep(kill)
        elif save:
            self._wait_there(child)
        if kill is not None or save:
            with suppress(ProcessLookupError):  # it has come to its end before
                os.kill(child, signal.SIGKILL)
        code = self._told("died")
        if code == -signal.SIGKILL:
            inside, calls, _ = self._memory.read_bytes()
            self.landed.append(calls if inside else None)
        return code, time.monotonic() - began

    def _told(self, what):
        word, number = self._server.stdout.readline().split()
        assert word == what
        return int(number)

    def _wait_there(self, child):
        deadline = time.monotonic() + 30
        while not self._memory.read_bytes()[2] and _runs(child):
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)

    def end(self):
        self._server.stdin.close()
        try:
            self._server.wait(60)
        finally:
            self._server.kill()
            self._server.wait()
            self._server.stdout.close()


def _runs(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    there = Lives(tmp_path_factory.mktemp("lives"))
    yield there
    there.end()


@pytest.fixture(scope="module")
def whole(lives, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    assert lives.live(path)[0] == 0, lives.log.read_text()
    return path


@pytest.fixture(scope="module")
def seconds(lives, whole, tmp_path_factory):
    return max(lives.live(tmp_path_factory.mktemp("timed") / "run")[1] for _ in range(2))


def last(path):
    return load_checkpoint(list(find_checkpoints(path / "checkpoints").values())[-1])


def summary(path):
    facts = json.loads((path / "summary.json").read_text())
    return {key: value for key, value in facts.items() if key not in ("train_seconds", "samples_per_second")}


def rows(path):
    return [{**json.loads(line), "samples_per_second": 0} for line in (path / "metrics.jsonl").read_text().splitlines()]


def faults(whole, path):
    """In what a run that was killed has ended otherwise than one that was not."""
    told = differences(last(whole).state, last(path).state)
    told += [] if summary(whole) == summary(path) else [f"summary.json: {summary(path)}"]
    told += [] if rows(whole) == rows(path) else [f"metrics.jsonl: {rows(path)}"]
    there, wanted = ({each.name for each in folder.rglob("*")} for folder in (path, whole))
    # The best is told by its hash too, and time is part of what is hashed: steps are what can be compared.
    steps, right = (
        [int(name.split("-")[1]) for name in names if name.startswith("ckpt-")] for names in (there, wanted)
    )
    # A kill after the last save leaves the one that was to be deleted next.
    fine = {*steps} >= {*right} and len(steps) <= len(right) + 1
    told += [] if fine else [f"checkpoints of the steps {steps}"]
    others = {name for name in there - wanted if not name.startswith("ckpt-")}
    return told + [f"left behind: {name}" for name in sorted(others)]


def ended(lives, path, before=""):
    code, _ = lives.live(path, before=before)
    assert code == 0, lives.log.read_text()[-3000:]


def kill_anywhere(lives, path, draw, seconds):
    """A life that is killed at any instant; it may end before, when others need the machine less than they did."""
    return lives.live(path, kill=draw.uniform(0, seconds))[0] == -signal.SIGKILL


def kill_in_a_save(lives, path, draw):
    """Between any two calls of any save that is still to come, or of its writes, of which each takes a half."""
    lives.live(path, save=draw.randrange(1, 4), call=draw.randrange(CALLS_OF_A_SAVE))


CALLS_OF_A_SAVE = 36


def trials(lives, whole, folder, seconds, kills, seed):
    """So many kills of runs that each end well, half of them in a save; the place of each there, None outside."""
    draw = random.Random(f"kills {seed}")
    before, number = len(lives.landed), 0
    while len(lives.landed) - before < kills:
        path = folder / str(number)
        number += 1
        for _ in range(draw.choice((1, 1, 1, 1, 4))):
            kill_in_a_save(lives, path, draw) if draw.random() < 0.5 else kill_anywhere(lives, path, draw, seconds)
        ended(lives, path)
        assert faults(whole, path) == []
    return lives.landed[before:]


def test_a_run_that_is_killed_anywhere_ends_with_the_same_bits(lives, whole, seconds, tmp_path):
    landed = trials(lives, whole, tmp_path, seconds, 5, "quick")
    assert any(place is not None for place in landed)


@pytest.mark.reliability
@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_is_killed_fifty_times_ends_with_the_same_bits(lives, whole, seconds, tmp_path, seed):
    landed = trials(lives, whole, tmp_path, seconds, 50, seed)
    assert sum(place is not None for place in landed) >= 0.3 * len(landed)


@pytest.mark.reliability
@pytest.mark.parametrize("save", [1, 2, 12, STEPS + 1])
def test_a_run_that_is_killed_after_each_call_of_a_save_ends_with_the_same_bits(lives, whole, tmp_path, save):
    places = set()
    for call in range(100):
        lives.live(tmp_path / str(call), save=save, call=call)
        if not lives.landed or lives.landed[-1] != call:
            break
        places.add(call)
        ended(lives, tmp_path / str(call))
        assert faults(whole, tmp_path / str(call)) == []
    assert CALLS_OF_A_SAVE - 15 < len(places) < CALLS_OF_A_SAVE + 15


def test_two_runs_that_differ_are_seen_to_differ(lives, whole, tmp_path):
    change = 'order["config"]["seed"] = 1'
    ended(lives, tmp_path / "run", change)
    assert faults(whole, tmp_path / "run") != []


NEVER_CHECK = "recorder.differences = lambda *_: []\nptb.runs.compose.Preflight.lost_state = lambda _: {}\n"
MUTANTS = {
    "no random numbers": NEVER_CHECK + "ptb.training.snapshot.set_random_state = lambda *_: None",
    "no optimizer": NEVER_CHECK + "ptb.training.snapshot.load_optimizer = lambda *_: None",
    "no metrics": NEVER_CHECK + "ptb.training.metrics.RunningMetrics.load_state_dict = lambda *_: None",
    "rows stay": "RunDirectory.truncate_rows = lambda *_: True",
    "temporary files stay": "atomic.remove_temporaries = lambda _: None",
    "written in place": """
def write_in_place(path, content):
    data = memoryview(content.encode() if isinstance(content, str) else content)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    while data:
        data = data[os.write(descriptor, data):]
    os.close(descriptor)
atomic.write_atomically = write_in_place
""",
    "old ones deleted first": """
global SAVE
def delete_and_save(folder, *arguments, save=SAVE):
    for name in os.listdir(folder):
        os.unlink(folder / name)
    return save(folder, *arguments)
SAVE = delete_and_save
""",
}


QUICK_MUTANTS = ("no optimizer", "written in place")


@pytest.mark.parametrize(
    "mutant", [name if name in QUICK_MUTANTS else pytest.param(name, marks=pytest.mark.reliability) for name in MUTANTS]
)
def test_a_fault_in_saving_or_resuming_is_seen(lives, whole, tmp_path, mutant):
    before = MUTANTS[mutant]
    ended(lives, tmp_path / "unbroken", before)  # else it would be seen because it cannot even begin
    for call in range(2, 60, 3):
        path = tmp_path / str(call)
        lives.live(path, save=STEPS // 2 + 1, call=call, before=before)  # at the end of the first epoch
        code, _ = lives.live(path, before=before)
        if code != 0 or faults(whole, path):
            return
    pytest.fail(f"{mutant}: nothing was seen")


FLAGS = {
    "model": "mlp",
    "dataset": "random",
    "optimizer": "adam",
    "scheduler": "cosine",
    "epochs": "20",
    "device": "cpu",
}
SETTINGS = ["model.hidden=[8]", "model.dropout=0.3", "dataset.inputs=vector", "dataset.input_shape=[4]"]
SETTINGS += ["dataset.samples=40", "loader.batch_size=4", "trainer.checkpoint_every=1", "threads=1"]


def commanded(tmp_path, path):
    """``ptb run --resume auto`` of the same run, whoever began it."""
    flags = [text for name, value in FLAGS.items() for text in (f"--{name}", value)]
    return subprocess.Popen(
        [sys.executable, "-m", "ptb", "run", "--output", str(path), "--resume", "auto", *flags, *SETTINGS],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def killed_again_and_again(tmp_path, kills, seed):
    """Kills commands of one run, at an instant after each has begun to train; then lets one end."""
    draw, path = random.Random(f"commands {seed}"), tmp_path / f"run-{seed}"
    for _ in range(kills):
        process = commanded(tmp_path, path)
        try:
            log = path / "log.txt"
            size = log.stat().st_size if log.exists() else 0
            deadline = time.monotonic() + 60
            while not (log.exists() and log.stat().st_size > size) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.5))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            told, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, told
    process = commanded(tmp_path, path)
    try:
        told, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, told
    assert "warning" not in told
    assert ".corrupt" not in told
    return path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, built_in):
    path = tmp_path_factory.mktemp("unbroken") / "run"
    ptb.train(RunConfig.read(flags=FLAGS, overrides=SETTINGS), registry=built_in, output=path)
    return path


def test_a_command_that_is_killed_is_given_again_and_ends_with_the_same_bits(unbroken, tmp_path):
    assert faults(unbroken, killed_again_and_again(tmp_path, 1, "quick")) == []


@pytest.mark.reliability
@pytest.mark.parametrize("seed", range(4))
def test_commands_that_are_killed_five_times_end_with_the_same_bits(unbroken, tmp_path, seed):
    assert faults(unbroken, killed_again_and_again(tmp_path, 5, seed)) == []
