"""Runs in several processes, as users start and end them."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import ptb
from fork_server import FORK_RANKS
from ptb.storage.checkpoint import find_checkpoints, load_checkpoint

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the processes from /proc")

DATA = (
    *("--dataset", "random", "dataset.inputs=vector", "dataset.input_shape=[4]", "dataset.output_size=3"),
    *("dataset.samples=101", "--batch-size", "10", "--device", "cpu", "threads=1"),
)
SETTINGS = ("--model", "mlp", "model.hidden=[8]", *DATA)
NET = """
import os, time
from torch import nn
from ptb import Component, hookimpl

class Net(nn.Module):
    def __init__(self, spec, *, how: str = "well"):
        super().__init__()
        self.net, self.how = nn.Linear(spec.input_size, spec.output_size), how

    def forward(self, inputs):
        rank = os.environ.get("RANK")
        if self.training and rank == "1" and os.path.exists("now"):
            if self.how == "raise":
                raise ValueError("a bad day")
            if self.how == "stuck":
                time.sleep(1000)
            if self.how == "exit":
                os._exit(0)
        scores = self.net(inputs)
        return scores * float("nan") if self.how == "bad" and len(inputs) == 5 and rank == "1" else scores

@hookimpl
def ptb_provide_models():
    return [Component("net", f"{__name__}:Net")]
"""
ENVIRONMENT = {**os.environ, "PTB_PROBE": "0", "PTB_REPORT": "0"}
FORKED = {**ENVIRONMENT, FORK_RANKS: "1"}


def command(*arguments):
    return [sys.executable, "-m", "ptb", *map(str, arguments)]


@pytest.fixture(scope="module")
def ptb_(run_python):
    """Runs a command in a folder, and the processes that it starts, where none imports torch anew."""

    def run(folder, *arguments, code=0, **environment):
        done = run_python(command(*arguments), cwd=folder, timeout=200, env=FORKED | environment)
        assert done.returncode == code, done.stderr
        return done

    return run


STOPPED = ("run", *SETTINGS, "--epochs", "4", "--stop-after", "13", "--output", "run")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, ptb_):
    """A run of two processes that was stopped in its second epoch, and what was said of it; it is only read."""
    folder = tmp_path_factory.mktemp("stopped")
    done = ptb_(folder, *STOPPED, "--nproc", "2", **{FORK_RANKS: ""})  # as users start them
    return folder / "run", done


def weights(run):
    path = max(find_checkpoints(run / "checkpoints").items())[1]
    return torch.cat([each.flatten() for each in load_checkpoint(path).decode()["model"].values()])


def close(one, other):
    return torch.allclose(one, other, rtol=1e-4, atol=1e-6)


class Started:
    """A run that goes on until it is ended; ``ranks`` are its processes."""

    def __init__(self, forks, folder, *arguments, nproc=2):
        self.run = folder / "run"
        words = ("ptb", *arguments, "--nproc", nproc, "--output", "run")
        self.process = forks.start(words, cwd=folder, env=FORKED)
        until = time.monotonic() + 120
        while len(self.rows()) < 4 and self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        self.ranks = [*map(int, children.read_text().split())] if children.exists() else []
        assert len(self.ranks) == nproc, self.process.communicate()

    def rows(self):
        with suppress(OSError):
            return (self.run / "metrics.jsonl").read_text().splitlines()
        return []

    def end(self):
        """The exit code and what was said; nobody is left after that."""
        _, said = self.process.communicate(timeout=60)
        until = time.monotonic() + 5
        while any(map(is_there, self.ranks)) and time.monotonic() < until:
            time.sleep(0.02)
        assert not any(map(is_there, self.ranks))
        return self.process.returncode, said


def is_there(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def endless(forks, tmp_path):
    started = []

    def start(*more, settings=SETTINGS, nproc=2):
        started.append(Started(forks, tmp_path, "run", *settings, "--epochs", "100000", *more, nproc=nproc))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()


def test_a_run_of_several_processes_is_one_run_and_goes_on_in_any_number(stopped, ptb_, tmp_path):
    ptb_(tmp_path, "run", *SETTINGS, "--epochs", "4", "--output", "one")
    run, done = stopped
    assert "\n2 processes\n" in done.stderr
    assert done.stdout.count("recorded in run") == 1
    assert json.loads((run / "manifest.json").read_text())["world_size"] == 2
    shutil.copytree(run, tmp_path / "run", symlinks=True)
    done = ptb_(tmp_path, "resume", "run", "--nproc", "3", PTB_PROBE="1")
    assert "the number of processes was 2, and is 3 here" in done.stderr
    gain = r"samples/s now, \d+% of a step spent on the others, \d\.\d times as fast as one process"
    assert re.search(rf"\n[\d,]+ {gain}", done.stderr)
    one, several = (ptb.RunRecord(tmp_path / name) for name in ("one", "run"))
    assert one.columns("train")["step"] == several.columns("train")["step"]
    assert several.columns("val")["loss"] == pytest.approx(one.columns("val")["loss"], rel=1e-5)
    assert several.summary["metrics"]["test/accuracy"] == one.summary["metrics"]["test/accuracy"]
    assert close(weights(tmp_path / "one"), weights(tmp_path / "run"))


LONG = pytest.mark.reliability


@pytest.mark.parametrize("whom", [pytest.param("launcher", marks=LONG), "rank 1"])
def test_a_signal_to_anybody_stops_all_at_the_same_step(ptb_, endless, tmp_path, whom):
    run = endless()
    os.kill(run.process.pid if whom == "launcher" else run.ranks[1], signal.SIGTERM)
    code, said = run.end()
    assert code == 143
    assert "saved; `ptb resume run` continues" in said
    (step,) = {json.loads((run.run / "summary.json").read_text())["step"]} & {
        *find_checkpoints(run.run / "checkpoints")
    }
    ptb_(tmp_path, "resume", "run", "--stop-after", step + 5)
    wanted = ["run", *SETTINGS, "--epochs", "100000", "--output", "whole", "--stop-after", step + 5]
    ptb_(tmp_path, *wanted)
    assert close(weights(tmp_path / "whole"), weights(run.run))


@pytest.mark.parametrize("whom", ["launcher", pytest.param(0, marks=LONG), 1])
def test_where_one_is_killed_nobody_stays(endless, whom):
    run = endless()
    os.kill(run.process.pid if whom == "launcher" else run.ranks[whom], signal.SIGKILL)
    code, said = run.end()
    if whom == "launcher":
        assert code == -signal.SIGKILL
    else:
        assert code == 128 + signal.SIGKILL
        assert f"error: rank {whom} was killed by SIGKILL" in said
    assert find_checkpoints(run.run / "checkpoints")


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("raise", 7, "error: rank 1: model 'net' (net.py) failed while training: ValueError: a bad day"),
        pytest.param("exit", 1, "error: rank 1 has left before the run was over", marks=LONG),
        pytest.param("stuck", 1, "rank 1 did not come within 6 s (--timeout)", marks=LONG),
    ],
)
def test_the_rank_that_fails_is_named_and_no_other(endless, tmp_path, how, code, said):
    (tmp_path / "net.py").write_text(NET)
    run = endless("-p", "./net.py", "--model", "net", f"model.how={how}", "--timeout", "6", settings=DATA)
    (tmp_path / "now").touch()
    ended = run.end()
    assert ended[0] == code
    after = ended[1].split("epoch")[-1].splitlines()[1:]
    assert any(said in line for line in after)
    assert len(after) <= 10


def test_a_loss_of_one_rank_that_is_not_finite_ends_all(ptb_, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    more = ("-p", "./net.py", "--model", "net", "model.how=bad", "--nproc", "2")
    done = ptb_(tmp_path, "run", *DATA, *more, code=4)
    assert done.stderr.count("the loss is nan (that of rank 1) at step 1") == 1


def test_evaluations_and_predictions_of_several_processes_are_the_same_files(ptb_, tmp_path):
    ptb_(tmp_path, "run", "--model", "mlp", "--dataset", "digits", "--epochs", "1", "--output", "run")
    for nproc, name in ((1, "one"), (3, "three")):
        common = ("run", "--nproc", nproc)
        ptb_(tmp_path, "eval", *common, "--predictions", f"{name}.csv", "loader.batch_size=40")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "three.csv").read_bytes()


def test_torchrun_starts_the_same_run(stopped, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "ptb"]
    done = subprocess.run(
        [*torchrun, *STOPPED], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("recorded in run") == 1
    sums = [ptb.RunRecord(run).summary["weights_sha256"] for run in (tmp_path / "run", stopped[0])]
    assert sums[0] == sums[1]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--nproc", "2", "--device", "cuda:1"), {}, "device: cuda:1 is one GPU, and there are 2 processes"),
        (("--nproc", "2", "trainer.virtual_shards=3"), {}, "must be a multiple of the number of processes, 2; got 3"),
        (("--nproc", "2"), {"RANK": "0", "WORLD_SIZE": "3"}, "--nproc 2, and the environment says WORLD_SIZE=3"),
        (("--nproc", "2"), {"RANK": "5", "WORLD_SIZE": "3"}, "the environment contradicts itself: RANK=5"),
        ((), {"RANK": "x", "WORLD_SIZE": "2"}, "the environment says RANK='x'"),
        (("--nproc", "2", "trainer.compile=true"), {}, "trainer.compile: cannot be combined with several processes"),
        (("--nproc", "2", "--modle", "mlp"), {}, "No such option '--modle'"),
    ],
)
def test_what_cannot_be_is_said_once(ptb_, tmp_path, arguments, environment, said):
    settings = [each for each in SETTINGS if each not in ("--device", "cpu")]
    done = ptb_(tmp_path, "run", *settings, *arguments, code=2, **environment)
    assert " ".join(done.stderr.split()).count(said) == 1
    assert not (tmp_path / "runs").exists()


def test_processes_that_are_together_and_train_nothing_end_well(ptb_, tmp_path):
    done = ptb_(tmp_path, "run", "--model", "lenet", *DATA, "--nproc", "2", code=3)
    assert done.stderr.count("error: model 'lenet' does not fit the inputs of data set 'random'") == 1


@pytest.mark.reliability
@pytest.mark.parametrize("number", range(100))
@pytest.mark.parametrize("how", ["TERM launcher", "TERM rank", "KILL rank"])
def test_at_any_instant(ptb_, endless, tmp_path, how, number):
    chance = random.Random(f"{how} {number}")
    run = endless("trainer.checkpoint_every=3", nproc=chance.choice([2, 3]))
    time.sleep(chance.random() * 2)
    pid = run.process.pid if how.endswith("launcher") else chance.choice(run.ranks)
    os.kill(pid, signal.SIGKILL if how.startswith("KILL") else signal.SIGTERM)
    code, _ = run.end()
    assert code == (137 if how.startswith("KILL") else 143)
    step = max(find_checkpoints(run.run / "checkpoints"))
    ptb_(tmp_path, "resume", "run", "--stop-after", step + 3, "--nproc", chance.choice([1, 2, 4]))
    ptb_(tmp_path, "run", *SETTINGS, "--epochs", "100000", "--output", "whole", "--stop-after", step + 3)
    assert close(weights(tmp_path / "whole"), weights(run.run))
