import errno
import json
import math
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ptb
from ptb import ConfigError, RunConfig, StorageError
from ptb.storage import atomic
from ptb.storage.checkpoint import resolve_checkpoint
from ptb.storage.run_directory import (
    RunDirectory,
    check_output,
    finite,
    read_json,
    split_checkpoint,
    write_json,
)


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


@pytest.mark.parametrize(
    ("code", "error"), [(errno.EIO, StorageError), (errno.EACCES, ConfigError), (errno.ENAMETOOLONG, ConfigError)]
)
def test_a_disk_that_fails_is_told_from_a_name_that_is_wrong(tmp_path, monkeypatch, code, error):
    def fails(path):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "iterdir", fails)
    with pytest.raises(error, match=r"the output directory .* cannot be used"):
        check_output(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file.run: "):
        RunDirectory.create(tmp_path / "file" / "run", "mlp", "digits")


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "mlp", "digits")
    run.metrics.mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*metrics\.jsonl"):
        run.append_row({"step": 1})
    run.summary.mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*summary\.json"):
        write_json(run.summary, {"status": "finished"})


@pytest.mark.parametrize("left", [[], ["checkpoints/"], [".lock", "checkpoints/", ".config.toml.0123456789abcdef.tmp"]])
def test_what_a_run_that_was_killed_before_it_began_has_left_is_no_run(left, tmp_path):
    for name in left:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("")
    run = RunDirectory.create(tmp_path, "mlp", "digits")
    assert not run.is_started()
    with run.writing():
        assert sorted(os.listdir(tmp_path)) == [".lock", "checkpoints"]
    assert os.listdir(tmp_path) == ["checkpoints"]


def test_whoever_writes_a_run_flushes_the_name_of_its_folder(tmp_path, monkeypatch):
    run, flushed = RunDirectory.create(tmp_path / "run", "mlp", "digits"), []
    monkeypatch.setattr(atomic, "sync_folder", flushed.append)
    with run.writing():  # whoever made it may have been killed before it was on the disk
        assert flushed == [tmp_path]


def test_a_run_without_its_configuration_is_told_from_no_run(tmp_path):
    RunDirectory.create(tmp_path / "run", "mlp", "digits")
    with pytest.raises(ConfigError, match=r"has no config\.toml; put it back, there are checkpoints"):
        RunDirectory.open(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"has no config\.toml; runs are under runs/"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize("left", ["config.toml", "checkpoints/ckpt-1.safetensors", "notes.tmp"])
def test_anything_else_is_not_written_over(left, tmp_path):
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_text("")
    with pytest.raises(ConfigError, match="is not empty"):
        RunDirectory.create(tmp_path, "mlp", "digits")


def test_temporaries_of_a_writer_that_was_killed_are_cleared_away_by_the_next(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "mlp", "digits")
    for folder in (run.path, run.checkpoints):
        (folder / ".ckpt-1.0123456789abcdef.tmp").write_text("")
        (folder / "mine.tmp").write_text("")
    with run.writing():
        pass
    assert sorted(path.name for path in run.path.rglob("*")) == ["checkpoints", "mine.tmp", "mine.tmp"]


@pytest.mark.parametrize(
    ("text", "rows", "left", "enough"),
    [
        ("a\nb\nc\n", 2, "a\nb\n", True),
        ("a\nb\nc", 2, "a\nb\n", True),
        ("a\nb\nc", 3, "a\nb\n", False),
        ("a\nb\n\0\0\0", 2, "a\nb\n", True),
        ("a\nb\n", 2, "a\nb\n", True),
        ("a\n", 0, "", True),
        ("", 1, "", False),
        (None, 0, None, True),
        (None, 1, None, False),
    ],
    ids=["more", "torn", "torn-away", "zeros", "as-many", "none", "lost", "no-file", "lost-file"],
)
def test_the_rows_after_a_checkpoint_are_cut_off(text, rows, left, enough, tmp_path):
    run = RunDirectory(tmp_path)
    if text is not None:
        run.metrics.write_text(text)
    assert run.truncate_rows(rows) is enough
    assert (run.metrics.read_text() if run.metrics.exists() else None) == left


def test_rows_are_flushed_where_there_are_any(tmp_path, calls):
    run = RunDirectory(tmp_path)
    run.sync_rows()
    assert ("fsync" in calls, os.listdir(tmp_path)) == (False, [])
    assert run.append_row({"step": 1}) == run.rows() == b'{"step": 1}\n'
    assert "fsync" not in calls
    run.sync_rows()
    assert "fsync" in calls


def test_rows_that_are_cut_off_are_gone_or_there_whatever_happens(tmp_path, fail):
    run = RunDirectory(tmp_path)
    for step in range(3):
        run.append_row({"step": step})
    fail("replace", errno.EIO)
    with pytest.raises(StorageError, match=r"cannot write .*metrics\.jsonl"):
        run.truncate_rows(1)
    assert run.rows().count(b"\n") == 3


@pytest.mark.parametrize(
    ("rows", "summary", "trained"),
    [("", None, False), ("{}\n", None, True), ("", {"step": 0}, False), ("", {"step": 3}, True), ("", {}, False)],
)
def test_a_run_has_trained_where_its_files_show_steps(rows, summary, trained, tmp_path):
    run = RunDirectory(tmp_path)
    assert not run.has_trained()
    run.metrics.write_text(rows)
    if summary is not None:
        write_json(run.summary, summary)
    assert run.has_trained() is trained


def test_a_summary_that_is_not_there_need_not_be_removed(tmp_path):
    run = RunDirectory(tmp_path)
    write_json(run.summary, {"status": "finished"})
    for _ in range(2):
        run.remove_summary()
    assert not run.summary.exists()


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.toml").write_text("")
    return RunDirectory.open(tmp_path)


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ('{"dataset_sha256": "abc"}', {"dataset_sha256": "abc"}),
        ("{}", {}),
        ("[]", {}),
        ("no json", {}),
        ("[" * 10**5, {}),
        ("\udcff", {}),
        (None, {}),
    ],
    ids=["told", "lacking", "list", "damaged", "deep", "bytes", "none"],
)
def test_what_a_run_was_made_with_is_read_from_the_manifest(run, manifest, expected):
    if manifest is not None:
        run.manifest.write_bytes(manifest.encode(errors="surrogateescape"))
    assert read_json(run.manifest) == expected


@pytest.mark.parametrize(
    ("read", "call"),
    [
        *((lambda run: read_json(run.manifest), "open"), (lambda run: read_json(run.manifest), "read")),
        *((RunDirectory.rows, "open"), (RunDirectory.has_trained, "read")),
        *((RunDirectory.sync_rows, "stat"), (RunDirectory.sync_rows, "open"), (RunDirectory.is_started, "stat")),
    ],
)
def test_a_file_that_cannot_be_read_is_not_taken_for_one_that_is_not_there(read, call, run, fail):
    run.metrics.write_text("{}")
    run.manifest.write_text("{}")
    fail(call, errno.EIO)
    with pytest.raises(StorageError, match=r"(manifest\.json|metrics\.jsonl|config\.toml): Input/output error"):
        read(run)


FIGURES = st.recursive(
    st.floats() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=3), FIGURES, max_size=3))
def test_what_is_written_is_json_that_every_reader_takes(values):
    json.loads(json.dumps(finite(values)), parse_constant=lambda name: pytest.fail(name))


def test_a_figure_that_is_not_finite_is_not_hidden():
    assert finite({"loss": math.nan, "values": [{"a": math.inf}]}) == {"loss": "nan", "values": [{"a": "inf"}]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/a", ("runs/a", None)),
        ("runs/a@best", ("runs/a", "best")),
        ("runs/a@10", ("runs/a", "10")),
        ("me@home/a", ("me@home/a", None)),
        ("me@home/a@last", ("me@home/a", "last")),
        ("there@best", ("there@best", None)),
        ("there@best@last", ("there@best", "last")),
    ],
)
def test_a_run_and_its_checkpoint_are_told_apart(text, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there@best").mkdir()
    assert split_checkpoint(text) == (Path(expected[0]), expected[1])


def test_a_run_may_be_moved_and_copied(tiny, tmp_path):
    config = RunConfig(model={"name": "net"}, dataset={"name": "line"}, trainer={"epochs": 3}, device="cpu")
    whole = ptb.train(config, registry=tiny, output=tmp_path / "whole")
    copied = shutil.copytree(whole.output, tmp_path / "elsewhere" / "copy", copy_function=shutil.copyfile)
    moved = whole.output.rename(tmp_path / "moved")
    for path in (moved, copied):
        newest = resolve_checkpoint(path / "checkpoints", "last")
        newest.unlink()
        (path / "summary.json").unlink()
        again = ptb.resume(path, registry=tiny)
        assert (again.output, again.weights_sha256) == (path, whole.weights_sha256)
        assert resolve_checkpoint(path / "checkpoints", "last").name.split("-")[1] == newest.name.split("-")[1]
