"""Runs with trackers, from the command line."""

import json
import socket
import threading
from importlib.util import find_spec

import pytest

from ptb_trackers.settings import TRACKERS
from ptb_trackers.state import only_sender

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SHORT = ("--model", "mlp", "dataset.size=8", "model.hidden=[8]", "-q")
# Kills the process in its third epoch, as soon as the trackers have the rows of the first two.
KILLER = """
import json, os, pathlib, signal, time
from ptb import Component, hookimpl

class Killer:
    def on_step_end(self, trainer, output):
        run = pathlib.Path(trainer.run.path)
        if (run / "killed").exists() or trainer.state.epoch < 2:
            return
        noted = list((run / "trackers").glob("tensorboard.json"))
        while not noted or json.loads(noted[0].read_text())["position"]["step"] != 2 * 40:
            time.sleep(0.05)
            noted = list((run / "trackers").glob("tensorboard.json"))
        (run / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def ptb_provide_callbacks():
    return [Component("killer", f"{__name__}:Killer", role="observer")]
"""


def summary(run):
    return json.loads((run / "summary.json").read_text())


def steps(run, tag):
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [each.step for each in events.Scalars(tag)]


@pytest.fixture
def plain(ptb, tmp_path):
    """The same run without trackers."""
    assert ptb("run", *SHORT, "--epochs", "4", "--output", "plain").returncode == 0
    return summary(tmp_path / "plain")


def test_a_run_that_was_killed_and_resumed_is_one_run(ptb, tmp_path, plain):
    (tmp_path / "killer.py").write_text(KILLER)
    words = ("--callback", "killer", "--callback", "tensorboard", "trainer.checkpoint_every=1000")
    killed = ptb("-p", "killer.py", "run", *SHORT, "--epochs", "4", "--output", "mine", *words)
    assert killed.returncode == -9, killed.stderr
    resumed = ptb("-p", "mine/plugins/killer.py", "resume", "mine", "-q")
    assert resumed.returncode == 0, resumed.stderr
    assert "warning" not in resumed.stderr
    run = tmp_path / "mine"
    assert steps(run, "train/loss") == steps(run, "val/accuracy") == [40, 80, 120, 160]
    assert len(steps(run, "test/accuracy")) == 1
    assert summary(run)["weights_sha256"] == plain["weights_sha256"]


def test_a_run_that_is_stopped_says_so(ptb, tmp_path):
    assert ptb("run", *SHORT, "--callback", "tensorboard", "--stop-after", "50", "--output", "mine").returncode == 0
    run = tmp_path / "mine"
    state = json.loads((run / "trackers/tensorboard.json").read_text())
    assert state["ended"][:2] == ["interrupted", 50]
    assert steps(run, "train/loss") == [40]


def test_a_tracker_may_be_added_when_a_run_is_resumed(ptb, tmp_path):
    assert ptb("run", *SHORT, "--epochs", "2", "--stop-after", "50", "--output", "mine").returncode == 0
    assert ptb("resume", "mine", "--callback", "tensorboard", "-q").returncode == 0
    run = tmp_path / "mine"
    assert steps(run, "train/loss") == [40, 80]
    for file in (run / "tensorboard").iterdir():
        file.unlink()
    assert ptb("sync", "mine").returncode == 0  # it knows of it, though config.toml does not
    assert steps(run, "train/loss") == [40, 80]


def test_a_continued_run_is_another_run(ptb, tmp_path):
    words = ("--callback", "tensorboard", "callbacks.tensorboard.logdir=logs")
    assert ptb("run", *SHORT, "--epochs", "1", "--output", "one", *words).returncode == 0
    assert ptb("run", "--continue", "one", "--epochs", "2", "--output", "two", "-q").returncode == 0
    ids = [json.loads((tmp_path / name / "manifest.json").read_text())["run"][:8] for name in ("one", "two")]
    folders = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert folders == [f"one-{ids[0]}", f"two-{ids[1]}"]


class Broken:
    """A server on loopback that answers 500, or never."""

    def __init__(self, *, answers):
        self._answers = answers
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.append(connection)
            if self._answers:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\nConnection: close\r\n\r\noh no")
                connection.close()

    def close(self):
        for each in (self._server, *self._open):
            each.close()


@pytest.fixture
def broken():
    servers = [Broken(answers=True), Broken(answers=False)]
    yield [server.address for server in servers]
    for server in servers:
        server.close()


@pytest.mark.slow
def test_broken_servers_cost_a_line_each_and_no_weight(ptb, tmp_path, plain, broken, monkeypatch):
    """One refuses, one answers 500, one hangs; a fourth label has a disk that takes nothing."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    fails, hangs = broken
    with socket.create_server(("127.0.0.1", 0)) as free:
        refuses = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("WANDB_BASE_URL", hangs)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    labels = {
        "refuses": ("mlflow", f"uri={refuses}"),
        "fails": ("mlflow", f"uri={fails}"),
        "wandb": ("wandb", "mode=online"),
        "full": ("tensorboard", "logdir=/dev/full/logs"),
    }
    words = [
        word
        for label, (name, setting) in labels.items()
        for word in (
            f"callbacks.{label}.name={name}",
            f"callbacks.{label}.{setting}",
            f"callbacks.{label}.flush_seconds=2",
        )
    ]
    done = ptb("run", *SHORT, "--epochs", "4", "--output", "mine", *words)
    assert done.returncode == 0
    run = tmp_path / "mine"
    assert summary(run)["weights_sha256"] == plain["weights_sha256"]
    for label, (name, _) in labels.items():
        (line,) = [line for line in done.stderr.splitlines() if f"callbacks.{label}:" in line]
        assert f"9 of 9 rows not sent to {name}" in line
        assert f"`ptb sync mine {label}` sends the rest" in line
    store = tmp_path / "store"
    sent = ptb("sync", "mine", "refuses", f"callbacks.refuses.uri={store.as_uri()}")
    assert sent.returncode == 0, sent.stderr
    assert "sent 9 rows" in sent.stdout
    (history,) = store.glob("*/*/metrics/train/loss")
    assert [int(line.split()[2]) for line in history.read_text().splitlines()] == [40, 80, 120, 160]
    refused = ptb("sync", "mine", "fails", "--timeout", "5", "--json")
    assert refused.returncode == 5
    assert "9 of 9 rows not sent to mlflow" in json.loads(refused.stdout)["error"]["message"]


def test_sync_says_what_it_cannot_send(ptb, tmp_path):
    assert ptb("run", *SHORT, "--epochs", "1", "--output", "mine").returncode == 0
    for words, said in (
        (["mine"], "mine has no tracker; name one to send it to: `ptb sync mine tensorboard`"),
        (["mine", "tensorbord"], "tensorbord is no tracker of mine; there are tensorboard, mlflow, wandb"),
        (["mine", "tensorboard", "model.hidden=[3]"], "model.hidden=[3] cannot be set here"),
        (["mine", "tensorboard", "callbacks.tensorboard.logdr=x"], "logdir"),
        (["none"], "none is not a run directory"),
    ):
        refused = ptb("sync", *words)
        assert refused.returncode == 2, words
        assert said in refused.stderr
    assert not (tmp_path / "mine/trackers").exists()
    assert ptb("sync", "mine", "tensorboard").returncode == 0  # a run that had no tracker
    assert steps(tmp_path / "mine", "train/loss") == [40]


@pytest.mark.parametrize(
    ("tracker", "said"),
    [
        ("mlflow", "not sent to mlflow: no server is named; write callbacks.mlflow.uri=http://HOST:5000"),
        ("wandb", "not sent to wandb: no API key is configured; set WANDB_API_KEY or type `wandb login`"),
    ],
)
def test_sync_without_an_address_or_a_key_says_what_to_type(made, ptb, tmp_path, monkeypatch, tracker, said):
    if tracker == "mlflow" and find_spec("sqlalchemy") and find_spec("alembic"):
        pytest.skip("the whole of MLflow is installed, which needs no server")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # where wandb looks for a login
    refused = ptb("sync", made(), tracker)
    assert refused.returncode == 5
    assert said in refused.stderr


def test_sync_leaves_a_run_to_the_process_that_sends_it(ptb, made):
    run = made()
    with only_sender(run, "tensorboard", 0):
        refused = ptb("sync", run, "tensorboard")
    assert refused.returncode == 5
    assert "another process sends to tensorboard: a run that trains, or `ptb sync`" in refused.stderr


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_library_that_is_missing_is_said_before_training(ptb, tmp_path, tracker, monkeypatch):
    library = {"mlflow": "mlflow-skinny"}.get(tracker, tracker)
    hidden = (
        "import importlib.metadata as m, sys\n"
        "real = m.version\n"
        "def version(name):\n"
        f"    if name == {library!r}: raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.version = version\n"
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(hidden)
    refused = ptb("run", *SHORT, "--callback", tracker, "--output", "none", site=tmp_path / "site", forked=False)
    assert refused.returncode == 7
    assert f"pytorch-basics[{tracker}]" in refused.stderr
    assert not (tmp_path / "none").exists()
