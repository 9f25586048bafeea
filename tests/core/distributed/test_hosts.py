"""Two hosts: network namespaces of this one, joined by a bridge, with a run directory that they share or do not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from ptb import RunRecord

SETTINGS = (
    *("--model", "mlp", "model.hidden=[8]", "--dataset", "random", "dataset.inputs=vector", "dataset.input_shape=[4]"),
    *("dataset.output_size=3", "dataset.samples=101", "--batch-size", "10", "--device", "cpu", "threads=1"),
)


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def hosts():
    """The names of two namespaces, whose addresses are 10.213.7.1 and 10.213.7.2."""
    if shutil.which("ip") is None or os.getuid() != 0:
        pytest.skip("two hosts are network namespaces, which need root and ip(8)")
    names, bridge = [f"ptb{os.getpid()}h{number}" for number in (1, 2)], f"pb{os.getpid()}"
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        for number, name in enumerate(names, 1):
            ip("netns", "add", name)
            ends = f"pv{os.getpid()}{number}", f"eth{number}"
            ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", name)
            ip("link", "set", ends[0], "master", bridge, "up")
            ip("-n", name, "addr", "add", f"10.213.7.{number}/24", "dev", ends[1])
            ip("-n", name, "link", "set", ends[1], "up")
            ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        _remove(names, bridge)
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    yield names
    _remove(names, bridge)


def _remove(names, bridge):
    for name in names:
        with suppress(subprocess.CalledProcessError):
            ip("netns", "del", name)
    with suppress(subprocess.CalledProcessError):
        ip("link", "del", bridge)


def start(hosts, number, folder, port, *arguments):
    """torchrun on a host, in a folder of that host."""
    folder.mkdir(exist_ok=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(number - 1)]
    meeting = ["--master-addr", "10.213.7.1", "--master-port", str(port), "-m", "ptb"]
    interface = {"GLOO_SOCKET_IFNAME": f"eth{number}", "PTB_PROBE": "0", "PTB_REPORT": "0", "PTB_TIMEOUT": "8"}
    return subprocess.Popen(
        ["ip", "netns", "exec", hosts[number - 1], *torchrun, *meeting, *map(str, arguments)],
        cwd=folder, env=os.environ | interface, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process):
    _, said = process.communicate(timeout=120)
    return process.returncode, said


def test_two_hosts_that_share_no_folder_train_one_run(hosts, ptb, tmp_path):
    arguments = ("run", *SETTINGS, "--epochs", "2", "--output", "run")
    both = [start(hosts, number, tmp_path / f"host{number}", 29517, *arguments) for number in (1, 2)]
    for code, said in map(ended, both):
        assert code == 0, said
    assert [(tmp_path / f"host{number}" / "run").exists() for number in (1, 2)] == [True, False]
    assert ptb(*arguments).returncode == 0
    one, two = RunRecord(tmp_path / "run"), RunRecord(tmp_path / "host1" / "run")
    assert two.manifest["world_size"] == 2
    assert two.columns("val")["loss"] == pytest.approx(one.columns("val")["loss"], rel=1e-5)


@pytest.mark.reliability
@pytest.mark.parametrize("how", ["kill", "cut"])
def test_where_a_host_dies_the_other_ends_and_both_go_on_later(hosts, tmp_path, how):
    more = ("--output", "run", "--resume", "auto", "trainer.checkpoint_every=5")
    arguments = ("run", *SETTINGS, "--epochs", "100000", *more)
    both = [start(hosts, number, tmp_path / "shared", 29518, *arguments) for number in (1, 2)]
    rows = tmp_path / "shared" / "run" / "metrics.jsonl"
    until = time.monotonic() + 90
    while time.monotonic() < until and (not rows.exists() or len(rows.read_text().splitlines()) < 4):
        time.sleep(0.05)
    if how == "kill":
        names = ip("netns", "pids", hosts[1]).stdout.split()
        for pid in map(int, names):
            os.kill(pid, signal.SIGKILL)
    else:
        ip("-n", hosts[1], "link", "set", "eth2", "down")
    codes = [ended(process)[0] for process in both]
    assert 0 not in codes
    ip("-n", hosts[1], "link", "set", "eth2", "up")
    done = [start(hosts, number, tmp_path / "shared", 29519, *arguments, "--stop-after", 400) for number in (1, 2)]
    for code, said in map(ended, done):
        assert code == 0, said
    assert json.loads((tmp_path / "shared" / "run" / "summary.json").read_text())["step"] == 400
