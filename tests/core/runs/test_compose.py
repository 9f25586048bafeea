import pytest
import torch

from ptb import ConfigError, IncompatibleError, ResourceError, RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose


def test_a_composition_is_described_in_one_line(built_in):
    composed = compose(resolve(RunConfig(model={"name": "lenet"}, device="cpu"), built_in))
    assert composed.summary_line().startswith(
        "lenet on digits: 61,706 parameters, 1,257 train / 270 val / 270 test samples, placement device, cpu ("
    )


def test_the_configuration_names_the_device_that_was_found(built_in):
    composed = compose(resolve(RunConfig(model={"name": "mlp"}), built_in))
    assert composed.config.run.device == str(composed.trainer.device) != "auto"


def test_out_of_memory_while_composing_is_told_as_that(built_in, monkeypatch):
    def raises(*_, **__):
        raise MemoryError("too much")

    monkeypatch.setattr("ptb_models.lenet.LeNet.forward", raises)
    with pytest.raises(ResourceError, match="batch_size=32; try 16"):
        compose(resolve(RunConfig(model={"name": "lenet"}), built_in))


@pytest.mark.parametrize(
    ("config", "threads"),
    [
        ({"model": {"name": "lenet"}}, 1),
        ({"model": {"name": "lenet"}, "threads": 3}, 3),
        ({"model": {"name": "mlp"}}, torch.get_num_threads()),
    ],
    ids=["small", "asked-for", "large"],
)
def test_small_steps_are_left_to_one_thread_and_the_configuration_says_so(built_in, monkeypatch, config, threads):
    monkeypatch.setattr("ptb.runs.compose.SMALL_STEP", 1e6 if config["model"]["name"] == "mlp" else 1e9)
    assert compose(resolve(RunConfig(**config), built_in)).config.run.threads == threads


def test_patience_without_a_validation_split_is_not_ignored(odd):
    with pytest.raises(ConfigError, match=r"trainer\.patience: waits for val/loss, and data set 'odd' has no"):
        odd(trainer={"patience": 2})


def test_a_figure_that_nothing_reports_is_refused_before_training(odd, built_in):
    with pytest.raises(
        ConfigError, match=r"trainer\.monitor: 'val/f1' is reported by no split; there is no validation"
    ):
        odd(trainer={"monitor": "val/f1"})
    waits = {"best-checkpoint": {"monitor": "val/f1", "mode": "max"}}
    with pytest.raises(ConfigError) as error:
        compose(resolve(RunConfig(model={"name": "linear"}, callbacks=waits), built_in))
    (problem,) = error.value.problems
    assert problem.key == "callbacks.best-checkpoint.monitor"
    assert problem.message == "'val/f1' is reported by no evaluation; reported are val/loss, val/accuracy"


FIGURES = """
    from ptb import Component, hookimpl

    class Two:
        def __init__(self, spec): ...
        def reset(self): ...
        def update(self, scores, targets): ...
        def compute(self): return {"low": 0.0, "high": 1.0}

    @hookimpl
    def ptb_provide_metrics():
        return [Component("two", "ptb_figures:Two", better={"low": "lower", "high": "higher"})]
"""


@pytest.mark.parametrize("monitor", ["val/two", "val/two/hihg", "val/accuracy/high"])
@pytest.mark.parametrize("section", ["trainer", "callback"])
def test_a_figure_that_a_metric_does_not_give_is_refused_with_those_that_it_gives(site, monitor, section):
    site.add("ptb-figures", FIGURES)
    waits = {"monitor": monitor, "mode": "max"}
    config = RunConfig(
        model={"name": "linear"},
        metrics={"two": {}, "accuracy": {}},
        **({"trainer": waits} if section == "trainer" else {"callbacks": {"best-checkpoint": waits}}),
    )
    with pytest.raises(ConfigError) as error:
        compose(resolve(config, site.registry()))
    (problem,) = error.value.problems
    assert problem.key == {"trainer": "trainer", "callback": "callbacks.best-checkpoint"}[section] + ".monitor"
    there = "reported are val/loss, val/two/low, val/two/high, val/accuracy"
    assert problem.message == f"'{monitor}' is no figure; {there}"


def test_a_run_may_be_chosen_by_its_training_figures_but_an_evaluation_has_none(odd, built_in):
    assert odd(trainer={"monitor": "train/accuracy", "patience": 2}).trainer.callbacks._better == "higher"
    config = RunConfig(model={"name": "linear"}, scheduler={"name": "plateau"}, trainer={"monitor": "train/loss"})
    with pytest.raises(ConfigError, match="waits for train/loss, and 'train/loss' is reported by no evaluation"):
        compose(resolve(config, built_in))


AVERAGES = """
    from contextlib import nullcontext
    from ptb import Component, hookimpl

    class Averages:
        def evaluation_weights(self, trainer):
            return nullcontext()

    @hookimpl
    def ptb_provide_callbacks():
        return [Component("swa", "ptb_averages:Averages", role="actor")]
"""


def test_of_two_callbacks_that_set_the_evaluated_weights_it_is_said_which_counts(site):
    site.add("ptb-averages", AVERAGES)
    config = RunConfig(model={"name": "linear"}, callbacks={"swa": {}, "ema": {}})
    with pytest.warns(UserWarning, match=r"callbacks\.ema, callbacks\.swa each set .*: those of callbacks\.swa count"):
        compose(resolve(config, site.registry()))


VIEWING = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("viewing", "viewing_model:Viewing")]
"""


VIEWING_MODEL = """
    from torch import nn

    class Viewing(nn.Module):
        def __init__(self, spec):
            super().__init__()
            self.conv = nn.Conv2d(spec.input_shape[0], 4, 3)
            self.last = nn.Linear(4 * 30 * 30, spec.output_size)

        def forward(self, inputs):
            return self.last(self.conv(inputs).view(len(inputs), -1))
"""


def test_convolutions_on_the_cpu_keep_their_channels_last(built_in):
    composed = compose(resolve(RunConfig(model={"name": "lenet"}, device="cpu"), built_in))
    assert composed.config.trainer.memory_format == "channels-last"
    assert composed.trainer.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    plain = compose(resolve(RunConfig(model={"name": "mlp"}, device="cpu"), built_in))
    assert plain.config.trainer.memory_format == "contiguous"


@pytest.mark.parametrize(
    "sections",
    [{"model": {"name": "viewing"}}, {"model": {"name": "lenet"}, "optimizer": {"name": "lbfgs"}}],
    ids=["model", "optimizer"],
)
def test_parts_that_look_at_memory_keep_it_contiguous(site, sections):
    site.add("ptb-viewing", VIEWING)
    site.write("viewing_model.py", VIEWING_MODEL)
    registry = site.registry()
    composed = compose(resolve(RunConfig(**sections, device="cpu"), registry))
    assert composed.config.trainer.memory_format == "contiguous"
    assert all(parameter.is_contiguous() for parameter in composed.trainer.model.parameters())
    with pytest.raises(IncompatibleError, match="view size is not compatible"):
        compose(resolve(RunConfig(**sections, trainer={"memory_format": "channels-last"}, device="cpu"), registry))


def test_the_compiler_gets_full_training_batches_only(built_in, monkeypatch):
    seen = []

    def compiled(model, *, dynamic):
        assert dynamic is False
        return lambda inputs: seen.append(len(inputs)) or model(inputs)

    monkeypatch.setattr(torch, "compile", compiled)
    config = RunConfig(model={"name": "linear"}, loader={"batch_size": 100}, trainer={"epochs": 1, "compile": True})
    trainer = compose(resolve(config, built_in)).trainer
    assert seen == [100]  # tried before the training
    for inputs, _, _ in trainer.train_loader.epoch(1):
        trainer.objective.forward(inputs)
    trainer.model.eval()
    trainer.objective.forward(next(trainer.train_loader.epoch(1))[0])
    assert seen == [100] * 13


def test_an_evaluation_compiles_nothing(built_in, monkeypatch):
    monkeypatch.setattr(torch, "compile", None)
    config = RunConfig(model={"name": "linear"}, trainer={"compile": True})
    assert compose(resolve(config, built_in), trains=False).trainer.objective.compiled is None


def test_a_compiler_that_cannot_is_told(built_in, monkeypatch):
    def compiled(model, *, dynamic):
        def run(inputs):
            raise RuntimeError("no working C++ compiler")

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    config = RunConfig(model={"name": "linear"}, trainer={"compile": True})
    with pytest.raises(IncompatibleError, match=r"^trainer.compile cannot be used here: .*no working C\+\+ compiler"):
        compose(resolve(config, built_in))
