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
            r"takes targets of kind class or class\+positions; those of data set 'toy' are 'real'",
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


def test_the_seed_decides_the_first_weights_and_nothing_else_does(built_in):
    def weights(seed):
        torch.rand(1)
        model = compose(resolve(RunConfig(model={"name": "mlp"}, seed=seed), built_in)).trainer.model
        return next(model.parameters())

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


UNUSUAL = """
    from torch import nn
    from ptb import Component, hookimpl

    def lazy(spec):
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.input_size, 8), nn.LazyLinear(spec.output_size))

    def lazy_norm(spec):
        norm = nn.LazyBatchNorm1d(affine=False)
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.input_size, spec.output_size), norm)

    @hookimpl
    def ptb_provide_models():
        names = {"lazy": "lazy", "lazy-norm": "lazy_norm"}
        return [Component(name, f"ptb_unusual:{target}") for name, target in names.items()]
"""


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("lazy", r"2\.weight, 2\.bias have none yet: take them from spec\.input_shape, or send zeros"),
        ("lazy-norm", r"2\.running_mean, 2\.running_var have none yet: take"),
    ],
    ids=["parameters", "buffers"],
)
def test_a_model_whose_tensors_have_no_size_yet_is_told_how_to_give_them_one(site, model, told):
    site.add("ptb-unusual", UNUSUAL)
    config = RunConfig(model={"name": model}, device="cpu")
    with pytest.raises(PluginError, match=rf"^model '{model}' \(ptb-unusual 1\.0\) must give a model .*{told}"):
        compose(resolve(config, site.registry()))


CALLBACKS = """
    from ptb import Component, hookimpl

    class Misspelt:
        def on_step_ended(self, trainer, output): ...

    class Around:
        def around_step(self, trainer, step):
            return step()

    class Deaf:
        def step_end(self, trainer, output): ...

    class Hears:
        on_gpu = False

        def __init__(self):
            self.on_alarm = print
            self.on_fit_end = lambda trainer: None

    def nothing(): ...

    @hookimpl
    def ptb_provide_callbacks():
        targets = {"misspelt": "Misspelt", "around": "Around", "deaf": "Deaf", "hears": "Hears", "nothing": "nothing"}
        return [Component(name, f"ptb_calls:{target}", role="observer") for name, target in targets.items()]
"""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("misspelt", r"has on_step_ended, which is no event of an observer \(did you mean 'on_step_end'\?\); "),
        ("around", "has around_step, which is no event of an observer"),
        ("deaf", "gives Deaf, which has no method for any of on_fit_start, "),
        ("nothing", "gives NoneType, which has no method for any of on_fit_start, "),
    ],
)
def test_an_object_that_would_never_be_called_is_no_callback(site, name, told):
    site.add("ptb-calls", CALLBACKS)
    config = RunConfig(model={"name": "mlp"}, callbacks={name: {}}, device="cpu")
    with pytest.raises(PluginError, match=rf"^callback '{name}' \(ptb-calls 1\.0\) is no callback: it {told}"):
        compose(resolve(config, site.registry()))


def test_what_else_a_callback_has_is_its_own(site):
    site.add("ptb-calls", CALLBACKS)
    config = RunConfig(model={"name": "mlp"}, callbacks={"hears": {}}, device="cpu")
    assert [*compose(resolve(config, site.registry())).trainer.callbacks.observers.components] == ["hears"]


def test_a_model_that_does_not_fit_in_memory_is_named(built_in):
    hidden = [4 * 10**6, 10**7]  # 160 TB, more than an address can name
    partial = resolve(RunConfig(model={"name": "mlp", "hidden": hidden}, dataset={"name": "iris"}), built_in)
    with pytest.raises(ResourceError, match=r"memory while model 'mlp' was built; make it smaller .*`ptb show model m"):
        compose(partial)


def test_the_parameters_of_a_loss_are_trained_with_those_of_the_model(site):
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
    trainer = compose(resolve(config, site.registry())).trainer
    scale = trainer.objective.loss.scale
    assert any(each is scale for group in trainer.optimizer.param_groups for each in group["params"])
    trainer.train_step([trainer.train_loader.first_batch(8)])
    assert scale.item() != 1.0
