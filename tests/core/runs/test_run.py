import json
import random
import re
import tomllib

import pytest
import torch

import ptb
from ptb import ConfigError, NumericalError, PluginError, RunConfig, StorageError
from ptb.runs.run import evaluate_run
from ptb.storage.checkpoint import find_checkpoints, save_checkpoint, weights_sha256
from ptb.storage.codec import State
from ptb.storage.run_directory import RunDirectory


def evaluated(path, *, checkpoint="last", split="test", registry=None, **changes):
    run = RunDirectory.open(path)
    return evaluate_run(run, run.evaluation_config(**changes), checkpoint=checkpoint, split=split, registry=registry)


MLP = {"model": {"name": "mlp", "hidden": [16]}, "dataset": {"size": 8}, "trainer": {"epochs": 3}}


@pytest.fixture(scope="module")
def done(tmp_path_factory, built_in):
    output = tmp_path_factory.mktemp("runs") / "one"
    return ptb.train(RunConfig(**MLP), registry=built_in, output=output)


def test_a_run_returns_what_it_recorded(done):
    summary = json.loads((done.output / "summary.json").read_text())
    assert summary == {"schema": 1, **done.summary()}
    assert set(summary) == {
        *("schema", "status", "epoch", "step", "metrics", "weights_sha256", "parameters", "train_seconds"),
        "samples_per_second",
        "skipped_steps",
    }
    assert (summary["status"], summary["epoch"], summary["step"]) == ("finished", 3, 120)
    assert done.weights_sha256 == weights_sha256(done.model.state_dict())
    assert done.parameters == 64 * 16 + 16 + 16 * 10 + 10


def test_the_run_directory_is_the_documented_one(done):
    names = {path.name for path in done.output.iterdir()}
    assert names == {"config.toml", "manifest.json", "metrics.jsonl", "summary.json", "checkpoints", "log.txt"}


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


def test_training_from_python_shows_nothing(built_in, tmp_path, capfd):
    ptb.train(RunConfig(**{**MLP, "trainer": {"epochs": 1}}), registry=built_in, output=tmp_path / "run")
    assert capfd.readouterr() == ("", "")
    assert "epoch 1/1" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("config", "instead"),
    [
        (MLP, 'got dict; write ptb.train(ptb.RunConfig(model={"name": "lenet"}))'),
        ("run.toml", "got str; write ptb.train(ptb.RunConfig.read(['run.toml']))"),
    ],
    ids=["dict", "file"],
)
def test_training_something_else_than_a_configuration_says_what_to_write(config, instead, tmp_path):
    with pytest.raises(TypeError, match=re.escape(instead)):
        ptb.train(config, output=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_training_leaves_the_global_random_state_alone(built_in, tmp_path):
    before = torch.get_rng_state()
    ptb.train(RunConfig(**{**MLP, "trainer": {"epochs": 1}}), registry=built_in, output=tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("checkpoint", ["last", "120"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_gives_the_recorded_figures_to_the_last_bit(done, split, checkpoint):
    result = evaluated(done.output, checkpoint=checkpoint, split=split)
    assert result["step"] == 120
    assert result["metrics"] == {key: value for key, value in done.metrics.items() if key.startswith(split)}


def test_an_evaluation_may_choose_its_metrics_with_their_settings_and_its_batches(done):
    overrides = ["metrics.top-k.k=10", "loader.batch_size=7", "threads=1"]
    result = evaluated(done.output, metrics=["top-k"], overrides=overrides)
    assert result["metrics"].keys() == {"test/loss", "test/top-k"}
    assert result["metrics"]["test/top-k"] == 1.0
    assert result["metrics"]["test/loss"] == pytest.approx(done.metrics["test/loss"])
    assert evaluated(done.output, overrides=["metrics.top-k.k=1"])["metrics"] == {
        **{key: value for key, value in done.metrics.items() if key.startswith("test/")},
        "test/top-k": done.metrics["test/accuracy"],
    }


def test_a_batch_of_all_samples_evaluates_a_run_that_dropped_its_last_batches(built_in, tmp_path):
    config = RunConfig(**{**MLP, "trainer": {"epochs": 1}}, loader={"drop_last": True})
    run = ptb.train(config, registry=built_in, output=tmp_path / "run")
    result = evaluated(run.output, overrides=["loader.batch_size=5000"], registry=built_in)
    assert result["metrics"]["test/accuracy"] == run.metrics["test/accuracy"]


def test_an_evaluation_cannot_change_the_run(done):
    with pytest.raises(ConfigError, match=r"model.hidden: cannot be set in an evaluation"):
        evaluated(done.output, overrides=["model.hidden=[3]"])


@pytest.fixture
def table(tmp_path, built_in):
    """A run on a table, and the file."""
    file = tmp_path / "table.csv"
    file.write_text("a,y\n" + "".join(f"{n},{'xz'[n % 2]}\n" for n in range(40)))
    dataset = {"name": "csv", "path": str(file), "target": "y"}
    config = RunConfig(model={"name": "linear"}, dataset=dataset, trainer={"epochs": 1})
    return ptb.train(config, registry=built_in, output=tmp_path / "run"), file


def test_data_that_has_changed_since_the_run_is_warned_of(table, built_in):
    run, file = table
    evaluated(run.output, registry=built_in)  # a warning would be an error
    file.write_text(file.read_text().replace("39,z", "1000,z"))
    with pytest.warns(UserWarning, match="the data has changed since the run: data set 'csv'.*manifest.json") as told:
        evaluated(run.output, registry=built_in)
    assert len(told) == 1


def test_a_run_that_has_lost_its_manifest_is_evaluated_with_a_warning(table, built_in):
    run, _ = table
    (run.output / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="does not tell which data the run used"):
        assert evaluated(run.output, registry=built_in)["step"] == run.step


def test_samples_that_are_changed_at_random_are_no_changed_data(site, tmp_path):
    site.add(
        "ptb-noise",
        """
        import random
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_datasets():
            return [Component("noise", "ptb_noise:noise")]

        class Noise:
            def __len__(self):
                return 8

            def __getitem__(self, index):
                import torch
                return torch.rand(3) + random.random(), index % 2

        def noise():
            from ptb import DataBundle, DataSpec
            return DataBundle(DataSpec((3,), "vector", "class", 2), Noise(), test=Noise())
        """,
    )
    registry = site.registry()
    config = RunConfig(model={"name": "linear"}, dataset={"name": "noise"}, trainer={"epochs": 1})
    run = ptb.train(config, registry=registry, output=tmp_path / "run")
    torch.rand(1)  # the global generators have moved on
    random.random()
    evaluated(run.output, registry=registry)  # a warning would be an error


@pytest.mark.parametrize("key", ["disable", "require"])
def test_plugins_cannot_be_chosen_for_a_registry_that_is_given(built_in, tmp_path, key):
    config = RunConfig(**MLP, plugins={key: ["ptb-acme"]})
    with pytest.raises(ConfigError, match=r"^plugins: has no effect on the registry that is given: leave the section"):
        ptb.train(config, registry=built_in, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ptb.PtbError, match=r"ptb-acme.*not installed|unknown plugin 'ptb-acme'"):
        ptb.train(config, output=tmp_path / "run")


@pytest.mark.parametrize(
    ("section", "target"),
    [("optimizer", "torch.optim:SGD"), ("initializer", "ptb_mine_parts:nothing"), ("scheduler", "ptb_mine_parts:Keep")],
    ids=lambda value: value,
)
def test_an_evaluation_needs_no_plugin_that_only_trains(site, built_in, tmp_path, section, target):
    site.add(
        "ptb-mine",
        f"""
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_{section}s():
            return [Component("mine", "{target}")]
        """,
    )
    site.write(
        "ptb_mine_parts.py",
        """
        def nothing(module): pass

        class Keep:
            def __init__(self, optimizer, total_steps): pass
            def step(self): pass
            def state_dict(self): return {}
            def load_state_dict(self, state): pass
        """,
    )
    config = RunConfig(**{**MLP, "trainer": {"epochs": 1}}, **{section: {"name": "mine"}})
    run = ptb.train(config, registry=site.registry(), output=tmp_path / "run")
    assert 'name = "ptb-mine:mine"' in (run.output / "config.toml").read_text()
    assert evaluated(run.output, registry=built_in)["metrics"]["test/accuracy"] == run.metrics["test/accuracy"]


def test_a_model_that_the_usual_optimizer_cannot_train_is_evaluated(built_in, tmp_path):
    config = RunConfig(
        model={"name": "embedding-bag", "sparse": True},
        dataset={"name": "random", "inputs": "tokens", "input_shape": [6], "samples": 64},
        optimizer={"name": "sparse-adam"},
        trainer={"epochs": 1},
    )
    run = ptb.train(config, registry=built_in, output=tmp_path / "run")
    assert evaluated(run.output, registry=built_in)["metrics"]["test/loss"] == run.metrics["test/loss"]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_loss_that_is_not_finite_ends_an_evaluation(built_in, tmp_path, reduction):
    config = RunConfig(**{**MLP, "trainer": {"epochs": 1}}, loss={"reduction": reduction})
    run = ptb.train(config, registry=built_in, output=tmp_path / "run")
    folder = run.output / "checkpoints"
    weights = {name: torch.full_like(tensor, torch.nan) for name, tensor in run.model.state_dict().items()}
    node = {"model": {name: {":tensor": f"model.{name}"} for name in weights}, "rest": {}, "loss": {}}
    save_checkpoint(folder, 41, State(node, {f"model.{name}": value for name, value in weights.items()}), {})
    with pytest.raises(NumericalError, match=r"^the val loss is nan with the weights of step 41: ") as told:
        evaluated(run.output, split="val", registry=built_in)
    file = run.output / "losses-val-41.csv"
    assert file.exists() == (str(file) in str(told.value)) == (reduction == "none")
    assert evaluated(run.output, checkpoint="40", registry=built_in)["step"] == 40


METRIC = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_metrics():
        return [Component("seen", "ptb_metric:Seen")]

    class Seen:
        def __init__(self, spec): self.targets = set()
        def update(self, scores, targets): self.targets |= set(targets.tolist())
        def compute(self): return len(self.targets)
        def reset(self): self.targets = set()
        def details(self):
            import torch
            return DETAILS
"""


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ('{"a": torch.ones(2)}', "TypeError: Object of type Tensor is not JSON serializable"),
        ('{(1, 2): "a"}', "TypeError: keys must be str"),
        ("[1, 2]", "list"),
    ],
    ids=["tensor", "key", "no-dict"],
)
def test_details_that_are_no_json_values_are_the_fault_of_the_plugin(site, done, details, told):
    site.add("ptb-metric", METRIC.replace("DETAILS", details))
    message = rf"^metric 'seen' \(ptb-metric 1\.0\): details\(\) must give a dict of JSON values, .*: {told}"
    with pytest.raises(PluginError, match=message):
        evaluated(done.output, metrics=["seen"], registry=site.registry())


@pytest.mark.parametrize(("ignored", "seen"), [(3, 9.0), (None, 10.0)], ids=["a-class", "none"])
def test_metrics_leave_out_the_class_that_the_loss_ignores(site, tmp_path, ignored, seen):
    site.add("ptb-metric", METRIC.replace("DETAILS", "{}"))
    config = RunConfig(**MLP, loss={} if ignored is None else {"ignore_index": ignored}, metrics={"seen": {}})
    run = ptb.train(config, registry=site.registry(), output=tmp_path / "run")
    assert [run.metrics[f"{split}/seen"] for split in ("train", "val", "test")] == [seen] * 3


def test_the_training_split_can_be_evaluated_too(done):
    assert evaluated(done.output, split="train")["metrics"]["train/accuracy"] > 0.5


def test_the_best_checkpoint_is_the_one_of_the_smallest_validation_loss(done):
    rows = [json.loads(line) for line in (done.output / "metrics.jsonl").read_text().splitlines()]
    best = min((row for row in rows if row["split"] == "val"), key=lambda row: row["values"]["loss"])
    result = evaluated(done.output, checkpoint="best", split="val")
    assert result["step"] == best["step"]
    assert result["metrics"]["val/loss"] == best["values"]["loss"]


@pytest.mark.parametrize("checkpoint", ["7", "frist", "-1", ""])
def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(done, checkpoint):
    with pytest.raises(ConfigError, match="valid are last, best and the steps 80, 120"):
        evaluated(done.output, checkpoint=checkpoint)


def test_a_damaged_checkpoint_is_not_evaluated(built_in, tmp_path):
    run = ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")
    path = find_checkpoints(run.output / "checkpoints")[120]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        evaluated(run.output)


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(ConfigError, match="not a run directory"):
        evaluated(tmp_path)
    (tmp_path / "config.toml").write_text('[model]\nname = "mlp"\n')
    with pytest.raises(ConfigError, match="no checkpoints"):
        evaluated(tmp_path)


def test_a_run_that_fails_says_so_in_its_summary(built_in, tmp_path):
    with pytest.raises(ptb.NumericalError):
        ptb.train(RunConfig(**MLP, optimizer={"lr": 1e18}), registry=built_in, output=tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["reason"].startswith("NumericalError")
    assert summary["train_seconds"] > 0
    assert summary["samples_per_second"] > 0
    assert summary["metrics"]["train/loss"] in ("nan", "inf")
    json.loads((tmp_path / "run" / "metrics.jsonl").read_text(), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_out_of_memory_names_the_batch_size_to_try(built_in, tmp_path, monkeypatch, error):
    def raises(*_):
        raise error("too much")

    monkeypatch.setattr("ptb.training.stepping.Stepper._accumulated", raises)
    with pytest.raises(ptb.ResourceError, match="batch_size=32; try 16"):
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

    monkeypatch.setattr("ptb.runs.run.save_checkpoint", full)
    with pytest.raises(OSError, match="No space"):
        ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"


def test_however_often_a_run_is_evaluated_its_weights_are_the_same(built_in, tmp_path):
    hashes = set()
    for number, often in enumerate([{}, {"eval_every": 0}, {"eval_steps": 1}, {"eval_every": 2, "eval_steps": 7}]):
        config = RunConfig(**{**MLP, "model": {**MLP["model"], "dropout": 0.2}, "trainer": {"epochs": 2} | often})
        result = ptb.train(config, registry=built_in, output=tmp_path / str(number))
        hashes.add(result.weights_sha256)
        rows = [json.loads(line) for line in (result.output / "metrics.jsonl").read_text().splitlines()]
        assert len({(row["step"], row["split"]) for row in rows}) == len(rows)
        measured = sum(row["split"] == "val" for row in rows)
        assert measured == [2, 0, result.step, result.step // 7 + 1][number]
    assert len(hashes) == 1
