import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptb import ConfigError, StorageError
from ptb.rundir import RunDirectory, check_output, finite, git_commit


def test_a_new_or_empty_folder_is_taken(tmp_path):
    for output in (tmp_path / "new" / "deeper", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert RunDirectory.create(output, "mlp", "digits").checkpoints.is_dir()


def test_a_file_and_a_full_folder_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        check_output(tmp_path / "file")
    with pytest.raises(ConfigError, match="not empty"):
        check_output(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the run directory"):
        RunDirectory.create(tmp_path / "file" / "run", "mlp", "digits")


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "mlp", "digits")
    run.metrics.mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*metrics\.jsonl"):
        run.append_row({"step": 1})
    run.summary.mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*summary\.json"):
        run.write_summary({"status": "finished"})


@given(st.dictionaries(st.text(), st.floats() | st.integers() | st.dictionaries(st.text(), st.floats())))
def test_what_is_written_is_json_that_every_reader_takes(facts):
    text = json.dumps(finite(facts))
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_a_figure_that_is_not_finite_is_not_hidden():
    assert finite({"loss": math.nan, "values": {"a": math.inf}}) == {"loss": "nan", "values": {"a": "inf"}}


def test_the_commit_is_told_inside_a_repository_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert git_commit() is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], check=True)
    commit = git_commit()
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert git_commit() == commit + "+"


def test_it_imports_no_torch():
    code = "import sys, ptb.rundir; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
