import json

import pytest

import ptb
from ptb import ConfigError, RunConfig, StorageError
from ptb.runs.compose import compose
from ptb.runs.run import execute, go_on
from ptb.storage.checkpoint import find_checkpoints, load_checkpoint, save_checkpoint
from ptb.storage.run_directory import RunDirectory

MLP = {"model": {"name": "mlp", "hidden": [4]}, "dataset": {"name": "digits", "size": 8}, "trainer": {"epochs": 2}}


@pytest.fixture
def stopped(built_in, tmp_path):
    """The directory of a run that was stopped after its fifth step."""
    return execute(compose(RunConfig(**MLP), built_in), tmp_path / "run", until=5).output


def resumed(path, built_in, **options):
    run = RunDirectory.open(path)
    return go_on(compose(run.resume_config(), built_in), run, **options)


def test_a_run_that_was_stopped_says_so(stopped):
    summary = json.loads((stopped / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("interrupted", 5)
    assert summary["reason"] == "stopped after step 5, as was asked"
    assert "`ptb resume" in (stopped / "log.txt").read_text()


def test_it_goes_on_from_python(stopped, built_in, tmp_path):
    result = ptb.resume(stopped, registry=built_in)
    unbroken = ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "unbroken")
    assert (result.weights_sha256, result.metrics) == (unbroken.weights_sha256, unbroken.metrics)
    manifest = json.loads((stopped / "manifest.json").read_text())
    assert [(each["step"], each["changes"]) for each in manifest["resumed"]] == [(5, [])]


def test_a_run_that_is_finished_stays_as_it_is(stopped, built_in):
    first = resumed(stopped, built_in)
    manifest, rows = ((stopped / name).read_bytes() for name in ("manifest.json", "metrics.jsonl"))
    again = resumed(stopped, built_in)
    assert again.summary() == first.summary()
    assert [(stopped / name).read_bytes() for name in ("manifest.json", "metrics.jsonl")] == [manifest, rows]
    assert "nothing is left to train after step 80" in (stopped / "log.txt").read_text()


def test_a_run_that_is_refused_keeps_its_summary(stopped, built_in):
    before = (stopped / "summary.json").read_bytes()
    config = stopped / "config.toml"
    config.write_text(config.read_text().replace("epochs = 2", "epochs = 3"))
    with pytest.raises(ConfigError, match=r"trainer.epochs: is 3 in .*config.toml, and was 2 when the run was begun"):
        resumed(stopped, built_in)
    assert (stopped / "summary.json").read_bytes() == before


def test_a_key_that_was_not_set_is_noticed(stopped, built_in):
    config = stopped / "config.toml"
    config.write_text(config.read_text().replace("epochs = 2", "epochs = 2\nclip_norm = 1.0"))
    with pytest.raises(ConfigError, match=r"trainer.clip_norm: is 1.0 in .*, and was not set"):
        resumed(stopped, built_in)


def test_a_step_that_is_past_is_refused(stopped, built_in):
    with pytest.raises(ConfigError, match="--stop-after 5: the run is at step 5"):
        resumed(stopped, built_in, until=5)
    assert resumed(stopped, built_in, until=6).step == 6


def test_checkpoints_of_another_run_are_left_alone_where_there_are_no_others(stopped, built_in):
    manifest = stopped / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"run": "0123456789abcdef"}))
    before = sorted(path.name for path in (stopped / "checkpoints").iterdir())
    with pytest.raises(
        StorageError, match=r"are of another run than manifest.json tells \('run': '0123456789abcdef'\)"
    ):
        resumed(stopped, built_in)
    assert sorted(path.name for path in (stopped / "checkpoints").iterdir()) == before


def test_a_run_with_figures_and_no_checkpoint_is_not_begun_again(stopped, built_in):
    resumed(stopped, built_in, until=50)
    for path in find_checkpoints(stopped / "checkpoints").values():
        path.unlink()
    with pytest.raises(StorageError, match=r"has been trained, as metrics.jsonl, .*, and has no checkpoint"):
        resumed(stopped, built_in)


def test_a_run_that_was_stopped_before_anything_was_saved_begins(stopped, built_in):
    for path in find_checkpoints(stopped / "checkpoints").values():
        path.unlink()
    with pytest.raises(StorageError, match="has been trained"):
        resumed(stopped, built_in)
    (stopped / "summary.json").unlink()
    assert resumed(stopped, built_in).status == "finished"
    assert "nothing was saved before" in (stopped / "log.txt").read_text()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimizer.lr=1", "optimizer.lr: cannot be set when a run goes on"),
        ("seed=1", "seed: cannot be set when a run goes on"),
        ("lenet", "'lenet' is not KEY=VALUE"),
    ],
)
def test_only_what_changes_no_figure_can_be_set(stopped, override, told):
    with pytest.raises(ConfigError, match=told):
        RunDirectory.open(stopped).resume_config([override])


def test_a_lost_manifest_is_told(stopped, built_in):
    (stopped / "manifest.json").write_text("{")
    with pytest.raises(StorageError, match=r"no manifest.json tells"):
        resumed(stopped, built_in, strict=True)
    with pytest.warns(UserWarning, match=r"no manifest.json tells"):
        resumed(stopped, built_in)
    assert json.loads((stopped / "manifest.json").read_text())["threads"] == 1


def test_more_figures_than_the_checkpoint_knows_are_cut(stopped, built_in, tmp_path):
    with (stopped / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 40, "split": "train"}\n{"step": 4')
    resumed(stopped, built_in)
    rows = [json.loads(line) for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [
        (40, "train"),
        (40, "val"),
        (80, "train"),
        (80, "val"),
        (80, "test"),
    ]


def test_changed_figures_are_told(stopped, built_in):
    resumed(stopped, built_in, until=50)
    rows = stopped / "metrics.jsonl"
    rows.write_text(rows.read_text().replace('"loss": 2', '"loss": 9', 1))
    with pytest.warns(UserWarning, match="has other rows than at step 50: it was changed since"):
        resumed(stopped, built_in)


def test_lost_figures_are_told(stopped, built_in):
    resumed(stopped, built_in, until=50)
    (stopped / "metrics.jsonl").write_text("")
    with pytest.warns(UserWarning, match="has lost rows"):
        resumed(stopped, built_in)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("totals", "step"), 4),
        (("totals", "epoch"), -1),
        (("totals", "taken"), 41),
        (("totals", "seconds"), "long"),
        (("totals", "best_step"), "best"),
        (("totals", "metrics"), []),
        (("most",), 0),
        (("most",), True),
        (("tally", "own", 0), [1, 2]),
        (("tally", "own", 0), [{":tuple": [1, 2, 3]}]),
        (("tally", "own", 2), 0.5),
        (("optimizer", "param_groups", 0, "lr"), "fast"),
    ],
    ids=str,
)
def test_a_state_that_no_training_has_is_refused(stopped, built_in, place, value):
    (path,) = (path for path in (stopped / "checkpoints").iterdir() if path.name.startswith("ckpt-5-"))
    checkpoint = load_checkpoint(path)
    *before, last = place
    node = checkpoint.state.node
    for key in before:
        node = node[key]
    assert node[last] != value
    node[last] = value
    for each in (stopped / "checkpoints").iterdir():
        each.unlink()
    save_checkpoint(stopped / "checkpoints", 5, checkpoint.state, checkpoint.facts)
    with pytest.raises(StorageError, match="cannot go on from"):
        resumed(stopped, built_in)
