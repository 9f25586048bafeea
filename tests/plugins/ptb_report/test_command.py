import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from report_runs import made_run

SHORT = ("dataset.size=8", "model.hidden=[8]", "--epochs", "2", "-q")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, run_python):
    """A run of the smallest classifier of digits, without a page."""
    folder = tmp_path_factory.mktemp("trained")
    done = run_python([sys.executable, "-m", "ptb", "run", "--model", "mlp", *SHORT, "--output", "run"], cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_a_page_is_written_into_the_run_and_replaced(ptb, run):
    done = ptb("report", "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote run/report.html (")
    first = (run / "report.html").read_bytes()
    assert (run / "predictions-test.jsonl").exists()
    assert ptb("report", "run").returncode == 0
    assert (run / "report.html").read_bytes() == first


def test_json_is_one_object(ptb, run):
    done = ptb("report", "run", "-o", "page.html", "--json")
    facts = json.loads(done.stdout)
    assert facts == {"schema": 1, "file": "page.html", "bytes": (run.parent / "page.html").stat().st_size}


def test_the_matrix_is_that_of_eval(ptb, run):
    ptb("report", "run")
    ptb("eval", "run", "--predictions", "rows.jsonl")
    rows = [json.loads(line) for line in (run.parent / "rows.jsonl").read_text().splitlines()]
    text = (run / "report.html").read_text()
    accuracy = json.loads((run / "summary.json").read_text())["metrics"]["test/accuracy"]
    right = sum(row["truth"] == row["prediction"] for row in rows)
    assert f"{len(rows)} samples of the test split: {right} are right" in text
    assert right / len(rows) == pytest.approx(accuracy)
    assert f'<data value="{accuracy!r}"' in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere",), "nowhere is not a run directory"),
        (("run", "-o", "there.html"), "there.html exists; name another file"),
        (("run", "-o", "page.pdf"), "a .html file can be written"),
        (("run", "-o", "no/where.html"), "there is no folder no"),
        (("run", "run"), "the same run is named twice"),
        (("run", "other", "--live"), "--live follows one run"),
        (("run", "--language", "fr"), "'fr' is not one of"),
    ],
)
def test_what_cannot_be_done_is_said(ptb, tmp_path, arguments, told):
    made_run(tmp_path / "run")
    made_run(tmp_path / "other")
    (tmp_path / "there.html").write_text("mine")
    done = ptb("report", *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "there.html").read_text() == "mine"


def test_a_run_without_a_checkpoint_has_a_page_that_says_so(ptb, tmp_path):
    made_run(tmp_path / "run", predictions=False)
    done = ptb("report", "run")
    assert done.returncode == 0
    text = (tmp_path / "run/report.html").read_text()
    assert "so there are no mistakes to show: " in text
    assert "checkpoint" in text


def test_several_runs_go_into_a_file_of_their_own(ptb, tmp_path):
    for name in ("one", "two"):
        made_run(tmp_path / name)
    assert ptb("report", "one", "two").stdout.startswith("wrote report.html (")
    assert ptb("report", "one", "two").returncode == 2


def test_live_ends_with_the_run(ptb, tmp_path):
    made_run(tmp_path / "run")
    done = ptb("report", "run", "--live")
    assert done.returncode == 0
    assert "data-live" not in (tmp_path / "run/report.html").read_text()


def test_live_writes_while_the_run_goes_on_until_ctrl_c(tmp_path):
    run = made_run(tmp_path / "run", ended=False, predictions=False)
    process = subprocess.Popen([sys.executable, "-m", "ptb", "report", str(run), "--live"], stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not (run / "report.html").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert 'data-live="5"' in (run / "report.html").read_text()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert "data-live" not in (run / "report.html").read_text()


def test_live_notices_new_rows_and_a_run_that_was_killed(tmp_path, monkeypatch):
    from ptb_report import live

    run = made_run(tmp_path / "run", ended=False, predictions=False)
    (run / "checkpoints").mkdir()
    looks = []

    def sleep(seconds):
        looks.append((tmp_path / "page.html").read_text().count("epoch 9"))
        if len(looks) == 2:
            with (run / "metrics.jsonl").open("a") as rows:
                row = {"step": 90, "epoch": 9, "split": "val", "values": {"loss": 1.0}, "lr": 0.1}
                rows.write(json.dumps(row) + "\n")

    monkeypatch.setattr("ptb_report.live.time.sleep", sleep)
    live.follow(run, tmp_path / "page.html", "en")
    assert looks[0] == looks[1] == 0
    assert looks[2] > 0
    assert len(looks) == 3 + live.SILENT
