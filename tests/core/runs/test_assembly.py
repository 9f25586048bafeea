"""Parts that fit are built; parts that do not are refused with a message that names both, and nothing is written."""

import pytest
import torch

from ptb import ConfigError, DataError, IncompatibleError, PluginError, ResourceError, RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose


def test_parts_of_strangers_fit_together(strange):
    composed = strange()
    assert list(composed.config.metrics) == ["mae", "rmse"]
    assert composed.parameters == 9


@pytest.mark.parametrize(
    ("config", "error", "told"),
    [
        (
            {"model": "narrow"},
            IncompatibleError,
            r"model 'narrow' must give scores of shape \(2, 1\) for data set 'toy'",
        ),
        (
            {"model": "raises"},
            PluginError,
            r"model 'raises' \(ptb-strange 0\.3\): building it failed: KeyError: 'width'",
        ),
        ({"model": "nothing"}, PluginError, "must give an nn.Module, it gives NoneType"),
        ({"model": "exits"}, PluginError, "model 'exits' .*building it failed: SystemExit: 0"),
        ({"model": "bare"}, IncompatibleError, "model 'bare' has no parameters to train"),
        ({"model": "shy"}, IncompatibleError, r"model 'shy' raised on samples of data set 'toy', of shape \(8,\)"),
        ({"model": "lenet"}, IncompatibleError, "lenet takes pictures"),
        (
            {"loss": "vector"},
            IncompatibleError,
            r"loss 'vector' must give a scalar tensor or .*, it gives shape \(1,\)",
        ),
        (
            {"loss": "number"},
            IncompatibleError,
            "loss 'number' must give a scalar tensor or one value a sample, it gives float",
        ),
        ({"loss": "bad"}, IncompatibleError, r"loss 'bad' cannot take scores .*float32 \[2, 1\].*data set 'toy'"),
        (
            {"loss": "cross-entropy"},
            IncompatibleError,
            "takes targets of kind class; those of data set 'toy' are 'real'",
        ),
        ({"metrics": {"accuracy": {}}}, IncompatibleError, "metric 'accuracy' takes targets of kind class"),
        ({"metrics": {"crash": {}}}, IncompatibleError, "metric 'crash' cannot take .*no classes here"),
        (
            {"dataset": {"name": "toy", "case": "shape"}},
            DataError,
            r"train split: the spec says inputs of shape \(8,\), .*\(7,\)",
        ),
        ({"dataset": {"name": "toy", "case": "nan"}}, DataError, "not finite"),
        ({"dataset": {"name": "toy", "case": "flat"}}, DataError, r"are float32 \[2, 1\]; .* give float32 \[2\]"),
        ({"dataset": {"name": "toy", "case": "double"}}, DataError, r"give float64 \[2, 1\]"),
        ({"dataset": {"name": "toy", "case": "empty"}}, DataError, "the train split is empty"),
        ({"dataset": {"name": "toy", "case": "raises"}}, PluginError, "RuntimeError: no such table"),
        ({"dataset": {"name": "toy", "case": "oserror"}}, DataError, "No such file"),
        ({"dataset": {"name": "toy", "case": "nothing"}}, PluginError, "must give a DataBundle"),
        (
            {"loader": {"batch_size": 13, "drop_last": True}},
            DataError,
            "drop_last leaves none of its 12 samples; choose a smaller loader.batch_size, or",
        ),
        ({"optimizer": {"name": "sgd", "nesterov": True}}, ConfigError, "optimizer.nesterov: needs momentum"),
        ({"device": "cuda:77"}, ConfigError, "no device 'cuda:77'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused_with_both_parties_named(strange, config, error, told):
    with pytest.raises(error, match=told):
        strange(**config)


def test_a_misfit_of_shapes_names_the_setting_that_changes_them(built_in):
    with pytest.raises(IncompatibleError) as error:
        compose(resolve(RunConfig(model={"name": "lenet"}, dataset={"size": 9}), built_in))
    assert "(1, 9, 9)" in str(error.value)
    assert "at least 16x16" in str(error.value)
    assert "change dataset.size or choose another model" in str(error.value)


def test_a_setting_that_is_no_part_of_the_shape_is_not_named(built_in):
    dataset = {"name": "random", "input_shape": [1, 9, 9], "samples": 9}
    with pytest.raises(IncompatibleError, match=r"9x9; change dataset\.input_shape or choose another model"):
        compose(resolve(RunConfig(model={"name": "lenet"}, dataset=dataset), built_in))


def test_the_original_exception_is_kept(strange):
    with pytest.raises(PluginError) as error:
        strange(model="raises")
    assert isinstance(error.value.__cause__, KeyError)


def test_the_seed_decides_the_first_weights_and_nothing_else_does(built_in):
    def weights(seed):
        torch.rand(1)
        model = compose(resolve(RunConfig(model={"name": "mlp"}, seed=seed), built_in)).trainer.model
        return next(model.parameters())

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


UNUSUAL = """
    import torch
    from torch import nn
    from ptb import Component, hookimpl

    def lazy(spec):
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.input_size, 8), nn.LazyLinear(spec.output_size))

    def lazy_norm(spec):
        norm = nn.LazyBatchNorm1d(affine=False)
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.input_size, spec.output_size), norm)

    class Wave(nn.Module):
        def __init__(self, spec, *, frozen: bool = False):
            super().__init__()
            self.body = nn.Linear(spec.input_size, spec.output_size)
            self.phase = nn.Parameter(torch.ones(1, dtype=torch.complex64), requires_grad=not frozen)

        def forward(self, inputs):
            return self.body(inputs.flatten(1)) * self.phase.abs()

    @hookimpl
    def ptb_provide_models():
        names = {"lazy": "lazy", "lazy-norm": "lazy_norm", "wave": "Wave"}
        return [Component(name, f"ptb_unusual:{target}") for name, target in names.items()]
"""


@pytest.mark.parametrize("initializer", ["default", "xavier-uniform"])
@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("lazy", r"2\.weight, 2\.bias have none yet: take them from spec\.input_shape, or send zeros"),
        ("lazy-norm", r"2\.running_mean, 2\.running_var have none yet: take"),
    ],
    ids=["parameters", "buffers"],
)
def test_a_model_whose_tensors_have_no_size_yet_is_told_how_to_give_them_one(site, model, told, initializer):
    site.add("ptb-unusual", UNUSUAL)
    config = RunConfig(model={"name": model}, initializer={"name": initializer}, device="cpu")
    with pytest.raises(PluginError, match=rf"^model '{model}' \(ptb-unusual 1\.0\) must give a model .*{told}"):
        compose(resolve(config, site.registry()))


def wave(site, precision, frozen=False):
    site.add("ptb-unusual", UNUSUAL)
    model = {"name": "wave", "frozen": frozen}
    return compose(
        resolve(RunConfig(model=model, device="cpu", trainer={"precision": precision}), site.registry())
    ).trainer


def test_the_scaled_loss_of_fp16_is_not_for_complex_parameters(site):
    told = r"precision: must be fp32 or bf16, got fp16: its loss scaling takes real .*, and phase of model 'wave' is"
    with pytest.raises(ConfigError, match=told):
        wave(site, "fp16")


@pytest.mark.parametrize(("precision", "frozen"), [("fp32", False), ("bf16", False), ("fp16", True)])
def test_complex_parameters_whose_gradients_are_not_scaled_are_taken(site, precision, frozen):
    assert wave(site, precision, frozen).model.phase.is_complex()


def test_a_model_that_does_not_fit_in_memory_is_named(built_in):
    hidden = [4 * 10**6, 10**7]  # 160 TB, more than an address can name
    partial = resolve(RunConfig(model={"name": "mlp", "hidden": hidden}, dataset={"name": "iris"}), built_in)
    with pytest.raises(ResourceError, match=r"memory while model 'mlp' was built; make it smaller .*`ptb show model m"):
        compose(partial)


@pytest.mark.parametrize(
    ("key", "value"), [("num_workers", 2), ("timeout", 5.0), ("prefetch_factor", 3), ("persistent_workers", False)]
)
def test_workers_that_are_not_used_are_told(built_in, key, value):
    with pytest.warns(UserWarning, match=rf"loader.{key}={value} is not used: .*loader.placement=workers has some"):
        compose(resolve(RunConfig(model={"name": "linear"}, loader={key: value}), built_in))


def test_a_loss_that_would_have_to_be_trained_is_refused(site):
    site.add(
        "ptb-taught",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_losses():
            return [Component("taught", "taught_loss:Taught")]
        """,
    )
    site.write(
        "taught_loss.py",
        """
        import torch

        class Taught(torch.nn.Module):
            def __init__(self, spec):
                super().__init__()
                self.scale = torch.nn.Parameter(torch.ones(()))

            def forward(self, scores, targets):
                return torch.nn.functional.cross_entropy(scores * self.scale, targets)
        """,
    )
    config = RunConfig(model={"name": "linear"}, loss={"name": "taught"})
    with pytest.raises(IncompatibleError, match="loss 'taught' has parameters of its own, which nothing would train"):
        compose(resolve(config, site.registry()))
