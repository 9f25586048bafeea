import json
import random

import pytest
import torch

import ptb
from ptb import ConfigError, NumericalError, PluginError, RunConfig, StorageError
from ptb.config.resolve import resolve
from ptb.runs.evaluate import evaluate_run
from ptb.runs.overrides import evaluation_config
from ptb.storage.checkpoint import find_checkpoints, load_checkpoint, save_checkpoint
from ptb.storage.run_directory import RunDirectory


@pytest.fixture
def evaluated(built_in):
    def evaluate(path, *, checkpoint="last", split="test", registry=built_in, **changes):
        run = RunDirectory.open(path)
        partial = resolve(evaluation_config(run, **changes), registry)
        return evaluate_run(run, partial, checkpoint=checkpoint, split=split)

    return evaluate


MLP = {"model": {"name": "mlp", "hidden": [16]}, "dataset": {"size": 8}, "trainer": {"epochs": 3}}


@pytest.fixture(scope="module")
def done(tmp_path_factory, built_in):
    output = tmp_path_factory.mktemp("runs") / "one"
    return ptb.train(RunConfig(**MLP), registry=built_in, output=output)


@pytest.mark.parametrize("checkpoint", ["last", "120"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_gives_the_recorded_figures_to_the_last_bit(evaluated, done, split, checkpoint):
    result = evaluated(done.output, checkpoint=checkpoint, split=split)
    assert result["step"] == 120
    assert result["metrics"] == {key: value for key, value in done.metrics.items() if key.startswith(split)}


def test_an_evaluation_may_choose_its_metrics_with_their_settings_and_its_batches(evaluated, done):
    overrides = ["metrics.top-k.k=10", "loader.batch_size=7", "threads=1"]
    result = evaluated(done.output, metrics=["top-k"], overrides=overrides)
    assert result["metrics"].keys() == {"test/loss", "test/top-k"}
    assert result["metrics"]["test/top-k"] == 1.0
    assert result["metrics"]["test/loss"] == pytest.approx(done.metrics["test/loss"])
    assert evaluated(done.output, overrides=["metrics.top-k.k=1"])["metrics"] == {
        **{key: value for key, value in done.metrics.items() if key.startswith("test/")},
        "test/top-k": done.metrics["test/accuracy"],
    }


def test_a_batch_of_all_samples_evaluates_a_run_that_dropped_its_last_batches(evaluated, built_in, tmp_path):
    config = RunConfig(**{**MLP, "trainer": {"epochs": 1}}, loader={"drop_last": True})
    run = ptb.train(config, registry=built_in, output=tmp_path / "run")
    result = evaluated(run.output, overrides=["loader.batch_size=5000"])
    assert result["metrics"]["test/accuracy"] == run.metrics["test/accuracy"]


def test_an_evaluation_cannot_change_the_run(evaluated, done):
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


def test_data_that_has_changed_since_the_run_is_warned_of(evaluated, table, built_in):
    run, file = table
    evaluated(run.output)  # a warning would be an error
    file.write_text(file.read_text().replace("39,z", "1000,z"))
    with pytest.warns(UserWarning, match="the data has changed since the run: data set 'csv'.*manifest.json") as told:
        evaluated(run.output)
    assert len(told) == 1


def test_a_run_that_has_lost_its_manifest_is_evaluated_with_a_warning(evaluated, table, built_in):
    run, _ = table
    (run.output / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="does not say which data the run used"):
        assert evaluated(run.output)["step"] == run.step


def test_samples_that_are_changed_at_random_are_no_changed_data(evaluated, site, tmp_path):
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


@pytest.mark.parametrize(
    ("section", "target"),
    [("optimizer", "torch.optim:SGD"), ("initializer", "ptb_mine_parts:nothing"), ("scheduler", "ptb_mine_parts:Keep")],
    ids=lambda value: value,
)
def test_an_evaluation_needs_no_plugin_that_only_trains(evaluated, site, built_in, tmp_path, section, target):
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
    assert evaluated(run.output)["metrics"]["test/accuracy"] == run.metrics["test/accuracy"]


def test_a_model_that_the_usual_optimizer_cannot_train_is_evaluated(evaluated, built_in, tmp_path):
    config = RunConfig(
        model={"name": "embedding-bag", "sparse": True},
        dataset={"name": "random", "inputs": "tokens", "input_shape": [6], "samples": 64},
        optimizer={"name": "sparse-adam"},
        trainer={"epochs": 1},
    )
    run = ptb.train(config, registry=built_in, output=tmp_path / "run")
    assert evaluated(run.output)["metrics"]["test/loss"] == run.metrics["test/loss"]


def test_a_loss_that_is_not_finite_ends_an_evaluation(evaluated, built_in, tmp_path):
    config = RunConfig(**{**MLP, "trainer": {"epochs": 1}})
    run = ptb.train(config, registry=built_in, output=tmp_path / "run")
    folder = run.output / "checkpoints"
    state = load_checkpoint(find_checkpoints(folder)[40]).decode()
    nan = {name: torch.full_like(tensor, torch.nan) for name, tensor in state["model"].items()}
    save_checkpoint(folder, 41, state | {"model": nan}, {})
    with pytest.raises(NumericalError, match=r"^the val loss is nan with the weights of step 41: "):
        evaluated(run.output, split="val")
    assert evaluated(run.output, checkpoint="40")["step"] == 40


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


@pytest.mark.parametrize("details", ['{"a": torch.ones(2)}', "[1, 2]"], ids=["tensor", "no-dict"])
def test_details_that_are_no_json_values_are_the_fault_of_the_plugin(evaluated, site, done, details):
    site.add("ptb-metric", METRIC.replace("DETAILS", details))
    message = r"^metric 'seen' \(ptb-metric 1\.0\): details\(\) must give a dict of JSON values: TypeError: "
    with pytest.raises(PluginError, match=message):
        evaluated(done.output, metrics=["seen"], registry=site.registry())


@pytest.mark.parametrize(("ignored", "seen"), [(3, 9.0), (None, 10.0)], ids=["a-class", "none"])
def test_metrics_leave_out_the_class_that_the_loss_ignores(site, tmp_path, ignored, seen):
    site.add("ptb-metric", METRIC.replace("DETAILS", "{}"))
    config = RunConfig(**MLP, loss={} if ignored is None else {"ignore_index": ignored}, metrics={"seen": {}})
    run = ptb.train(config, registry=site.registry(), output=tmp_path / "run")
    assert [run.metrics[f"{split}/seen"] for split in ("train", "val", "test")] == [seen] * 3


def test_the_training_split_can_be_evaluated_too(evaluated, done):
    assert evaluated(done.output, split="train")["metrics"]["train/accuracy"] > 0.5


def test_the_best_checkpoint_is_the_one_of_the_smallest_validation_loss(evaluated, done):
    rows = [json.loads(line) for line in (done.output / "metrics.jsonl").read_text().splitlines()]
    best = min((row for row in rows if row["split"] == "val"), key=lambda row: row["values"]["loss"])
    result = evaluated(done.output, checkpoint="best", split="val")
    assert result["step"] == best["step"]
    assert result["metrics"]["val/loss"] == best["values"]["loss"]


@pytest.mark.parametrize("checkpoint", ["7", "frist", "-1", ""])
def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(evaluated, done, checkpoint):
    with pytest.raises(ConfigError, match=r"it has best \(step 120\), last and the steps 80, 120"):
        evaluated(done.output, checkpoint=checkpoint)


def test_a_damaged_checkpoint_is_not_evaluated(evaluated, built_in, tmp_path):
    run = ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")
    path = find_checkpoints(run.output / "checkpoints")[120]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        evaluated(run.output)


def test_a_folder_without_a_run_is_told(evaluated, tmp_path):
    with pytest.raises(ConfigError, match="not a run directory"):
        evaluated(tmp_path)
    (tmp_path / "config.toml").write_text('[model]\nname = "mlp"\n')
    with pytest.raises(ConfigError, match="no checkpoints"):
        evaluated(tmp_path)
