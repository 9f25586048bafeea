import errno
import math

import pytest

from ptb_trackers.sender import DONE, FAILED, Sender
from recorded_runs import RUN_ID, append, end, rows_of

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ptb_trackers import event_file
from ptb_trackers.event_file import EventFile, read_events

FILE = f"tensorboard/events.out.tfevents.0000000000.ptb.{RUN_ID}"


def send(run, **settings):
    sender = Sender(run, "tensorboard", "tensorboard", {"logdir": "", **settings}, 1.0)
    sender.over.set()
    return sender.run()


def scalars(folder):
    """The step and value of each scalar, as TensorBoard reads them."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_every_figure(made):
    run = made(tags=["baseline"])
    assert send(run) == DONE
    found = scalars(run / "tensorboard")
    assert found["train/loss"] == [(10, 1.0), (20, 0.5)]
    assert found["val/loss"] == [(10, 2.0), (20, 1.0)]
    assert found["val/accuracy"] == [(10, 0.5), (20, 0.75)]
    assert found["test/loss"] == [(10, 0.25)]
    assert found["samples_per_second"] == [(10, 1001.0), (20, 1002.0)]
    assert found.keys() >= {"lr", "epoch"}


def test_it_reads_settings_tags_summary_and_state(made):
    run = made(tags=["baseline"])
    send(run)
    with (run / FILE).open("rb") as stream:
        values = {value.tag: value for event, _ in read_events(stream) for value in event.summary.value}
    texts = {tag: value.tensor.string_val[0].decode() for tag, value in values.items() if value.tensor.string_val}
    assert '"lr": 0.01' in texts["config"]
    assert texts["tags"] == "baseline"
    assert '"weights_sha256": "abab' in texts["summary/finished"]
    from tensorboard.plugins.hparams import metadata

    content = values["_hparams_/session_start_info"].metadata.plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(content).hparams
    assert hparams["optimizer.lr"].number_value == 0.01
    assert hparams["model.name"].string_value == "mlp"
    ended = values["_hparams_/session_end_info"].metadata.plugin_data.content
    assert metadata.parse_session_end_info_plugin_data(ended).status == 1  # STATUS_SUCCESS


def test_figures_that_are_not_finite_are_there(made):
    run = made(status=None, epochs=1)
    append(run, {"step": 20, "epoch": 2, "split": "val", "values": {"loss": "nan", "x": "inf"}, "lr": 0.1})
    send(run)
    found = scalars(run / "tensorboard")
    assert math.isnan(found["val/loss"][1][1])
    assert found["val/x"] == [(20, math.inf)]


def test_a_run_that_goes_on_is_one_run(made):
    run = made(status=None)
    send(run)
    (run / "metrics.jsonl").unlink()  # resumed from a checkpoint before its last rows
    append(run, *rows_of(4))
    end(run)
    (run / "trackers/tensorboard.json").unlink()  # nobody noted what was sent: the file says it
    send(run)
    found = scalars(run / "tensorboard")
    assert [step for step, _ in found["train/loss"]] == [10, 20, 30, 40]
    assert [path.name for path in (run / "tensorboard").iterdir()] == [FILE.partition("/")[2]]


@pytest.mark.parametrize("lost", [1, 5, 20, 200])
def test_what_a_crash_cut_off_is_written_again(made, lost):
    run = made()
    send(run)
    whole = scalars(run / "tensorboard")
    with (run / FILE).open("r+b") as stream:
        stream.truncate(stream.seek(0, 2) - lost)
    (run / "trackers/tensorboard.json").unlink()
    send(run)
    assert scalars(run / "tensorboard") == whole


def test_deleted_files_are_written_again(made):
    run = made()
    send(run)
    whole = scalars(run / "tensorboard")
    (run / FILE).unlink()
    assert send(run) == DONE
    assert scalars(run / "tensorboard") == whole


def test_a_full_disk_fails_and_the_next_try_goes_on(made, monkeypatch):
    run = made()
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(event_file.os, "fsync", full)
        assert send(run) == FAILED
    assert send(run) == DONE
    assert scalars(run / "tensorboard")["train/loss"] == [(10, 1.0), (20, 0.5)]


def test_runs_of_one_name_have_folders_of_their_own(made, tmp_path):
    logdir = str(tmp_path / "logs")
    for number, name in enumerate(("a/same", "b/same")):
        send(made(name, run=f"{number}bcdefgh"), logdir=logdir)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["same-0bcdefgh", "same-1bcdefgh"]


def test_an_event_file_keeps_what_is_whole(tmp_path):
    path = tmp_path / "events"
    path.write_bytes(b"no event at all, and longer than a head is")
    file = EventFile(path)
    file.close()
    with path.open("rb") as stream:
        assert [event.file_version for event, _ in read_events(stream)] == ["brain.Event:2"]
