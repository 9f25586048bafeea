import errno
import json
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptb import ConfigError, RunConfig, StorageError
from ptb.rundir import RunDirectory, check_output, finite, git_commit, write_atomically


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


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "config.toml").write_text("before")
    monkeypatch.setattr(call, fail)
    with pytest.raises(StorageError, match=r"cannot write .*config\.toml \(6 bytes\): No space left on device"):
        write_atomically(tmp_path / "config.toml", "after\n")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path, monkeypatch):
    calls = []
    real_fsync, real_replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), real_fsync(fd))[1])
    monkeypatch.setattr(type(tmp_path), "replace", lambda a, b: (calls.append("replace"), real_replace(a, b))[1])
    RunDirectory(tmp_path).write_summary({"status": "finished"})
    assert calls == ["fsync", "replace", "fsync"]


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.binary())
def test_what_is_written_is_what_was_given(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("files") / "file"
    for each in ("before", content):
        write_atomically(path, each)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


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
        "from the run but metrics.LABEL.KEY, loader.batch_size, loader.tier, loader.num_workers, device, threads"
        in first.message
    )


def test_an_evaluation_is_of_one_run(run):
    with pytest.raises(ConfigError, match=r"'runs/two' is not KEY=VALUE.*one run"):
        run.evaluation_config(overrides=["runs/two"])


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ('{"dataset_sha256": "abc"}', "abc"),
        ("{}", None),
        ("[]", None),
        ("no json", None),
        ("\udcff", None),
        (None, None),
    ],
    ids=["told", "lacking", "list", "damaged", "bytes", "none"],
)
def test_the_fingerprint_of_the_data_is_read_from_the_manifest(run, manifest, expected):
    if manifest is not None:
        run.manifest.write_bytes(manifest.encode(errors="surrogateescape"))
    assert run.data_fingerprint() == expected


VALUES = st.recursive(st.floats() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


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
    code = "import sys, ptb.rundir; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
