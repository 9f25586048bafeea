import json
import math

from hypothesis import given
from hypothesis import strategies as st

from ptb_trackers.rows import Position, Row, Tail, unsent
from recorded_runs import append, rows_of


def test_a_row_has_its_figures_by_split_and_label():
    train, val = rows_of(1)
    assert Row.of(json.dumps(train).encode()) == Row(
        10, "train", {"train/loss": 1.0, "lr": 0.01, "epoch": 1.0, "samples_per_second": 1001.0}
    )
    assert Row.of(json.dumps(val).encode()).figures == {"val/loss": 2.0, "val/accuracy": 0.5}


def test_figures_that_json_cannot_hold_are_numbers():
    row = Row.of(b'{"step": 1, "split": "val", "values": {"a": "nan", "b": "-inf"}}')
    assert math.isnan(row.figures["val/a"])
    assert row.figures["val/b"] == -math.inf


def test_rows_are_read_once_as_they_come(tmp_path):
    tail = Tail(tmp_path / "metrics.jsonl")
    assert tail.read() == []
    append(tmp_path, *rows_of(2))
    assert [row.step for row in tail.read(3)] == [10, 10, 20]
    assert [row.split for row in tail.read()] == ["val"]
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 30, "split": "train", ')
    assert tail.read() == []
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('"values": {}}\n')
    assert [row.step for row in tail.read()] == [30]


def test_a_file_that_was_replaced_is_read_from_its_beginning(tmp_path):
    append(tmp_path, *rows_of(3))
    tail = Tail(tmp_path / "metrics.jsonl")
    tail.read()
    (tmp_path / "metrics.jsonl").rename(tmp_path / "old")  # what a resumed run does to rows behind its checkpoint
    append(tmp_path, *rows_of(4))
    assert [row.step for row in tail.read()] == [10, 10, 20, 20, 30, 30, 40, 40]


def test_a_damaged_line_hides_no_other(tmp_path):
    append(tmp_path, *rows_of(1))
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'\xff\xfe\n[]\n{"step": 1}\n{"step": 1, "split": "val", "values": 3}\n' + b"[" * 5000 + b"\n")
    append(tmp_path, *list(rows_of(2))[2:])
    assert [row.step for row in Tail(tmp_path / "metrics.jsonl").read()] == [10, 10, 20, 20]


@given(st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_what_was_sent_is_known_again_after_a_resume(sent, kept, test_row):
    """A run is killed after ``sent`` rows were sent, and takes the rows behind the first ``kept`` once more."""
    rows = [Row.of(json.dumps(row).encode()) for row in rows_of(6)]
    if test_row:  # its step is that of the best weights, somewhere in between
        rows.append(Row(20, "test", {"test/loss": 1.0}))
    position, there = Position(), []
    for row in rows[:sent] + rows[min(kept, sent) :]:
        if not position.covers(row):
            there.append(row)
            position.add(row)
    assert there == rows
    assert all(map(position.covers, rows))


def test_rows_that_were_not_sent_are_counted(tmp_path):
    append(tmp_path, *rows_of(600))
    position = Position()
    assert unsent(tmp_path / "metrics.jsonl", position) == (1200, 1200)
    position.step, position.splits = 5000, ["train"]
    assert unsent(tmp_path / "metrics.jsonl", position) == (201, 1200)
    assert unsent(tmp_path / "none", position) == (0, 0)
