import json
import math
import socket

import pytest

from recorded_runs import RUN_ID, append, end, rows_of

pytest.importorskip("wandb", reason="the extra wandb is not installed")

from ptb_trackers.wandb_file import read_history, read_records

TABLE = '[callbacks.wandb]\nmode = "offline"\n'


def files(run):
    return sorted(run.glob(f"trackers/wandb/offline-run-*/run-{RUN_ID}.wandb"))


def test_the_files_have_everything_once(ptb, made, monkeypatch):
    secret, host = "planted-secret-value", socket.gethostname()
    monkeypatch.setenv("PLANTED_API_KEY", secret)
    monkeypatch.setenv("PLANTED", "planted-but-no-secret")
    run = made(status=None, callbacks=TABLE + f'[dataset]\npath = "/x/{secret}"\n', tags=["baseline"])
    sent = ptb("sync", run)
    assert sent.returncode == 0, sent.stderr
    assert "PLANTED_API_KEY" in sent.stderr
    (run / "trackers/wandb.json").unlink()  # nobody noted what was sent: the files say it
    append(run, *list(rows_of(3))[-2:])
    append(run, {"step": 40, "epoch": 4, "split": "val", "values": {"loss": "nan"}, "lr": 0.01})
    append(run, {"step": 10, "epoch": 4, "split": "test", "values": {"loss": 0.25}, "lr": 0.01})
    end(run)
    again = ptb("sync", run, "--json")
    assert again.returncode == 0, again.stderr
    (facts,) = json.loads(again.stdout)["trackers"]
    assert (facts["id"], facts["left"]) == (RUN_ID, 0)
    first, second = map(read_history, files(run))
    assert (sorted(first), sorted(second)) == ([10, 20], [30, 40])
    assert (first[10]["train/loss"], first[10]["val/accuracy"], first[20]["train/loss"]) == (1.0, 0.5, 0.5)
    assert math.isnan(float(second[40]["val/loss"]))
    records = [record for file in files(run) for record in read_records(file)]
    (begun, *_) = [record.run for record in records if record.HasField("run")]
    assert (begun.run_id, begun.display_name, [*begun.tags], begun.host) == (RUN_ID, "mine", ["baseline"], "")
    config = {item.key: item.value_json for item in begun.config.update}
    assert json.loads(config["optimizer"]) == {"name": "adam", "lr": 0.01}
    assert json.loads(config["dataset"]) == {"path": "/x/***"}
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in records
        for item in record.summary.update
    }
    assert (summary["status"], summary["test/loss"], summary["test_step"]) == ("finished", 0.25, 10)
    content = b"".join(file.read_bytes() for file in files(run))
    for told in (secret, "planted-but-no-secret", host, "sync"):
        assert told.encode() not in content, told


def test_a_file_that_was_cut_off_gives_what_is_whole(ptb, made, tmp_path):
    run = made(callbacks=TABLE)
    assert ptb("sync", run).returncode == 0
    (file,) = files(run)
    data = file.read_bytes()
    cut = tmp_path / "cut.wandb"
    found = []
    for length in range(0, len(data), 37):
        cut.write_bytes(data[:length])
        found.append(len(read_history(cut)))
    assert found == sorted(found)
    assert (found[0], len(read_history(file))) == (0, 2)
