import json
import operator
import sys
import tomllib

import pytest
import torch

import ptb
from ptb import ConfigError, RunConfig, StorageError
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb.runs.overrides import resume_config
from ptb.runs.start import resume_run, start_run
from ptb.storage.checkpoint import find_checkpoints, load_checkpoint, save_checkpoint
from ptb.storage.digest import weights_sha256
from ptb.storage.run_directory import RunDirectory

MLP = {"model": {"name": "mlp", "hidden": [16]}, "dataset": {"size": 8}, "trainer": {"epochs": 3}}


@pytest.fixture(scope="module")
def done(tmp_path_factory, built_in):
    output = tmp_path_factory.mktemp("runs") / "one"
    return ptb.train(RunConfig(**MLP), registry=built_in, output=output)


def test_a_run_returns_what_it_recorded(done):
    summary = json.loads((done.output / "summary.json").read_text())
    assert summary == {"schema": 1, **done.summary()}
    assert set(summary) == {
        *("schema", "status", "epoch", "step", "best_step", "stopped_early", "metrics", "test_step"),
        *("weights_sha256", "parameters", "train_seconds", "samples_per_second", "skipped_steps", "intervals"),
    }
    assert (summary["status"], summary["epoch"], summary["step"]) == ("finished", 3, 120)
    assert done.weights_sha256 == weights_sha256(done.model.state_dict())
    assert done.parameters == 64 * 16 + 16 + 16 * 10 + 10


def test_the_run_directory_is_the_documented_one(done):
    names = {path.name for path in done.output.iterdir() if path.name != ".lock"}
    assert names == {
        *("config.toml", "manifest.json", "metrics.jsonl", "summary.json", "checkpoints", "log.txt", "MODEL_CARD.md"),
        *("preprocessor.json", "preprocessor.safetensors"),
    }


def test_there_is_one_row_for_each_step_and_split(done):
    rows = [json.loads(line) for line in (done.output / "metrics.jsonl").read_text().splitlines()]
    keys = [(row["step"], row["split"]) for row in rows]
    assert len(set(keys)) == len(keys) == 7
    assert rows[0].keys() == {"step", "epoch", "split", "values", "lr", "samples_per_second"}
    assert rows[1].keys() == {"step", "epoch", "split", "values", "lr"}
    assert rows[-1]["values"]["accuracy"] == done.metrics["test/accuracy"]


def test_the_manifest_tells_what_the_run_was_made_with(done):
    manifest = json.loads((done.output / "manifest.json").read_text())
    assert manifest["ptb"] == ptb.__version__
    assert manifest["torch"] == torch.__version__
    assert len(manifest["dataset_sha256"]) == 64
    sections = {plugin["section"]: plugin for plugin in manifest["plugins"]}
    assert sections["model"] == {
        "section": "model",
        "id": "pytorch-basics:mlp",
        "distribution": "pytorch-basics",
        "version": ptb.__version__,
        "target": "ptb_models.mlp:MLP",
        "sha256": manifest["plugin_files"]["pytorch-basics"]["sha256"],
        "used": True,
    }
    assert set(sections) == {
        *("dataset", "model", "initializer", "loss", "optimizer", "scheduler", "metrics.accuracy"),
    }


def test_the_resolved_config_gives_the_same_weights_again(done, built_in, tmp_path):
    again = ptb.train(RunConfig.read([done.output / "config.toml"]), registry=built_in, output=tmp_path / "again")
    assert again.weights_sha256 == done.weights_sha256
    assert again.metrics == done.metrics
    one, other = ((run.output / "config.toml").read_text() for run in (done, again))
    assert one == other
    assert tomllib.loads(one)["loss"]["name"] == "cross-entropy"


def test_another_seed_gives_other_weights(done, built_in, tmp_path):
    other = ptb.train(RunConfig(**MLP, seed=1), registry=built_in, output=tmp_path / "other")
    assert other.weights_sha256 != done.weights_sha256


def test_a_run_that_fails_says_so_in_its_summary(built_in, tmp_path):
    with pytest.raises(ptb.NumericalError):
        ptb.train(RunConfig(**MLP, optimizer={"lr": 1e18}), registry=built_in, output=tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["reason"].startswith("NonFiniteError: the loss is inf at step 2")
    assert summary["train_seconds"] > 0
    assert summary["samples_per_second"] > 0
    assert summary["step"] == 1
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("ptb.training.objective.Objective.mean_loss", "batch_size=32; try 16"),
        ("torch.optim.Adam.step", "in the step of the optimizer: .* try an optimizer that keeps less"),
    ],
)
def test_out_of_memory_advises_what_helps_there(built_in, tmp_path, monkeypatch, error, place, advice, late):
    calls = []
    original = operator.attrgetter(place.partition(".")[2])(sys.modules[place.partition(".")[0]])

    def raises(*args, **kwargs):
        calls.append(1)
        if not late or len(calls) > 30:  # that is after the preflight
            raise error("too much")
        return original(*args, **kwargs)

    monkeypatch.setattr(place, raises)
    with pytest.raises(ptb.ResourceError, match=advice):
        ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")


def test_an_output_that_holds_something_is_refused_and_left_alone(built_in, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_left_behind_by_what_is_refused(built_in, tmp_path):
    with pytest.raises(ptb.IncompatibleError):
        ptb.train(RunConfig(model={"name": "lenet"}, dataset={"size": 8}), registry=built_in, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_runs_of_one_second_get_directories_of_their_own(built_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = RunConfig(**{**MLP, "trainer": {"epochs": 1}})
    outputs = {str(ptb.train(short, registry=built_in).output) for _ in range(3)}
    assert len(outputs) == 3
    assert all(output.startswith("runs/") and "-mlp-digits" in output for output in outputs)


def test_settings_that_hold_nothing_can_be_written(site, tmp_path):
    site.add(
        "ptb-acme",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_optimizers():
            return [Component("factor", "torch.optim:Adafactor")]
        """,
    )
    config = RunConfig(**MLP | {"trainer": {"epochs": 1}}, optimizer={"name": "factor"})
    result = ptb.train(config, registry=site.registry(), output=tmp_path / "run")
    assert "eps" not in tomllib.loads((result.output / "config.toml").read_text())["optimizer"]


def test_a_training_that_cannot_be_recorded_says_so_in_its_summary(built_in, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ptb.runs.recorder.save_checkpoint", full)
    with pytest.raises(OSError, match="No space"):
        ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"


def test_however_often_a_run_is_evaluated_its_weights_are_the_same(built_in, tmp_path):
    hashes = set()
    for number, often in enumerate([{}, {"eval_every": 0}, {"eval_every": 2, "eval_steps": 7}]):
        config = RunConfig(**{**MLP, "model": {**MLP["model"], "dropout": 0.2}, "trainer": {"epochs": 2} | often})
        result = ptb.train(config, registry=built_in, output=tmp_path / str(number))
        hashes.add(result.weights_sha256)
        rows = [json.loads(line) for line in (result.output / "metrics.jsonl").read_text().splitlines()]
        assert len({(row["step"], row["split"]) for row in rows}) == len(rows)
        measured = sum(row["split"] == "val" for row in rows)
        assert measured == [2, 0, result.step // 7 + 1][number]
    assert len(hashes) == 1


SMALL = {"model": {"name": "mlp", "hidden": [4]}, "dataset": {"name": "digits", "size": 8}, "trainer": {"epochs": 2}}


@pytest.fixture
def stopped(built_in, tmp_path):
    """The directory of a run that was stopped after its fifth step."""
    return start_run(compose(resolve(RunConfig(**SMALL), built_in)), tmp_path / "run", stop_after=5).output


def resumed(path, built_in, **options):
    run = RunDirectory.open(path)
    return resume_run(compose(resolve(resume_config(run), built_in)), run, **options)


def test_a_run_that_was_stopped_says_so(stopped):
    summary = json.loads((stopped / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("interrupted", 5)
    assert summary["reason"] == "stopped after step 5, as asked"
    assert "`ptb resume" in (stopped / "log.txt").read_text()


def test_a_run_that_a_callback_stops_says_so(built_in, tmp_path):
    class Stops:
        def on_step_end(self, trainer, output):
            trainer.state.should_stop = trainer.state.step == 3

    composed = compose(resolve(RunConfig(**SMALL), built_in))
    composed.trainer.callbacks.actor_methods["on_step_end"] = [("callbacks.stops", Stops().on_step_end)]
    run = start_run(composed, tmp_path / "run").output
    assert json.loads((run / "summary.json").read_text())["reason"] == "stopped after step 3, as a callback asked"


def test_a_run_that_a_callback_ends_is_finished(built_in, tmp_path):
    class Ends:
        def on_evaluation(self, trainer, split, metrics):
            trainer.state.stopped_early = True

    composed = compose(resolve(RunConfig(**SMALL), built_in))
    composed.trainer.callbacks.actor_methods["on_evaluation"] = [("callbacks.ends", Ends().on_evaluation)]
    result = start_run(composed, tmp_path / "run")
    assert (result.status, result.epoch, result.stopped_early) == ("finished", 1, True)
    assert "test/loss" in result.metrics
    assert "stopped early: as a callback asked\n" in (tmp_path / "run" / "log.txt").read_text()


def test_it_goes_on_from_python(stopped, built_in, tmp_path):
    result = ptb.resume(stopped, registry=built_in)
    unbroken = ptb.train(RunConfig(**SMALL), registry=built_in, output=tmp_path / "unbroken")
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
        resumed(stopped, built_in, stop_after=5)
    assert resumed(stopped, built_in, stop_after=6).step == 6


def test_checkpoints_of_another_run_are_left_alone(stopped, built_in):
    manifest = stopped / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"run": "0123456789abcdef"}))
    before = sorted(path.name for path in (stopped / "checkpoints").iterdir())
    with pytest.raises(StorageError, match=r"is of another run than manifest.json says \('run': '0123456789abcdef'\)"):
        resumed(stopped, built_in)
    assert sorted(path.name for path in (stopped / "checkpoints").iterdir()) == before


def test_a_run_with_figures_and_no_checkpoint_is_not_begun_again(stopped, built_in):
    resumed(stopped, built_in, stop_after=50)
    for path in find_checkpoints(stopped / "checkpoints").values():
        path.unlink()
    with pytest.raises(StorageError, match=r"has been trained and has no checkpoint"):
        resumed(stopped, built_in)


def test_a_run_that_was_stopped_before_anything_was_saved_begins(stopped, built_in):
    for path in find_checkpoints(stopped / "checkpoints").values():
        path.unlink()
    with pytest.raises(StorageError, match="has been trained"):
        resumed(stopped, built_in)
    (stopped / "summary.json").unlink()
    assert resumed(stopped, built_in).status == "finished"
    assert "nothing was saved before" in (stopped / "log.txt").read_text()


def test_a_run_may_be_killed_twice_before_anything_is_saved(built_in, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("ptb.runs.recorder.save_checkpoint", killed)
        patch.setattr("ptb.runs.recorder.write_json", killed)
        with pytest.raises(Killed):
            start_run(compose(resolve(RunConfig(**SMALL), built_in)), path)
        with pytest.raises(Killed):
            resumed(path, built_in)
    assert resumed(path, built_in).status == "finished"
    assert "resumed" not in json.loads((path / "manifest.json").read_text())


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
        resume_config(RunDirectory.open(stopped), [override])


def test_a_lost_manifest_is_told(stopped, built_in):
    (stopped / "manifest.json").write_text("{")
    with pytest.raises(StorageError, match=r"no manifest.json says"):
        resumed(stopped, built_in, strict=True)
    with pytest.warns(UserWarning, match=r"no manifest.json says"):
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
    resumed(stopped, built_in, stop_after=50)
    rows = stopped / "metrics.jsonl"
    rows.write_text(rows.read_text().replace('"loss": 2', '"loss": 9', 1))
    with pytest.warns(UserWarning, match="has other rows than at step 50: it was changed since"):
        resumed(stopped, built_in)


def test_lost_figures_are_told(stopped, built_in):
    resumed(stopped, built_in, stop_after=50)
    (stopped / "metrics.jsonl").write_text("")
    with pytest.warns(UserWarning, match="has lost rows"):
        resumed(stopped, built_in)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("train_state", "step"), 4),
        (("train_state", "epoch"), -1),
        (("train_state", "epoch_step"), 41),
        (("train_state", "seconds"), "long"),
        (("train_state", "best_step"), "best"),
        (("train_state", "metrics"), []),
        (("train_metrics", "held"), [[1, 2]]),
        (("train_metrics", "most"), "many"),
        (("train_metrics", "metrics"), {}),
        (("optimizer", "state"), 1),
        (("optimizer", "param_groups"), []),
        (("random",), {}),
    ],
    ids=str,
)
def test_a_state_that_no_training_has_is_refused(stopped, built_in, place, value):
    (path,) = (path for path in (stopped / "checkpoints").iterdir() if path.name.startswith("ckpt-5-"))
    checkpoint = load_checkpoint(path)
    *before, last = place
    state = node = checkpoint.decode()
    for key in before:
        node = node[key]
    assert node[last] != value
    node[last] = value
    for each in (stopped / "checkpoints").iterdir():
        each.unlink()
    save_checkpoint(stopped / "checkpoints", 5, state, checkpoint.metadata)
    with pytest.raises(StorageError, match="cannot resume from"):
        resumed(stopped, built_in)
