import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from ptb_trackers.mlflow import _key
from recorded_runs import RUN_ID, append, end, make_run, rows_of

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

# A Python in which the whole of MLflow is installed, with its server; the extra has the client only.
PYTHON = os.environ.get("PTB_TEST_MLFLOW_PYTHON")
TABLE = '[callbacks.mlflow]\nuri = "{uri}"\n'
LOSSES = [(10, 1.0), (20, 0.5)]


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def stored(store):
    """The one run in a folder of MLflow: its metrics, settings, tags and facts."""
    (facts,) = store.glob("*/*/meta.yaml")
    run = facts.parent
    metrics = {
        path.relative_to(run / "metrics").as_posix(): [
            (int(step), float(value)) for _, value, step in map(str.split, path.read_text().splitlines())
        ]
        for path in (run / "metrics").rglob("*")
        if path.is_file()
    }
    settings, tags = ({path.name: path.read_text() for path in (run / part).iterdir()} for part in ("params", "tags"))
    return metrics, settings, tags, facts.read_text()


def test_a_local_store_has_everything_once(ptb, made, store):
    run = made(status=None, tags=["baseline"], callbacks=TABLE.format(uri=store.as_uri()))
    sent = ptb("sync", run, "--json")
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["trackers"][0]["sent"] == 4
    (run / "metrics.jsonl").unlink()  # resumed, from a checkpoint before its last rows
    append(run, *rows_of(2))
    append(run, {"step": 30, "epoch": 3, "split": "val", "values": {"loss": "nan", "F1 (猫)": "inf"}, "lr": 0.01})
    end(run)
    state = run / "trackers/mlflow.json"
    known = json.loads(state.read_text())
    state.write_text(json.dumps(known | {"id": "", "position": {"step": -1, "splits": [], "test": None}}))
    again = ptb("sync", run, site=None)
    assert again.returncode == 0, again.stderr
    metrics, settings, tags, facts = stored(store)  # found by its tag, though nobody noted its id
    assert metrics["train/loss"] == LOSSES
    assert metrics["val/accuracy"] == [(10, 0.5), (20, 0.75)]
    (_, _, (step, value)) = metrics["val/loss"]
    assert step == 30
    assert math.isnan(value)
    assert metrics[_key("val/F1 (猫)")] == [(30, math.inf)]
    assert (settings["optimizer.lr"], settings["model.hidden"]) == ("0.01", "[8]")
    assert (tags["ptb.run"], tags["ptb.tags"], tags["ptb.status"]) == (RUN_ID, "baseline", "finished")
    assert tags["ptb.weights_sha256"] == "ab" * 32
    assert "status: 3" in facts  # FINISHED
    told = ("run", "tags", "status", "epoch", "step", "weights_sha256")
    assert tags.keys() == {"mlflow.runName", *(f"ptb.{name}" for name in told)}


def test_secrets_and_the_machine_stay_here(ptb, made, store, monkeypatch):
    secret, host = "planted-secret-value", socket.gethostname()
    monkeypatch.setenv("PLANTED_API_KEY", secret)
    monkeypatch.setenv("PLANTED", "planted-but-no-secret")
    run = made(callbacks=TABLE.format(uri=store.as_uri()) + f'[dataset]\npath = "/x/{secret}"\n', name=f"a-{secret}")
    sent = ptb("sync", run)
    assert sent.returncode == 0, sent.stderr
    assert "PLANTED_API_KEY" in sent.stderr
    assert secret not in sent.stderr
    texts = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
    assert any(b"/x/***" in text for text in texts)
    for told in (secret, "planted-but-no-secret", host):
        assert not any(told.encode() in text for text in texts), told


def test_without_a_server_nothing_is_trained(ptb, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    refused = ptb("run", "--model", "mlp", "--callback", "mlflow", "--output", "none")
    assert refused.returncode == 2
    assert "callbacks.mlflow.uri=http://HOST:5000" in refused.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["val/a b", "train/loss", "val/report/re.call"])
def test_names_that_mlflow_takes_stay(name):
    assert _key(name) == name


def test_names_that_it_does_not_take_stay_different():
    names = ["a(b)", "a[b]", "a//b", "a/../b", "/a", "x" * 300, "x" * 301, "a\nb"]
    keys = [_key(name) for name in names]
    assert len({*keys}) == len(names)
    assert all(len(key) <= 250 and "//" not in key and not key.startswith("/") for key in keys)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server with an empty database, and the database."""
    if not PYTHON:
        pytest.skip("PTB_TEST_MLFLOW_PYTHON names no Python in which the whole of MLflow is installed")
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MLFLOW"))}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*map(str, command)], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        last = time.monotonic() + 90
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < last, "the server does not start"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", folder / "mlflow.db"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_server_has_everything_once(ptb, tmp_path, server):
    uri, database = server
    run = make_run(tmp_path / "mine", status=None, callbacks=TABLE.format(uri=uri), tags=["baseline"])
    assert ptb("sync", run).returncode == 0
    (run / "trackers/mlflow.json").unlink()
    append(run, *list(rows_of(3))[-2:])
    end(run)
    assert ptb("sync", run).returncode == 0
    assert ptb("sync", run).returncode == 0
    with sqlite3.connect(database) as tables:
        runs = tables.execute("SELECT run_uuid, name, status FROM runs").fetchall()
        rows = tables.execute("SELECT step, value FROM metrics WHERE key = 'train/loss' ORDER BY step").fetchall()
        settings = dict(tables.execute("SELECT key, value FROM params").fetchall())
        tags = dict(tables.execute("SELECT key, value FROM tags").fetchall())
    assert [(name, status) for _, name, status in runs] == [("mine", "FINISHED")]
    assert rows == [*LOSSES, (30, 1 / 3)]
    assert settings["optimizer.lr"] == "0.01"
    assert tags["ptb.run"] == RUN_ID
    assert socket.gethostname().encode() not in Path(database).read_bytes()


def _answers(address):
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
