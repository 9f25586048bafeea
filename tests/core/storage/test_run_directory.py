import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptb import ConfigError, RunConfig, StorageError
from ptb.storage import atomic
from ptb.storage.run_directory import RESUME_KEYS, RunDirectory, check_output, finite, git_commit


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
        run.write_summary({"status": "finished"})


@pytest.mark.parametrize("left", [[], ["checkpoints/"], [".lock", "checkpoints/", ".config.toml.0123456789abcdef.tmp"]])
def test_what_a_run_that_was_killed_before_it_began_has_left_is_no_run(left, tmp_path):
    for name in left:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("")
    run = RunDirectory.create(tmp_path, "mlp", "digits")
    assert not run.is_begun()
    with run.writing():
        assert sorted(os.listdir(tmp_path)) == [".lock", "checkpoints"]
    assert os.listdir(tmp_path) == ["checkpoints"]


def test_whoever_writes_a_run_waits_for_the_name_of_its_folder(tmp_path, monkeypatch):
    run, waited = RunDirectory.create(tmp_path / "run", "mlp", "digits"), []
    monkeypatch.setattr(atomic, "sync_folder", waited.append)
    with run.writing():  # the one who made it may have been killed before it was on the disk
        assert waited == [tmp_path]


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
    assert run.cut_rows(rows) is enough
    assert (run.metrics.read_text() if run.metrics.exists() else None) == left


def test_rows_are_waited_for_where_there_are_any(tmp_path, monkeypatch):
    run, synced, real = RunDirectory(tmp_path), [], atomic.sync_file
    monkeypatch.setattr(atomic, "sync_file", lambda path: (synced.append(path), real(path)))
    assert not run.has_rows()
    run.sync_rows()
    assert (synced, os.listdir(tmp_path)) == ([], [])
    run.append_row({"step": 1})
    assert run.has_rows()
    run.sync_rows()
    assert synced == [run.metrics]


def test_a_summary_that_is_not_there_need_not_be_removed(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_summary({"status": "finished"})
    for _ in range(2):
        run.remove_summary()
    assert not run.summary.exists()


RUN = """
seed = 3
device = "cpu"
[model]
name = "mlp"
[metrics.accuracy]
[metrics.top-k]
k = 2
[loader]
batch_size = 8
drop_last = true
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.toml").write_text(RUN)
    return RunDirectory.open(tmp_path)


def test_an_evaluation_has_the_configuration_of_the_run_and_drops_no_samples(run):
    config = run.evaluation_config()
    assert config.values["loader"] == {"batch_size": 8, "drop_last": False}
    assert (config.values["seed"], config.values["device"]) == (3, "cpu")
    assert config.values["metrics"] == {"accuracy": {}, "top-k": {"k": 2}}


@pytest.mark.parametrize("section", ["initializer", "optimizer", "scheduler"])
def test_an_evaluation_leaves_out_what_only_trains(run, section):
    run.config.write_text(f"{RUN}[{section}]\nname = 'gone'\n")
    assert section in RunConfig.read([run.config]).values
    assert section not in run.evaluation_config().values


@pytest.mark.parametrize(
    ("metrics", "overrides", "expected"),
    [
        ((), ["metrics.top-k.k=3"], {"accuracy": {}, "top-k": {"k": 3}}),
        (("top-k",), [], {"top-k": {"k": 2}}),
        (("top-k",), ["metrics.top-k.k=3"], {"top-k": {"k": 3}}),
        (
            (),
            ["metrics.one={name='top-k', k=1}"],
            {"accuracy": {}, "top-k": {"k": 2}, "one": {"name": "top-k", "k": 1}},
        ),
    ],
    ids=["setting", "choice", "both", "label"],
)
def test_the_metrics_of_an_evaluation(run, metrics, overrides, expected):
    assert run.evaluation_config(metrics=metrics, overrides=overrides).values["metrics"] == expected


def test_where_and_how_fast_an_evaluation_computes(run):
    config = run.evaluation_config("cuda", (), ["loader.batch_size=64", "loader.num_workers=2", "threads=1"])
    assert config.values["loader"] == {"batch_size": 64, "num_workers": 2, "drop_last": False}
    assert (config.values["device"], config.values["threads"]) == ("cuda", 1)
    assert run.evaluation_config("cuda", (), ["device=mps"]).values["device"] == "mps"


@pytest.mark.parametrize(
    "key",
    [
        *(
            "seed",
            "model.hidden",
            "dataset.size",
            "loss.reduction",
            "optimizer.lr",
            "trainer.epochs",
            "metrics",
            "loader",
        ),
        *("loader.shuffle", "loader.drop_last", "devise", "loader.batch_size.x", "plugins.disable"),
    ],
)
def test_an_evaluation_sets_nothing_else(run, key):
    with pytest.raises(ConfigError) as refused:
        run.evaluation_config(overrides=["metrics.top-k.k=3", f"{key}={{}}", "trainer.patience=1"])
    first, second = refused.value.problems
    assert (first.key, first.source, second.key) == (key, f"{key}={{}}", "trainer.patience")
    assert (
        "from the run but metrics.LABEL.KEY, loader.batch_size, loader.tier, loader.num_workers, loader.timeout, "
        "device, threads" in first.message
    )


def test_an_evaluation_is_of_one_run(run):
    with pytest.raises(ConfigError, match=r"'runs/two' is not KEY=VALUE.*one run"):
        run.evaluation_config(overrides=["runs/two"])


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
    assert run.read_manifest() == expected


@pytest.mark.parametrize("read", ["read_manifest", "has_rows"])
def test_a_file_that_cannot_be_read_is_not_taken_for_one_that_is_not_there(read, run, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(atomic, "read", fail)
    monkeypatch.setattr(atomic, "size_of", fail)
    with pytest.raises(StorageError, match=r"cannot read .*(manifest\.json|metrics\.jsonl): Input/output error"):
        getattr(run, read)()


def test_a_run_that_goes_on_has_its_configuration_and_may_be_somewhere_else(run):
    assert run.resume_config().values == RunConfig.read([run.config]).values
    config = run.resume_config(["threads=1", "loader.tier=stream", "trainer.keep_last=5"], "cuda")
    assert (config.values["device"], config.values["threads"]) == ("cuda", 1)
    assert config.values["loader"] == {"batch_size": 8, "drop_last": True, "tier": "stream"}
    assert config.values["trainer"] == {"keep_last": 5}


@pytest.mark.parametrize(
    "key", ["seed", "loader.batch_size", "trainer.epochs", "optimizer.lr", "trainer", "model.name"]
)
def test_a_run_that_goes_on_computes_the_same(run, key):
    with pytest.raises(ConfigError, match=f"{key}: cannot be set when a run goes on, only {RESUME_KEYS[0]}"):
        run.resume_config([f"{key}={{}}"])
    with pytest.raises(ConfigError, match=r"'runs/two' is not KEY=VALUE.*one run"):
        run.resume_config(["runs/two"])


VALUES = st.recursive(st.floats() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(), VALUES))
def test_what_is_written_is_json_that_every_reader_takes(facts):
    text = json.dumps(finite(facts))
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_a_figure_that_is_not_finite_is_not_hidden():
    assert finite({"loss": math.nan, "values": [{"a": math.inf}]}) == {"loss": "nan", "values": [{"a": "inf"}]}


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
    code = "import sys, ptb.storage.run_directory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
