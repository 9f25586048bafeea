"""Parts that fit are built; parts that do not are refused with a message that names both, and nothing is written."""

import pytest
import torch

from ptb import ConfigError, DataError, MisfitError, PluginError, ResourceError, RunConfig
from ptb.compose import compose

STRANGE = """
    from ptb import Component, hookimpl

    KINDS = "{target}"

    @hookimpl
    def ptb_provide_datasets():
        return [Component("toy", "strange_parts:toy")]

    @hookimpl
    def ptb_provide_models():
        return [Component(name, f"strange_parts:{{name}}") for name in ("linear", "narrow", "raises", "nothing", "shy")]

    @hookimpl
    def ptb_provide_losses():
        return [Component(name, f"strange_parts:{{name}}") for name in ("square", "vector", "bad", "number")]

    @hookimpl
    def ptb_provide_metrics():
        return [Component("crash", "strange_parts:Crash")]
"""
PARTS = """
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset
    from ptb import DataBundle, DataSpec

    def toy(*, case: str = "good", size: int = 8):
        inputs, targets = torch.randn(12, size), torch.randn(12, 1)
        spec = DataSpec((size,), "vector", "real", 1)
        if case == "shape":
            inputs = inputs[:, 1:]
        if case == "nan":
            inputs[0, 0] = float("nan")
        if case == "flat":
            targets = targets[:, 0]
        if case == "double":
            targets = targets.double()
        if case == "empty":
            inputs, targets = inputs[:0], targets[:0]
        if case == "raises":
            raise RuntimeError("no such table")
        if case == "oserror":
            raise OSError(2, "No such file", "table.csv")
        if case == "nothing":
            return None
        return DataBundle(spec, TensorDataset(inputs, targets))

    def linear(spec): return nn.Linear(spec.input_size, spec.output_size)
    def narrow(spec): return nn.Linear(spec.input_size, spec.output_size + 1)
    def nothing(spec): return None
    def raises(spec): raise KeyError("width")
    def shy(spec): return nn.Linear(3, 1)
    def square(spec): return nn.MSELoss()
    def vector(spec): return lambda scores, targets: (scores - targets).square().mean(0)
    def number(spec): return lambda scores, targets: 3.0
    def bad(spec): return nn.NLLLoss()

    class Crash:
        def __init__(self, spec): ...
        def update(self, scores, targets): raise ValueError("no classes here")
        def compute(self): return 0.0
        def reset(self): ...
"""


@pytest.fixture
def strange(site):
    site.add("ptb-strange", STRANGE.format(target="real"), version="0.3", module="strange")
    site.write("strange_parts.py", PARTS)
    return site.registry()


def toy(model="linear", loss="square", **sections):
    base = {"dataset": {"name": "toy"}, "model": {"name": model}, "loss": {"name": loss}, "loader": {"batch_size": 4}}
    return RunConfig(**{**base, **sections})


def test_a_composition_is_described_in_one_line(built_in):
    composition = compose(RunConfig(model={"name": "lenet"}, device="cpu"), built_in)
    assert composition.headline().startswith(
        "lenet on digits: 61,706 parameters, 1,257 train / 270 val / 270 test samples, cpu ("
    )


def test_the_plan_names_the_device_that_was_found(built_in):
    composition = compose(RunConfig(model={"name": "mlp"}), built_in)
    assert composition.plan.run.device == str(composition.parts.device) != "auto"


def test_parts_of_strangers_fit_together(strange):
    composition = compose(toy(), strange)
    assert composition.plan.metrics == {}
    assert composition.parameters == 9


@pytest.mark.parametrize(
    ("config", "error", "told"),
    [
        (toy(model="narrow"), MisfitError, r"model 'narrow' must give scores of shape \(2, 1\) for data set 'toy'"),
        (
            toy(model="raises"),
            PluginError,
            r"model 'raises' \(ptb-strange 0\.3\): building it failed: KeyError: 'width'",
        ),
        (toy(model="nothing"), PluginError, "must give an nn.Module, it gives NoneType"),
        (toy(model="shy"), MisfitError, r"model 'shy' raised on samples of data set 'toy', of shape \(8,\)"),
        (toy(model="lenet"), MisfitError, "lenet takes pictures"),
        (toy(loss="vector"), MisfitError, r"loss 'vector' must give a scalar tensor or .*, it gives shape \(1,\)"),
        (
            toy(loss="number"),
            MisfitError,
            "loss 'number' must give a scalar tensor or one value a sample, it gives float",
        ),
        (toy(loss="bad"), MisfitError, r"loss 'bad' cannot take scores .*float32 \[2, 1\].*data set 'toy'"),
        (toy(loss="cross-entropy"), MisfitError, "takes targets of kind class; the data set's are 'real'"),
        (toy(metrics={"accuracy": {}}), MisfitError, "metric 'accuracy' takes targets of kind class"),
        (toy(metrics={"crash": {}}), MisfitError, "metric 'crash' cannot take .*no classes here"),
        (
            toy(dataset={"name": "toy", "case": "shape"}),
            DataError,
            r"train split: the spec says inputs of shape \(8,\), .*\(7,\)",
        ),
        (toy(dataset={"name": "toy", "case": "nan"}), DataError, "not finite"),
        (toy(dataset={"name": "toy", "case": "flat"}), DataError, r"are float32 \[2, 1\]; .* give float32 \[2\]"),
        (toy(dataset={"name": "toy", "case": "double"}), DataError, r"give float64 \[2, 1\]"),
        (toy(dataset={"name": "toy", "case": "empty"}), DataError, "the train split is empty"),
        (toy(dataset={"name": "toy", "case": "raises"}), PluginError, "RuntimeError: no such table"),
        (toy(dataset={"name": "toy", "case": "oserror"}), DataError, "No such file"),
        (toy(dataset={"name": "toy", "case": "nothing"}), PluginError, "must give a DataBundle"),
        (toy(loader={"batch_size": 13, "drop_last": True}), DataError, "drop_last leaves none of its 12 samples"),
        (toy(loss=None), ConfigError, "must be the name of a loss"),
        (toy(optimizer={"name": "sgd", "nesterov": True}), ConfigError, "nesterov needs momentum"),
        (toy(device="cuda:77"), ConfigError, "no device 'cuda:77'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused_with_both_parties_named(strange, config, error, told):
    with pytest.raises(error, match=told):
        compose(config, strange)


def test_a_misfit_of_shapes_names_the_setting_that_changes_them(built_in):
    with pytest.raises(MisfitError) as error:
        compose(RunConfig(model={"name": "lenet"}, dataset={"size": 9}), built_in)
    assert "(1, 9, 9)" in str(error.value)
    assert "at least 16x16" in str(error.value)
    assert "change dataset.size or choose another model" in str(error.value)


def test_the_original_exception_is_kept(strange):
    with pytest.raises(PluginError) as error:
        compose(toy(model="raises"), strange)
    assert isinstance(error.value.__cause__, KeyError)


def test_composing_leaves_the_global_random_state_alone(built_in):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    compose(RunConfig(model={"name": "lenet"}), built_in)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_decides_the_first_weights_and_nothing_else_does(built_in):
    def weights(seed):
        torch.rand(1)
        model = compose(RunConfig(model={"name": "mlp"}, seed=seed), built_in).parts.model
        return next(model.parameters())

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_probe_leaves_the_model_as_it_was(site):
    site.add(
        "ptb-norm",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_models():
            return [Component("norm", "ptb_norm_model:norm")]
        """,
    )
    site.write(
        "ptb_norm_model.py",
        """
        from torch import nn

        def norm(spec):
            size = spec.input_size
            return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(size), nn.Linear(size, spec.output_size))
        """,
    )
    model = compose(RunConfig(model={"name": "norm"}), site.registry()).parts.model
    assert model.training
    assert model[1].num_batches_tracked == 0
    assert not model[1].running_mean.any()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_optimizer_that_cannot_do_without_a_closure_gets_one(site):
    site.add(
        "ptb-second",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_optimizers():
            return [Component("lbfgs", "torch.optim:LBFGS"), Component("rprop", "torch.optim:Rprop")]
        """,
    )
    for name, closure in (("lbfgs", True), ("rprop", False)):
        config = RunConfig(model={"name": "mlp"}, optimizer={"name": name})
        assert compose(config, site.registry()).parts.closure is closure


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_out_of_memory_while_composing_is_told_as_that(built_in, monkeypatch, error):
    def raises(*_, **__):
        raise error("too much")

    monkeypatch.setattr("ptb_models.lenet.LeNet.forward", raises)
    with pytest.raises(ResourceError, match="batch_size=32; try 16"):
        compose(RunConfig(model={"name": "lenet"}), built_in)
