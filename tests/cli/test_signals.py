import fcntl
import json
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time

import pytest
from click.testing import CliRunner

from ptb import RunConfig
from ptb.cli import main
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb.runs.overrides import resume_config
from ptb.runs.start import resume_run, start_run
from ptb.storage.checkpoint import differences, find_checkpoints, load_checkpoint
from ptb.storage.digest import weights_sha256
from ptb.storage.run_directory import RunDirectory

LONG = ("run", "--model", "mlp", "--epochs", "100000", "--output", "out", "dataset.size=8")


def started(tmp_path, **options):
    """A run that has trained its first epoch."""
    process = subprocess.Popen([sys.executable, "-m", "ptb", *LONG], cwd=tmp_path, text=True, **options)
    metrics = tmp_path / "out" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_saves_and_says_so(ptb, tmp_path, number, code):
    process = started(tmp_path, stderr=subprocess.PIPE)
    try:
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in told
    assert f"stopped by {number.name} after step" in told
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    evaluated = json.loads(ptb("eval", "out@last", "--json").stdout)
    assert evaluated["step"] == summary["step"]


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_signal_before_the_training_says_that_nothing_was_trained(tmp_path, monkeypatch, command):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ptb.runs.compose.compose", interrupted)
    done = CliRunner().invoke(main, [command, "--model", "mlp"])
    assert done.exit_code == 130
    assert "stopped by SIGINT while the run was built: nothing was trained, and nothing is written" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_run_under_nohup_does_not_stop_when_the_terminal_is_closed(tmp_path):
    process = started(tmp_path, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    try:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 143
    assert "SIGHUP" not in told


@pytest.mark.parametrize("results", ["there-too", "elsewhere"])
def test_a_terminal_that_is_closed_stops_the_run_with_129(tmp_path, results):
    leader, follower = pty.openpty()

    def sit_at_it():
        os.setsid()
        fcntl.ioctl(follower, termios.TIOCSCTTY, 0)

    out = follower if results == "there-too" else subprocess.DEVNULL
    process = started(tmp_path, stdin=follower, stdout=out, stderr=follower, preexec_fn=sit_at_it)
    os.close(follower)
    os.close(leader)
    try:
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 129
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert "stopped by SIGHUP after step" in summary["reason"]


def test_on_a_terminal_there_is_a_bar(tmp_path):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ptb", "run", "--model", "mlp", "--epochs", "8", "--output", "out"],
        cwd=tmp_path,
        stderr=follower,
        stdout=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(follower)
    seen = b""
    try:
        while chunk := read(leader):
            seen += chunk
        result, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert process.returncode == 0
    assert b"epoch 8/8  train loss" in seen
    assert b"steps" in seen
    assert b"\x1b[" in seen
    assert result.startswith(b"finished: 8 epochs")


def read(leader):
    try:
        return os.read(leader, 65536)
    except OSError:  # the other end is closed
        return b""


PROVIDES = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_datasets():
        return [Component("slow", "slow_parts:slow")]

    @hookimpl
    def ptb_provide_models():
        return [Component("slow", "slow_parts:Slow")]

    @hookimpl
    def ptb_provide_metrics():
        return [Component("slow", "slow_parts:Shown")]
"""
# Each place leaves a mark, and takes its time, in the process that gets signals and in no other.
PARTS = """
    import os
    import stat
    import time
    from pathlib import Path

    import torch
    from torch import nn
    from torch.utils.data import Dataset

    from ptb import DataBundle, DataSpec


    def at(place):
        folder = Path("places") / place
        if folder.is_dir():
            (folder / "reached").touch()
            time.sleep(float((folder / "seconds").read_text()))


    class Samples(Dataset):
        def __init__(self, size):
            self.size = size

        def __len__(self):
            return self.size

        def __getitem__(self, sample):
            at("reading")
            return torch.randn(4) + sample % 3, sample % 3


    def slow():
        return DataBundle(DataSpec((4,), "vector", "class", 3), Samples(12), Samples(8), Samples(4))


    class Slow(nn.Module):
        def __init__(self, spec):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))

        def forward(self, inputs):
            if self.training and Path("out/log.txt").exists():
                at("step")
            return self.layers(inputs)


    class Shown:
        def __init__(self, spec):
            self.sum = 0.0

        def update(self, scores, targets):
            if scores.is_inference():
                at("evaluation")
            self.sum += float(scores.sum())

        def compute(self):
            return self.sum

        def reset(self):
            self.sum = 0.0


    if Path("places").is_dir():
        fsync, replace = os.fsync, os.replace

        def slow_fsync(descriptor):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                at("sync")
            fsync(descriptor)

        def slow_replace(source, target):
            if str(target).endswith(".safetensors"):
                at("save")
            replace(source, target)

        os.fsync, os.replace = slow_fsync, slow_replace
"""
ENDLESS = {
    "model": {"name": "slow"},
    "dataset": {"name": "slow"},
    "metrics": {"slow": {"name": "slow"}},
    "optimizer": {"name": "adam"},
    "loader": {"batch_size": 4, "num_workers": 0},
    "trainer": {"epochs": 100_000, "eval_steps": 2},
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture
def registry(site):
    site.add("ptb-slow", PROVIDES)
    site.write("slow_parts.py", PARTS)
    return site.registry()


def launched(tmp_path, site, places, *settings):
    """A run of its own process group, slow at these places."""
    for place, seconds in places.items():
        (tmp_path / "places" / place).mkdir(parents=True)
        (tmp_path / "places" / place / "seconds").write_text(str(seconds))
    (tmp_path / "config.json").write_text(json.dumps(ENDLESS))
    return subprocess.Popen(
        [sys.executable, "-m", "ptb", "run", "-c", "config.json", "--output", "out", *settings],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site.path), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process, file):
    deadline = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def stopped(process, number, group=False):
    """What a process says after a signal; it has 10 seconds, and none of its group lives on."""
    try:
        os.killpg(process.pid, number) if group else process.send_signal(number)
        told, _ = process.communicate(timeout=10)
        assert nobody_left(process.pid)
        return told
    finally:
        if process.poll() is None or not nobody_left(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def nobody_left(group):
    deadline = time.monotonic() + 3  # workers of a process that was killed look for it once a second
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def last(path):
    return load_checkpoint(list(find_checkpoints(path / "checkpoints").values())[-1])


def rows(path):
    file = path / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [{**json.loads(line), "samples_per_second": 0} for line in lines]


def check_the_end(path, number, told):
    """That it stopped for this signal, was saved, and says what is true."""
    assert "Traceback" not in told
    saved, summary = last(path), json.loads((path / "summary.json").read_text())
    assert f"stopped by {number.name} after step {saved.step}, saved; `ptb resume {path.name}` continues" in told
    assert (summary["status"], summary["step"]) == ("interrupted", saved.step)
    assert number.name in summary["reason"]
    assert summary["weights_sha256"] == weights_sha256(saved.decode()["model"])
    assert not [each.name for each in path.rglob("*") if each.suffix == ".tmp" or each.name == ".lock"]


def check_it_goes_on(path, registry):
    """Some steps later it is where a run is that was never stopped."""
    until = last(path).step + 4
    run = RunDirectory.open(path)
    resume_run(compose(resolve(resume_config(run, ["loader.num_workers=0"]), registry)), run, stop_after=until)
    whole = path.with_name("whole")
    config = RunConfig.read([run.config], overrides=["loader.num_workers=0"])
    start_run(compose(resolve(config, registry)), whole, stop_after=until)
    assert differences(last(whole).state, last(path).state) == []
    assert rows(whole) == rows(path)


@pytest.mark.parametrize(
    ("place", "seconds", "settings", "number", "group"),
    [
        ("step", 0.4, (), signal.SIGTERM, False),
        ("evaluation", 0.4, (), signal.SIGINT, False),
        ("save", 0.4, (), signal.SIGTERM, False),
        ("sync", 0.2, ("trainer.checkpoint_every=1",), signal.SIGINT, True),
        ("reading", 0.05, ("loader.num_workers=2",), signal.SIGINT, True),
        pytest.param("reading", 0.05, ("loader.num_workers=2",), signal.SIGTERM, True, marks=pytest.mark.reliability),
    ],
    ids=["first-step", "evaluation", "save", "sync-group", "workers-int", "workers-term"],
)
def test_a_signal_at_any_place_saves_and_the_run_goes_on_to_the_bit(
    site, registry, tmp_path, place, seconds, settings, number, group
):
    process = launched(tmp_path, site, {place: seconds}, *settings)
    wait_for(process, tmp_path / "out" / "log.txt")
    wait_for(process, tmp_path / "places" / place / "reached")
    told = stopped(process, number, group)
    assert process.returncode == 128 + number, told
    check_the_end(tmp_path / "out", number, told)
    check_it_goes_on(tmp_path / "out", registry)


@pytest.mark.parametrize("place", ["step", "save"])
def test_a_second_signal_leaves_at_once_and_what_was_saved_before_is_whole(site, registry, tmp_path, place):
    (tmp_path / "places").mkdir()
    process = launched(tmp_path, site, {}, "trainer.checkpoint_every=1")
    wait_for(process, tmp_path / "out" / "metrics.jsonl")  # from now on it is slow, slower than anybody waits
    (tmp_path / "seconds").write_text("30")
    (tmp_path / "places" / place).mkdir()
    (tmp_path / "seconds").rename(tmp_path / "places" / place / "seconds")
    process_ends_at_once(process, tmp_path / "places" / place / "reached")
    path = tmp_path / "out"
    before = {file: file.read_bytes() for file in find_checkpoints(path / "checkpoints").values()}
    assert len(before) >= 2
    step = max(load_checkpoint(file).step for file in before)
    assert step == last(path).step
    check_it_goes_on(path, registry)


def process_ends_at_once(process, reached):
    try:
        wait_for(process, reached)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        assert time.monotonic() - began < 5
        assert process.returncode == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()


@pytest.mark.reliability
@pytest.mark.parametrize("trial", range(40))
def test_a_signal_at_a_random_time_saves_and_the_run_goes_on_to_the_bit(site, registry, tmp_path, trial):
    draw = random.Random(f"signals {trial}")
    places = {place: draw.choice((0.001, 0.01, 0.05)) for place in ("step", "evaluation", "save", "sync", "reading")}
    settings = (f"loader.num_workers={draw.choice((0, 0, 2))}", f"trainer.checkpoint_every={draw.choice((0, 1, 3))}")
    process = launched(tmp_path, site, places, *settings)
    wait_for(process, tmp_path / "out" / "log.txt")
    time.sleep(draw.uniform(0, 2))
    number = draw.choice((signal.SIGINT, signal.SIGTERM))
    told = stopped(process, number, group=draw.random() < 0.5)
    assert process.returncode == 128 + number, told
    check_the_end(tmp_path / "out", number, told)
    check_it_goes_on(tmp_path / "out", registry)
