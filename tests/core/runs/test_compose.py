"""Parts that fit are built; parts that do not are refused with a message that names both, and nothing is written."""

import contextlib

import pytest
import torch

from ptb import ConfigError, DataError, IncompatibleError, PluginError, ResourceError, RunConfig
from ptb.data.loader import CHUNK
from ptb.data.sources import InMemorySamples
from ptb.runs.compose import compose

STRANGE = """
    from ptb import Component, hookimpl

    KINDS = "{target}"

    @hookimpl
    def ptb_provide_datasets():
        return [Component("toy", "strange_parts:toy")]

    @hookimpl
    def ptb_provide_models():
        names = ("plain", "narrow", "raises", "nothing", "shy", "exits", "bare")
        return [Component(name, f"strange_parts:{{name}}") for name in names]

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

    def plain(spec): return nn.Linear(spec.input_size, spec.output_size)
    def narrow(spec): return nn.Linear(spec.input_size, spec.output_size + 1)
    def nothing(spec): return None
    def exits(spec): raise SystemExit(0)
    def bare(spec): return nn.Flatten()
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


def toy(model="plain", loss="square", **sections):
    base = {"dataset": {"name": "toy"}, "model": {"name": model}, "loss": {"name": loss}, "loader": {"batch_size": 4}}
    return RunConfig(**{**base, **sections})


def test_a_composition_is_described_in_one_line(built_in):
    composed = compose(RunConfig(model={"name": "lenet"}, device="cpu"), built_in)
    assert composed.summary_line().startswith(
        "lenet on digits: 61,706 parameters, 1,257 train / 270 val / 270 test samples, input resident, cpu ("
    )


def test_the_plan_names_the_device_that_was_found(built_in):
    composed = compose(RunConfig(model={"name": "mlp"}), built_in)
    assert composed.plan.run.device == str(composed.parts.device) != "auto"


def test_parts_of_strangers_fit_together(strange):
    composed = compose(toy(), strange)
    assert list(composed.plan.metrics) == ["mae", "rmse"]
    assert composed.parameters == 9


@pytest.mark.parametrize(
    ("config", "error", "told"),
    [
        (
            toy(model="narrow"),
            IncompatibleError,
            r"model 'narrow' must give scores of shape \(2, 1\) for data set 'toy'",
        ),
        (
            toy(model="raises"),
            PluginError,
            r"model 'raises' \(ptb-strange 0\.3\): building it failed: KeyError: 'width'",
        ),
        (toy(model="nothing"), PluginError, "must give an nn.Module, it gives NoneType"),
        (toy(model="exits"), PluginError, "model 'exits' .*building it failed: SystemExit: 0"),
        (toy(model="bare"), IncompatibleError, "model 'bare' has no parameters to train"),
        (toy(model="shy"), IncompatibleError, r"model 'shy' raised on samples of data set 'toy', of shape \(8,\)"),
        (toy(model="lenet"), IncompatibleError, "lenet takes pictures"),
        (
            toy(loss="vector"),
            IncompatibleError,
            r"loss 'vector' must give a scalar tensor or .*, it gives shape \(1,\)",
        ),
        (
            toy(loss="number"),
            IncompatibleError,
            "loss 'number' must give a scalar tensor or one value a sample, it gives float",
        ),
        (toy(loss="bad"), IncompatibleError, r"loss 'bad' cannot take scores .*float32 \[2, 1\].*data set 'toy'"),
        (
            toy(loss="cross-entropy"),
            IncompatibleError,
            "takes targets of kind class; those of data set 'toy' are 'real'",
        ),
        (toy(metrics={"accuracy": {}}), IncompatibleError, "metric 'accuracy' takes targets of kind class"),
        (toy(metrics={"crash": {}}), IncompatibleError, "metric 'crash' cannot take .*no classes here"),
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
        (
            toy(loader={"batch_size": 13, "drop_last": True}),
            DataError,
            "drop_last leaves none of its 12 samples; choose a smaller loader.batch_size, or",
        ),
        (toy(loss=None), ConfigError, "must be the name of a loss"),
        (toy(optimizer={"name": "sgd", "nesterov": True}), ConfigError, "optimizer.nesterov: needs momentum"),
        (toy(device="cuda:77"), ConfigError, "no device 'cuda:77'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused_with_both_parties_named(strange, config, error, told):
    with pytest.raises(error, match=told):
        compose(config, strange)


def test_a_misfit_of_shapes_names_the_setting_that_changes_them(built_in):
    with pytest.raises(IncompatibleError) as error:
        compose(RunConfig(model={"name": "lenet"}, dataset={"size": 9}), built_in)
    assert "(1, 9, 9)" in str(error.value)
    assert "at least 16x16" in str(error.value)
    assert "change dataset.size or choose another model" in str(error.value)


def test_a_setting_that_is_no_part_of_the_shape_is_not_named(built_in):
    dataset = {"name": "random", "input_shape": [1, 9, 9], "samples": 9}
    with pytest.raises(IncompatibleError, match=r"9x9; change dataset\.input_shape or choose another model"):
        compose(RunConfig(model={"name": "lenet"}, dataset=dataset), built_in)


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
        config = RunConfig(model={"name": "mlp"}, optimizer={"name": f"ptb-second:{name}"})
        assert compose(config, site.registry()).parts.closure is closure


@pytest.mark.parametrize(("key", "value", "valid"), [("accumulate", 2, "1"), ("precision", "fp16", "fp32 or bf16")])
def test_an_undeclared_closure_bars_what_a_declared_one_does(site, key, value, valid):
    site.add(
        "ptb-second",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_optimizers():
            return [Component("raw-lbfgs", "torch.optim:LBFGS")]
        """,
    )
    config = RunConfig(model={"name": "mlp"}, optimizer={"name": "raw-lbfgs"}, device="cpu", trainer={key: value})
    told = f"trainer.{key}: must be {valid}, got {value}: 'raw-lbfgs' evaluates the loss several times a step"
    with pytest.raises(ConfigError, match=told):
        compose(config, site.registry())


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
        ("lazy", r"2\.weight, 2\.bias have none yet: take the sizes from spec\.input_shape, or send zeros"),
        ("lazy-norm", r"2\.running_mean, 2\.running_var have none yet: take"),
    ],
    ids=["parameters", "buffers"],
)
def test_a_model_whose_tensors_have_no_size_yet_is_told_how_to_give_them_one(site, model, told, initializer):
    site.add("ptb-unusual", UNUSUAL)
    config = RunConfig(model={"name": model}, initializer={"name": initializer}, device="cpu")
    with pytest.raises(PluginError, match=rf"^model '{model}' \(ptb-unusual 1\.0\) must give a model .*{told}"):
        compose(config, site.registry())


def wave(site, precision, frozen=False):
    site.add("ptb-unusual", UNUSUAL)
    model = {"name": "wave", "frozen": frozen}
    return compose(RunConfig(model=model, device="cpu", trainer={"precision": precision}), site.registry()).parts


def test_the_scaled_loss_of_fp16_is_not_for_complex_parameters(site):
    told = r"precision: must be fp32 or bf16, got fp16: its loss scaling takes real .*, and phase of model 'wave' is"
    with pytest.raises(ConfigError, match=told):
        wave(site, "fp16")


@pytest.mark.parametrize(("precision", "frozen"), [("fp32", False), ("bf16", False), ("fp16", True)])
def test_complex_parameters_whose_gradients_are_not_scaled_are_taken(site, precision, frozen):
    assert wave(site, precision, frozen).model.phase.is_complex()


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_out_of_memory_while_composing_is_told_as_that(built_in, monkeypatch, error):
    def raises(*_, **__):
        raise error("too much")

    monkeypatch.setattr("ptb_models.lenet.LeNet.forward", raises)
    with pytest.raises(ResourceError, match="batch_size=32; try 16"):
        compose(RunConfig(model={"name": "lenet"}), built_in)


def test_a_model_that_does_not_fit_in_memory_is_named(built_in):
    with pytest.raises(
        ResourceError, match=r"memory while model 'mlp' was built; make it smaller .*`ptb show model mlp`"
    ):
        compose(RunConfig(model={"name": "mlp", "hidden": [10**7, 10**7]}, dataset={"size": 8}), built_in)


def groups(built_in, **optimizer):
    composed = compose(RunConfig(model={"name": "lenet"}, optimizer={"name": "sgd", **optimizer}), built_in)
    return composed.parts.optimizer.param_groups


def test_biases_and_norms_are_left_out_of_weight_decay_in_one_setting(built_in):
    plain, bare = groups(built_in, weight_decay=0.1, decay_norms_and_biases=False)
    assert (plain["weight_decay"], bare["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in bare["params"]} == {1}
    assert len(plain["params"]) == len(bare["params"]) == 5


def test_biases_and_norms_are_left_out_of_the_weight_decay_of_a_group_too(built_in):
    decayed = [{"match": "fc*", "weight_decay": 0.1}, {"match": "conv*", "weight_decay": 0.2, "lr": 0.5}]
    split = groups(built_in, groups=decayed, decay_norms_and_biases=False)
    assert [(group["weight_decay"], group["lr"], {p.ndim > 1 for p in group["params"]}) for group in split] == [
        (0.1, 1e-3, {True}),
        (0.0, 1e-3, {False}),
        (0.2, 0.5, {True}),
        (0.0, 0.5, {False}),
    ]


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        (
            {"lr": 0.5, "groups": [{"match": "*", "lr": 0.1}]},
            "optimizer.lr: has no effect: every parameter of model 'lenet' has one set apart",
        ),
        (
            {"weight_decay": 0.5, "groups": [{"match": "fc*", "weight_decay": 0.0}, {"match": "*", "weight_decay": 1}]},
            "optimizer.weight_decay: has no effect: every parameter of model 'lenet'",
        ),
        (
            {"groups": [{"match": "*.bias", "weight_decay": 0.1}], "decay_norms_and_biases": False},
            r"groups\[0\].weight_decay: has no effect: decay_norms_and_biases=false takes it",
        ),
    ],
    ids=["lr", "weight-decay", "bare"],
)
def test_a_value_that_no_parameter_gets_is_refused(built_in, optimizer, told):
    with pytest.raises(ConfigError, match=told):
        groups(built_in, **optimizer)
    for group in optimizer["groups"]:
        group["match"] = "*1.weight" if group["match"] == "*" else "fc1*"
    groups(built_in, **optimizer)


def test_an_optimizer_that_takes_no_groups_is_told_to_get_none(built_in):
    config = RunConfig(model={"name": "mlp"}, optimizer={"name": "lbfgs", "groups": [{"match": "*.bias", "lr": 0.1}]})
    with pytest.raises(
        IncompatibleError, match=r"'lbfgs' does not fit model 'mlp': .*no optimizer\.groups: leave them"
    ):
        compose(config, built_in)


def test_the_first_group_that_matches_counts_and_the_rest_comes_first(built_in):
    rest, first, second = groups(built_in, lr=0.5, groups=[{"match": "fc3*", "lr": 0.1}, {"match": "fc*", "lr": 0.2}])
    assert [group["lr"] for group in (rest, first, second)] == [0.5, 0.1, 0.2]
    assert [len(group["params"]) for group in (rest, first, second)] == [4, 2, 4]


def test_a_pattern_that_matches_nothing_is_told_with_what_there_is(built_in):
    with pytest.raises(
        ConfigError, match=r"groups\[0\]\.match: 'head\*' matches no parameter; there are: conv1\.weight"
    ):
        groups(built_in, groups=[{"match": "head*"}])


ODD = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_datasets():
        return [Component("odd", "odd_parts:odd")]

    @hookimpl
    def ptb_provide_models():
        return [Component(name, f"odd_parts:{name}") for name in ("plain", "norm", "idle", "sparse", "boom", "frozen")]

    @hookimpl
    def ptb_provide_initializers():
        return [Component("picky", "odd_parts:picky")]

    @hookimpl
    def ptb_provide_schedulers():
        return [Component("short", "odd_parts:short")]

    @hookimpl
    def ptb_provide_losses():
        return [Component(name, f"odd_parts:{name}") for name in ("refuses", "detached")]

    @hookimpl
    def ptb_provide_optimizers():
        return [
            Component("sparse-only", "torch.optim:SparseAdam", needs=("sparse-gradients",)),
            Component("undeclared", "torch.optim:SparseAdam"),
            Component("plain-adam", "torch.optim:Adam"),
        ]
"""
ODD_PARTS = """
    import torch
    from torch import nn
    from torch.utils.data import Dataset, TensorDataset
    from ptb import DataBundle, DataSpec

    class Listed(Dataset):
        def __init__(self, samples): self.samples = samples
        def __len__(self): return len(self.samples)
        def __getitem__(self, index):
            sample = self.samples[index]
            if isinstance(sample, Exception):
                raise sample
            return sample

    def odd(*, kind: str = "class", case: str = "good", listed: bool = False, size: int = 33):
        inputs = torch.randn(size, 4)
        targets = {
            "class": lambda: torch.arange(size) % 3,
            "binary": lambda: (torch.arange(size) % 2).float()[:, None],
            "real": lambda: torch.randn(size, 3),
            "distribution": lambda: torch.full((size, 3), 1 / 3),
            "similarity": lambda: torch.arange(size).float() % 2 * 2 - 1,
            "tokens": lambda: torch.arange(size) % 3,
        }[kind]()
        spec = DataSpec((4,), "vector", kind if kind != "tokens" else "class", 1 if kind == "binary" else 3)
        if kind == "similarity":
            inputs = torch.randn(size, 2, 4)
        if kind == "tokens":
            inputs = torch.arange(size * 4).view(size, 4) % 7
            spec = DataSpec((4,), "tokens", "class", 3, vocabulary=7)
        bad = {"low": -1, "high": 3, "half": 0.5, "two": 2.0, "zero": 0.0, "nan": float("nan"), "inf": float("inf")}
        if case in bad:
            targets[20] = bad[case]
        if case == "same":
            targets[:] = 1
        if case == "input-nan":
            inputs[20, 0] = float("nan")
        if case == "token":
            inputs[20, 0] = 7
        if case == "negative":
            targets[20] = torch.tensor([1.5, -0.5, 0.0])
        if case == "column":
            targets = targets[:, None]
        if case == "float":
            targets = targets.double()
        data = TensorDataset(inputs, targets)
        if listed:
            samples = list(zip(inputs, targets))
            if case == "shapes":
                samples[20] = (torch.zeros(5), samples[20][1])
            if case == "raises":
                samples[20] = OSError("disk")
            if case == "none":
                samples[20] = None
            data = Listed(samples)
        empty = TensorDataset(inputs[:0], targets[:0])
        return DataBundle(spec, data, val=empty if case == "empty-val" else None)

    def plain(spec): return nn.Linear(spec.input_size, spec.output_size)
    def norm(spec): return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, spec.output_size))
    def sparse(spec): return nn.Sequential(nn.EmbeddingBag(spec.vocabulary, spec.output_size, sparse=True))

    class idle(nn.Linear):
        def __init__(self, spec):
            super().__init__(spec.input_size, spec.output_size)
            self.spare = nn.Linear(2, 2)

    def frozen(spec):
        model = idle(spec)
        model.spare.requires_grad_(False)
        return model

    class boom(nn.Linear):
        def __init__(self, spec): super().__init__(spec.input_size, spec.output_size)
        def forward(self, inputs):
            if self.training:
                raise RuntimeError("only in training")
            return super().forward(inputs)

    def picky(module): raise ValueError("fits weights of 3 to 5 dimensions")
    def short(optimizer, total_steps): raise ValueError(f"warm-up of 999 steps, the run has {total_steps}")
    def refuses(spec): raise ValueError("2 weights for 3 classes")
    def detached(spec): return lambda scores, targets: scores.detach().sum()
"""


def odd(kind="class", case="good", listed=False, model="plain", size=33, **sections):
    dataset = {"name": "odd", "kind": kind, "case": case, "listed": listed, "size": size}
    return RunConfig(**{"dataset": dataset, "model": {"name": model}, "loader": {"batch_size": 8}, **sections})


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (odd(case="low"), "target of sample 20 is -1; valid are 0 to 2"),
        (odd(case="high"), "target of sample 20 is 3; valid are 0 to 2"),
        (odd("binary", case="half"), r"target of sample 20 is \[0.5\]; valid are 0 and 1"),
        (odd("binary", case="two"), r"target of sample 20 is \[2.0\]; valid are 0 and 1"),
        (odd("similarity", case="zero", loss={"name": "detached"}), r"sample 20 is 0.0; valid are \+1 and -1"),
        (odd("distribution", case="half", loss={"name": "detached"}), "rows of probabilities that sum to 1"),
        (odd("distribution", case="negative", loss={"name": "detached"}), "rows of probabilities that sum to 1"),
        (odd("real", case="nan", loss={"name": "detached"}), "valid are finite numbers"),
        (odd("real", case="inf", loss={"name": "detached"}), "valid are finite numbers"),
        (odd(case="input-nan"), "sample 20 holds inputs that are not finite"),
        (odd("tokens", case="token", model="sparse"), "sample 20 has tokens outside 0 to 6"),
        (odd(case="column"), r"targets of kind 'class' are int64 \[2\]; the first 2 samples give int64 \[2, 1\]"),
        (odd(case="float"), "give float64"),
        (odd("binary", case="float"), r"are float32 \[2, 1\]; .* give float64"),
        (odd(case="empty-val"), "the val split is empty"),
        (
            odd(case="shapes", listed=True),
            r"sample 0 is \(float32 \[4\], int64 \[\]\), sample 20 is \(float32 \[5\]",
        ),
        (odd(case="raises", listed=True), "reading sample 20 of the train split failed: OSError: disk"),
        (odd(case="none", listed=True), "must be alike: .*, sample 20 is NoneType"),
        (
            odd(model="norm"),
            "cannot train on a batch of one sample, and the last batch of 33 samples has one.*drop_last",
        ),
        (odd(model="norm", loader={"batch_size": 1}), "loader.batch_size is 1: .*; choose a larger one$"),
        (odd(model="idle"), r"no gradient reaches spare\.weight, spare\.bias"),
        (odd(model="boom"), "model 'boom' with loss 'cross-entropy' cannot be trained: RuntimeError: only in training"),
        (odd(loss={"name": "detached"}), "cannot be trained: RuntimeError: element 0 of tensors does not require grad"),
        (odd(loss={"name": "refuses"}), "loss 'refuses' does not fit data set 'odd': 2 weights for 3 classes"),
        (odd(initializer={"name": "picky"}), "initializer 'picky' does not fit model 'plain': fits weights of 3 to 5"),
        (odd(scheduler={"name": "short"}), "scheduler 'short' does not fit a run of 100 optimizer steps: .*has 100"),
        (
            odd(optimizer={"name": "sparse-only"}),
            "optimizer 'sparse-only' takes sparse gradients only, and model 'plain'",
        ),
        (odd(optimizer={"name": "undeclared"}), "optimizer 'undeclared' cannot take a step on model 'plain'"),
        (
            odd("tokens", model="sparse", optimizer={"name": "plain-adam"}),
            "optimizer 'plain-adam' cannot take a step .*; its gradients are sparse: leave weight decay out, or choose",
        ),
        (
            odd("tokens", model="sparse", optimizer={"name": "sgd", "weight_decay": 0.1}),
            "optimizer 'sgd' cannot take a step .*; its gradients are sparse: leave weight decay out, or choose",
        ),
    ],
)
def test_the_preflight_refuses_before_the_first_step(site, config, told):
    site.add("ptb-odd", ODD, module="ptb_odd")
    site.write("odd_parts.py", ODD_PARTS)
    with pytest.raises((DataError, IncompatibleError), match=told) as error:
        compose(config, site.registry())
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    "config",
    [
        odd(),
        odd(listed=True),
        odd("binary"),
        odd(model="norm", loader={"batch_size": 8, "drop_last": True}),
        odd(model="norm", loader={"batch_size": 11}),
        odd(model="frozen"),
        odd("tokens", model="sparse", optimizer={"name": "sparse-only"}),
        odd("tokens", model="sparse", optimizer={"name": "sgd"}),
        odd(size=1),
    ],
)
def test_the_preflight_lets_pass_what_trains_and_changes_nothing(site, config):
    site.add("ptb-odd", ODD, module="ptb_odd")
    site.write("odd_parts.py", ODD_PARTS)
    parts = compose(config, site.registry()).parts
    assert not parts.optimizer.state
    assert all(parameter.grad is None for parameter in parts.model.parameters())
    for _ in range(2):
        for inputs, targets in parts.train.epoch(1):
            parts.optimizer.zero_grad()
            parts.mean_loss(parts.forward(inputs), targets).backward()
            parts.optimizer.step()


@pytest.mark.parametrize(
    ("config", "threads"),
    [
        ({"model": {"name": "lenet"}}, 1),
        ({"model": {"name": "lenet"}, "threads": 3}, 3),
        ({"model": {"name": "mlp", "hidden": [4000, 4000]}}, torch.get_num_threads()),
    ],
    ids=["small", "asked-for", "large"],
)
def test_small_steps_are_left_to_one_thread_and_the_plan_says_so(built_in, config, threads):
    assert compose(RunConfig(**config), built_in).plan.run.threads == threads


def test_the_operations_of_a_step_are_counted(built_in):
    from ptb.runs.preflight import Names, check_forward

    config = RunConfig(model={"name": "mlp", "hidden": [7]}, dataset={"size": 8}, loader={"batch_size": 5})
    done = compose(config, built_in)
    assert check_forward(done.parts, done.spec, Names("", "", "", "", "")) == 3 * 2 * 5 * (64 * 7 + 7 * 10)


def test_patience_without_a_validation_split_is_not_ignored(site):
    site.add("ptb-odd", ODD, module="ptb_odd")
    site.write("odd_parts.py", ODD_PARTS)
    with pytest.raises(
        ConfigError, match=r"trainer\.patience: waits for the validation loss, and data set 'odd' has no"
    ):
        compose(odd(trainer={"patience": 2}), site.registry())


@pytest.mark.parametrize(
    ("trainer", "told"),
    [
        ({"epochs": 6, "eval_every": 2, "patience": 2}, "patience=2 never ends this run early: .*=6 has 3 evaluations"),
        ({"epochs": 1, "patience": 1}, "epochs=1 has 1 evaluation$"),
        ({"epochs": 5, "eval_every": 2, "patience": 1}, ""),
        ({"epochs": 6, "patience": 4}, ""),
        ({"epochs": 1}, ""),
    ],
    ids=str,
)
def test_patience_that_cannot_end_is_told(built_in, trainer, told):
    config = RunConfig(model={"name": "linear"}, trainer=trainer)
    with pytest.warns(UserWarning, match=told) if told else contextlib.nullcontext():
        compose(config, built_in)


def test_a_pattern_whose_parameters_are_taken_is_told_by_whom(built_in):
    with pytest.raises(ConfigError, match=r"'fc\*' matches only what earlier groups have taken \(fc1\.weight"):
        groups(built_in, groups=[{"match": "*"}, {"match": "fc*", "lr": 1.0}])


def test_sparse_gradients_are_not_clipped(site):
    site.add("ptb-odd", ODD, module="ptb_odd")
    site.write("odd_parts.py", ODD_PARTS)
    config = odd("tokens", model="sparse", optimizer={"name": "sparse-only"}, trainer={"clip_norm": 1.0})
    with pytest.raises(IncompatibleError, match="clip_norm=1 cannot be used with the gradients of model 'sparse'"):
        compose(config, site.registry())


def test_an_ignore_index_that_no_sample_has_is_not_ignored(built_in):
    with pytest.raises(IncompatibleError, match=r"loss.ignore_index=10 leaves out nothing.*classes are 0 to 9"):
        compose(RunConfig(model={"name": "linear"}, loss={"ignore_index": 10}), built_in)
    compose(RunConfig(model={"name": "linear"}, loss={"ignore_index": 9}), built_in)


def test_a_loss_that_leaves_out_every_sample_of_a_split_is_refused(site):
    site.add("ptb-odd", ODD, module="ptb_odd")
    site.write("odd_parts.py", ODD_PARTS)
    config = odd("class", case="same", loss={"ignore_index": 1})
    with pytest.raises(DataError, match=r"train split: the loss leaves out every sample \(loss.ignore_index=1\)"):
        compose(config, site.registry())


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
    composed = compose(RunConfig(model={"name": "lenet"}, device="cpu"), built_in)
    assert composed.plan.trainer.memory_format == "channels-last"
    assert composed.parts.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    plain = compose(RunConfig(model={"name": "mlp"}, device="cpu"), built_in)
    assert plain.plan.trainer.memory_format == "contiguous"


@pytest.mark.parametrize(
    "sections",
    [{"model": {"name": "viewing"}}, {"model": {"name": "lenet"}, "optimizer": {"name": "lbfgs"}}],
    ids=["model", "optimizer"],
)
def test_parts_that_look_at_memory_keep_it_contiguous(site, sections):
    site.add("ptb-viewing", VIEWING)
    site.write("viewing_model.py", VIEWING_MODEL)
    registry = site.registry()
    composed = compose(RunConfig(**sections, device="cpu"), registry)
    assert composed.plan.trainer.memory_format == "contiguous"
    assert all(parameter.is_contiguous() for parameter in composed.parts.model.parameters())
    with pytest.raises(
        IncompatibleError, match=r"^with trainer.memory_format=channels-last: .* view size is not compatible"
    ):
        compose(RunConfig(**sections, trainer={"memory_format": "channels-last"}, device="cpu"), registry)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_step_of_the_usual_optimizers_is_one_kernel(built_in, name):
    optimizer = compose(RunConfig(model={"name": "mlp"}, optimizer={"name": name}), built_in).parts.optimizer
    assert all(group["fused"] for group in optimizer.param_groups)


def test_sparse_gradients_have_no_such_kernel(built_in):
    config = RunConfig(
        model={"name": "embedding-bag", "sparse": True},
        dataset={"name": "random", "inputs": "tokens"},
        optimizer={"name": "sgd"},
    )
    assert not compose(config, built_in).parts.optimizer.param_groups[0].get("fused")


def test_the_compiler_gets_full_training_batches_only(built_in, monkeypatch):
    seen = []

    def compiled(model, *, dynamic):
        assert dynamic is False
        return lambda inputs: seen.append(len(inputs)) or model(inputs)

    monkeypatch.setattr(torch, "compile", compiled)
    config = RunConfig(model={"name": "linear"}, loader={"batch_size": 100}, trainer={"epochs": 1, "compile": True})
    parts = compose(config, built_in).parts
    assert seen == [100]  # tried before the training
    for inputs, _ in parts.train.epoch(1):
        parts.forward(inputs)
    parts.model.eval()
    parts.forward(next(parts.train.epoch(1))[0])
    assert seen == [100] * 13


def test_an_evaluation_compiles_nothing(built_in, monkeypatch):
    monkeypatch.setattr(torch, "compile", None)
    config = RunConfig(model={"name": "linear"}, trainer={"compile": True})
    assert compose(config, built_in, training=False).parts.compiled is None


def test_a_compiler_that_cannot_is_told(built_in, monkeypatch):
    def compiled(model, *, dynamic):
        def run(inputs):
            raise RuntimeError("no working C++ compiler")

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    config = RunConfig(model={"name": "linear"}, trainer={"compile": True})
    with pytest.raises(IncompatibleError, match=r"^trainer.compile cannot be used here: .*no working C\+\+ compiler"):
        compose(config, built_in)


@pytest.mark.parametrize(("key", "value"), [("num_workers", 2), ("timeout", 5.0)])
def test_workers_that_are_not_used_are_told(built_in, key, value):
    with pytest.warns(UserWarning, match=rf"loader.{key}={value} is not used: .*loader.tier=workers has some"):
        compose(RunConfig(model={"name": "linear"}, loader={key: value}), built_in)


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
        compose(config, site.registry())


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (odd(case="high"), "target of sample 20 is 3; valid are 0 to 2"),
        (odd(case="input-nan"), "sample 20 holds inputs that are not finite"),
    ],
    ids=["target", "input"],
)
def test_values_are_looked_at_some_at_a_time_and_told_by_their_number(site, monkeypatch, config, told):
    monkeypatch.setattr("ptb.runs.preflight.CHUNK", 7)
    site.add("ptb-odd", ODD, module="ptb_odd")
    site.write("odd_parts.py", ODD_PARTS)
    with pytest.raises(DataError, match=told):
        compose(config, site.registry())


def test_of_large_data_some_values_are_looked_at(built_in, monkeypatch):
    taken = []
    original = InMemorySamples.take

    def take(held, samples):
        taken.append(len(samples))
        return original(held, samples)

    monkeypatch.setattr(InMemorySamples, "take", take)
    compose(RunConfig(model={"name": "linear"}, dataset={"name": "random", "samples": 9000}), built_in)
    assert max(taken) <= CHUNK
    assert sum(taken) > 9000
    taken.clear()
    monkeypatch.setattr("ptb.runs.preflight.SCAN_BYTES", 0)
    compose(RunConfig(model={"name": "linear"}, dataset={"name": "random", "samples": 9000}), built_in)
    assert 4000 < sum(taken) < 10000


@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5}, {}], ids=str)
def test_a_parameter_that_gets_its_first_gradient_late_takes_the_step_that_torch_takes(built_in, settings):
    config = RunConfig(
        model={"name": "linear"}, dataset={"name": "iris"}, optimizer={"name": "sgd", "lr": 0.1, **settings}
    )
    parts = compose(config, built_in).parts
    weight, bias = parts.model.parameters()
    copies = [each.detach().clone().requires_grad_() for each in (weight, bias)]
    plain = torch.optim.SGD(copies, lr=0.1, foreach=False, fused=False, **settings)
    assert parts.optimizer.defaults.get("fused") is (None if "dampening" in settings else True)
    for step in range(4):
        for ours, theirs in zip((weight, bias), copies, strict=True):
            late = ours is bias and step < 2
            ours.grad = None if late else torch.full_like(ours, 0.5 + step)
            theirs.grad = None if late else torch.full_like(theirs, 0.5 + step)
        parts.optimizer.step()
        plain.step()
        torch.testing.assert_close([weight.detach(), bias.detach()], [each.detach() for each in copies])
