import copy
import json
import math
import warnings

import pytest
import torch

import ptb
from ptb import ConfigError, RunConfig
from ptb.config.resolve import resolve
from ptb.runs.branch import continue_run
from ptb.runs.compose import compose
from ptb.runs.overrides import changed_keys
from ptb.runs.start import start_run
from ptb.storage.checkpoint import find_checkpoints, load_checkpoint
from ptb.storage.run_directory import RunDirectory

BASE = {
    "model": {"name": "mlp", "hidden": [8], "dropout": 0.1},
    "dataset": {"size": 8},
    "trainer": {"epochs": 4, "checkpoint_every": 13},
    "optimizer": {"name": "adam", "lr": 0.003},
}

FEW_STEPS = {"loader": {"batch_size": 128}, "trainer": {"epochs": 4}}


def begun(built_in, output, stop_after=None, **sections):
    config = RunConfig(**{name: BASE.get(name, {}) | sections.get(name, {}) for name in {*BASE, *sections}})
    return start_run(compose(resolve(config, built_in)), output, stop_after=stop_after)


def continued(built_in, parent, output, overrides=(), named=None):
    directory = RunDirectory(parent)
    partial = resolve(RunConfig.read([directory.config], {}, overrides), built_in)
    changed = changed_keys(partial, directory)
    return continue_run(compose(partial, initializes=False), directory, named, changed, output)


def rows_of(path):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "samples_per_second"} for row in rows]


def rates(path):
    return [row["lr"] for row in rows_of(path) if row["split"] == "train"]


@pytest.fixture(scope="module")
def whole(built_in, tmp_path_factory):
    return begun(built_in, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("stop", [pytest.param(1, marks=pytest.mark.matrix), 55, 80, 120])
def test_a_stopped_run_that_is_continued_is_the_unbroken_one(whole, built_in, tmp_path, stop):
    begun(built_in, tmp_path / "half", stop_after=stop)
    done = continued(built_in, tmp_path / "half", tmp_path / "rest")
    assert done.weights_sha256 == whole.weights_sha256
    assert done.metrics == whole.metrics
    assert (done.best_step, done.test_step) == (whole.best_step, whole.test_step)
    assert rows_of(tmp_path / "rest") == rows_of(whole.output)
    manifest = json.loads((tmp_path / "rest/manifest.json").read_text())
    assert manifest["parent"] | {"run": ""} == {"path": str(tmp_path / "half"), "run": "", "step": stop, "changed": []}
    assert manifest["run"] != json.loads((tmp_path / "half/manifest.json").read_text())["run"]


def test_the_parent_stays_as_it_is(whole, built_in, tmp_path):
    before = {path: path.read_bytes() for path in whole.output.rglob("*") if path.is_file() and path.name != ".lock"}
    continued(built_in, whole.output, tmp_path / "more", ["trainer.epochs=5"])
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    "scheduler",
    [
        {"name": "one-cycle"},
        {"name": "multi-step", "milestones": [0.5]},
        *(pytest.param({"name": name}, marks=pytest.mark.matrix) for name in ("cosine", "exponential")),
    ],
    ids=lambda scheduler: scheduler["name"],
)
def test_a_longer_run_has_the_schedule_of_the_new_total(built_in, tmp_path, scheduler):
    begun(built_in, tmp_path / "short", scheduler=scheduler, **FEW_STEPS)
    continued(built_in, tmp_path / "short", tmp_path / "more", ["trainer.epochs=8"])
    begun(built_in, tmp_path / "long", scheduler=scheduler, **FEW_STEPS | {"trainer": {"epochs": 8}})
    assert rates(tmp_path / "more")[4:] == pytest.approx(rates(tmp_path / "long")[4:], rel=1e-9)
    assert len(rates(tmp_path / "more")) == 8


def test_another_learning_rate_wins_over_the_saved_one(built_in, tmp_path):
    begun(built_in, tmp_path / "one", scheduler={"name": "constant"})
    continued(built_in, tmp_path / "one", tmp_path / "two", ["trainer.epochs=5", "optimizer.lr=1e-5"])
    assert rates(tmp_path / "two") == [0.003] * 4 + [1e-5]
    saved = load_checkpoint(list(find_checkpoints(tmp_path / "two/checkpoints").values())[-1]).decode()
    assert saved["optimizer"]["param_groups"][0]["lr"] == 1e-5


def test_other_options_of_the_optimizer_win_too(built_in, tmp_path):
    begun(built_in, tmp_path / "one")
    continued(built_in, tmp_path / "one", tmp_path / "two", ["trainer.epochs=5", "optimizer.betas=[0.8,0.99]"])
    saved = load_checkpoint(list(find_checkpoints(tmp_path / "two/checkpoints").values())[-1]).decode()
    assert list(saved["optimizer"]["param_groups"][0]["betas"]) == [0.8, 0.99]
    assert float(saved["optimizer"]["state"][0]["step"]) == 5 * 40


COUNTS = """
    from ptb import Component, hookimpl

    class Counts:
        def __init__(self, *, most: int = 3, step: int = 1):
            self.most, self._step, self.seen = most, step, 0

        def on_step_end(self, trainer, output):
            self.seen += self._step

    @hookimpl
    def ptb_provide_callbacks():
        return [Component("counts", "ptb_counts:Counts", role="actor")]
"""


def test_settings_of_a_callback_that_change_win_over_its_state(site, tmp_path):
    site.add("ptb-counts", COUNTS)
    registry = site.registry()
    begun(registry, tmp_path / "half", stop_after=5, callbacks={"counts": {"most": 3, "step": 2}})
    changes = ["callbacks.counts.most=7", "callbacks.counts.step=10", "trainer.max_steps=6"]
    continued(registry, tmp_path / "half", tmp_path / "rest", changes)
    last = load_checkpoint(find_checkpoints(tmp_path / "rest/checkpoints")[6])
    assert last.decode()["callbacks"]["counts"] == {"most": 7, "_step": 10, "seen": 20}


def test_a_scheduler_that_waits_for_figures_keeps_its_state(built_in, tmp_path):
    scheduler = {"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 10.0}
    begun(built_in, tmp_path / "one", scheduler=scheduler, **FEW_STEPS)
    continued(built_in, tmp_path / "one", tmp_path / "two", ["trainer.epochs=6"])
    begun(built_in, tmp_path / "long", scheduler=scheduler, **FEW_STEPS | {"trainer": {"epochs": 6}})
    assert rates(tmp_path / "two") == rates(tmp_path / "long")
    assert rates(tmp_path / "two")[-1] < 0.003


def test_a_run_that_stopped_early_goes_on_with_more_patience(built_in, tmp_path):
    trainer = {"epochs": 12, "patience": 1, "monitor": "val/accuracy"}
    done = begun(built_in, tmp_path / "one", trainer=trainer, optimizer={"lr": 0.0})
    assert done.stopped_early
    more = continued(built_in, tmp_path / "one", tmp_path / "two", ["trainer.patience=4"])
    assert more.epoch > done.epoch
    assert more.best_step == done.best_step


def test_another_monitor_begins_anew_with_the_best(built_in, tmp_path):
    one = begun(built_in, tmp_path / "one")
    two = continued(built_in, tmp_path / "one", tmp_path / "two", ["trainer.monitor=val/accuracy", "trainer.epochs=6"])
    assert two.best_step is not None
    assert two.best_step > one.step


def test_the_best_checkpoint_comes_along(built_in, tmp_path):
    begun(built_in, tmp_path / "one", optimizer={"lr": 0.003})
    done = continued(built_in, tmp_path / "one", tmp_path / "two", ["trainer.epochs=5", "optimizer.lr=10"])
    assert done.best_step is not None
    assert done.best_step <= 160
    assert done.test_step == done.best_step
    assert math.isfinite(done.metrics["test/loss"])


def test_a_checkpoint_may_be_named(built_in, tmp_path):
    begun(built_in, tmp_path / "one", trainer={"keep_last": 50})
    done = continued(built_in, tmp_path / "one", tmp_path / "two", named="52")
    assert done.step == 160
    assert json.loads((tmp_path / "two/manifest.json").read_text())["parent"]["step"] == 52


def test_what_was_killed_after_it_was_continued_can_be_resumed(whole, built_in, tmp_path):
    begun(built_in, tmp_path / "half", stop_after=55)
    directory = RunDirectory(tmp_path / "half")
    partial = resolve(RunConfig.read([directory.config]), built_in)
    composed = compose(partial, initializes=False)
    done = continue_run(composed, directory, None, [], tmp_path / "rest", stop_after=60)
    assert done.status == "interrupted"
    assert ptb.resume(tmp_path / "rest", registry=built_in).weights_sha256 == whole.weights_sha256


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.hidden=[9]", "model.hidden: is"),
        ("dataset.size=16", "dataset.size: is 8"),
        ("loader.batch_size=64", "loader.batch_size"),
        ("optimizer.groups=[{match='*bias',lr=0.1}]", "optimizer.groups"),
        ("seed=3", "seed: is 0"),
    ],
)
def test_what_cannot_change_is_refused_with_the_command_that_can(whole, built_in, tmp_path, override, said):
    with pytest.raises(ConfigError) as error:
        continued(built_in, whole.output, tmp_path / "new", [override, "trainer.epochs=9"])
    assert said in str(error.value)
    assert f"ptb run --from {whole.output}" in str(error.value)
    assert not (tmp_path / "new").exists()


def test_a_run_at_its_end_says_what_it_needs(whole, built_in, tmp_path):
    with pytest.raises(ConfigError, match="give it more --epochs than 4"):
        continued(built_in, whole.output, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_new_run_begins_with_the_weights_that_fit(whole, built_in, tmp_path):
    layers = [
        whole.output / "config.toml",
        {"initializer": {"name": "weights-file", "path": str(whole.output), "fitting": True}},
    ]
    changed = {"dataset": {"name": "random", "input_shape": [1, 8, 8], "output_size": 4, "samples": 64}}
    with pytest.warns(UserWarning, match="settings are dropped"):
        config = RunConfig.read([*layers, changed])
    with pytest.warns(UserWarning, match="loaded 2 of 4 tensors"):
        composed = compose(resolve(config, built_in))
    own, new = torch.nn.ModuleList([whole.model]), composed.trainer.model
    first = next(iter(own[0].state_dict().values()))
    best = load_checkpoint(find_checkpoints(whole.output / "checkpoints")[whole.best_step]).decode()["model"]
    assert first.shape == next(iter(new.state_dict().values())).shape
    assert torch.equal(next(iter(new.state_dict().values())), next(iter(best.values())))


def test_fine_tuning_the_head_alone_is_a_loop_of_plain_torch(built_in, tmp_path):
    base = begun(built_in, tmp_path / "base", model={"dropout": 0.0})
    layers = [
        base.output / "config.toml",
        {"initializer": {"name": "weights-file", "path": f"{base.output}@last", "fitting": True}},
        {
            "optimizer": {"name": "sgd", "lr": 0.1},
            "scheduler": {"name": "constant"},
            "loader": {"shuffle": False},
            "trainer": {"epochs": 3, "patience": 0},
            "callbacks": {"freeze": {"match": ["layers.0.*"]}},
        },
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the settings of the other optimizer are dropped
        config = RunConfig.read(layers)
    composed = compose(resolve(config, built_in))
    model = copy.deepcopy(composed.trainer.model)
    head = list(model.parameters())[-2:]
    optimizer = torch.optim.SGD(head, lr=0.1)
    batches = list(composed.trainer.train_loader.epoch())
    done = start_run(composed, tmp_path / "run")
    for _ in range(3):
        for batch in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(batch.inputs), batch.targets).backward()
            optimizer.step()
    for (name, ours), (_, theirs) in zip(done.model.named_parameters(), model.named_parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=name)
    first = next(iter(base.model.parameters()))
    assert torch.equal(next(iter(done.model.parameters())), first)
    assert not torch.equal(list(done.model.parameters())[-1], list(base.model.parameters())[-1])


def test_accumulation_cannot_change_inside_an_epoch(built_in, tmp_path):
    begun(built_in, tmp_path / "half", stop_after=55)
    with pytest.raises(ConfigError, match=r"cannot change inside an epoch, and .* is in step 15 of one"):
        continued(built_in, tmp_path / "half", tmp_path / "rest", ["trainer.accumulate=2"])
    assert not (tmp_path / "rest").exists()


@pytest.mark.parametrize("place", ["manifest", "config", "rows", "labelled", "first"])
def test_a_kill_while_a_run_takes_over_its_parent_is_told_with_what_to_type(built_in, tmp_path, monkeypatch, place):
    begun(built_in, tmp_path / "half", stop_after=80)
    calls = {
        "manifest": "ptb.runs.branch.write_json",
        "config": "ptb.storage.run_directory.RunDirectory.write_config",
        "rows": "ptb.storage.run_directory.RunDirectory.rows",  # of the parent, to be copied
        "labelled": "ptb.runs.branch.save_checkpoint",
        "first": "ptb.runs.recorder.Recorder.save",
    }

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(calls[place], killed)
        patched.setattr("sys.argv", ["/somewhere/ptb", "run", "--continue", "a run"])
        with pytest.raises(KeyboardInterrupt):
            continued(built_in, tmp_path / "half", tmp_path / "rest")
    if place in ("manifest", "config"):
        assert not (tmp_path / "rest/config.toml").exists()  # it is no run yet
        return
    with pytest.raises(ptb.StorageError) as caught:
        ptb.resume(tmp_path / "rest")
    assert str(caught.value) == (
        f"{tmp_path / 'rest'} was stopped before it had taken over the state of {tmp_path / 'half'}; delete it, and "
        f"begin again: rm -r {tmp_path / 'rest'} && ptb run --continue 'a run'"
    )


def test_once_its_first_checkpoint_is_there_a_continued_run_resumes(built_in, whole, tmp_path, monkeypatch):
    begun(built_in, tmp_path / "half", stop_after=80)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ptb.runs.branch.fit", killed)
        with pytest.raises(KeyboardInterrupt):
            continued(built_in, tmp_path / "half", tmp_path / "rest")
    assert ptb.resume(tmp_path / "rest").weights_sha256 == whole.weights_sha256
