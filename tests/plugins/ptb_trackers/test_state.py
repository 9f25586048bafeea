import subprocess
import sys

import pytest

import ptb
from ptb_trackers.rows import Position
from ptb_trackers.state import State, file_of, only_sender


def test_a_state_is_read_as_it_was_written(tmp_path):
    state = State(
        "mlflow", {"uri": "x"}, "there", "id", Position(20, ["train"], 10), ["finished", 20, "ab"], "p", ["K"]
    )
    state.write(tmp_path, "mlflow")
    assert State.read(tmp_path, "mlflow") == state


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1, "position": 3}', b'{"schema": 1, "more": 1}'])
def test_a_damaged_state_is_a_new_one(tmp_path, content):
    State("mlflow", id="x").write(tmp_path, "mlflow")
    file_of(tmp_path, "mlflow", ".json").write_bytes(content)
    assert State.read(tmp_path, "mlflow") == State()


def test_every_label_is_a_name_of_a_file(tmp_path):
    for label in ("../../up", "a/b", "..", "云", "a b"):
        State("mlflow", id=label).write(tmp_path, label)
        assert State.read(tmp_path, label).id == label
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / "trackers"}


def test_only_one_process_sends(tmp_path):
    program = (
        "import sys, pathlib; from ptb_trackers.state import only_sender\n"
        "with only_sender(pathlib.Path(sys.argv[1]), 'mlflow', 0): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(ptb.StorageError, match="another process sends to mlflow"),
            only_sender(tmp_path, "mlflow", 0),
        ):
            pass
        with only_sender(tmp_path, "other", 0):
            pass
        holder.kill()
    with only_sender(tmp_path, "mlflow", 5):  # the system frees the lock of a process that was killed
        pass
