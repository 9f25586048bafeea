import pytest
import torch

from ptb import ConfigError, IncompatibleError, RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose


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
        assert compose(resolve(config, site.registry())).trainer.needs_closure is closure


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
        compose(resolve(config, site.registry()))


def groups(built_in, **optimizer):
    composed = compose(resolve(RunConfig(model={"name": "lenet"}, optimizer={"name": "sgd", **optimizer}), built_in))
    return composed.trainer.optimizer.param_groups


def test_biases_and_norms_are_left_out_of_weight_decay_in_one_setting(built_in):
    plain, bare = groups(built_in, weight_decay=0.1, no_decay_on_norms_and_biases=True)
    assert (plain["weight_decay"], bare["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in bare["params"]} == {1}
    assert len(plain["params"]) == len(bare["params"]) == 5


def test_biases_and_norms_are_left_out_of_the_weight_decay_of_a_group_too(built_in):
    decayed = [{"match": "fc*", "weight_decay": 0.1}, {"match": "conv*", "weight_decay": 0.2, "lr": 0.5}]
    split = groups(built_in, groups=decayed, no_decay_on_norms_and_biases=True)
    assert [(group["weight_decay"], group["lr"], {p.ndim > 1 for p in group["params"]}) for group in split] == [
        (0.1, 1e-3, {True}),
        (0.0, 1e-3, {False}),
        (0.2, 0.5, {True}),
        (0.0, 0.5, {False}),
    ]


def test_an_optimizer_that_takes_no_groups_is_told_to_get_none(built_in):
    config = RunConfig(model={"name": "mlp"}, optimizer={"name": "lbfgs", "groups": [{"match": "*.bias", "lr": 0.1}]})
    with pytest.raises(
        IncompatibleError, match=r"'lbfgs' does not fit model 'mlp': .*no optimizer\.groups: leave them"
    ):
        compose(resolve(config, built_in))


def test_the_first_group_that_matches_counts_and_the_rest_comes_first(built_in):
    rest, first, second = groups(built_in, lr=0.5, groups=[{"match": "fc3*", "lr": 0.1}, {"match": "fc*", "lr": 0.2}])
    assert [group["lr"] for group in (rest, first, second)] == [0.5, 0.1, 0.2]
    assert [len(group["params"]) for group in (rest, first, second)] == [4, 2, 4]


@pytest.mark.parametrize("patterns", [["head*"], ["*", "fc*"]], ids=["nothing", "taken"])
def test_a_pattern_that_matches_nothing_is_told_with_what_there_is(built_in, patterns):
    told = rf"groups\[{len(patterns) - 1}\]\.match: '.*' matches no parameter that .*; there are: conv1\.weight"
    with pytest.raises(ConfigError, match=told):
        groups(built_in, groups=[{"match": pattern, "lr": 0.1} for pattern in patterns])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_step_of_the_usual_optimizers_is_one_kernel(built_in, name):
    optimizer = compose(resolve(RunConfig(model={"name": "mlp"}, optimizer={"name": name}), built_in)).trainer.optimizer
    assert all(group["fused"] for group in optimizer.param_groups)


def test_sparse_gradients_have_no_such_kernel(built_in):
    config = RunConfig(
        model={"name": "embedding-bag", "sparse": True},
        dataset={"name": "random", "inputs": "tokens"},
        optimizer={"name": "sgd"},
    )
    assert not compose(resolve(config, built_in)).trainer.optimizer.param_groups[0].get("fused")


@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5}, {}], ids=str)
def test_a_parameter_that_gets_its_first_gradient_late_takes_the_step_that_torch_takes(built_in, settings):
    config = RunConfig(
        model={"name": "linear"}, dataset={"name": "iris"}, optimizer={"name": "sgd", "lr": 0.1, **settings}
    )
    trainer = compose(resolve(config, built_in)).trainer
    weight, bias = trainer.model.parameters()
    copies = [each.detach().clone().requires_grad_() for each in (weight, bias)]
    plain = torch.optim.SGD(copies, lr=0.1, foreach=False, fused=False, **settings)
    assert trainer.optimizer.defaults.get("fused") is (None if "dampening" in settings else True)
    for step in range(4):
        for ours, theirs in zip((weight, bias), copies, strict=True):
            late = ours is bias and step < 2
            ours.grad = None if late else torch.full_like(ours, 0.5 + step)
            theirs.grad = None if late else torch.full_like(theirs, 0.5 + step)
        trainer.optimizer.step()
        plain.step()
        torch.testing.assert_close([weight.detach(), bias.detach()], [each.detach() for each in copies])


@pytest.mark.parametrize(("setting", "fused"), [({}, True), ({"fused": False}, False), ({"foreach": True}, None)])
def test_an_optimizer_of_torch_that_has_the_setting_keeps_what_is_asked_of_it(site, setting, fused):
    site.add(
        "ptb-raw",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_optimizers():
            return [Component("raw", "torch.optim:SGD")]
        """,
    )
    config = RunConfig(model={"name": "linear"}, optimizer={"name": "raw", **setting})
    assert compose(resolve(config, site.registry())).trainer.optimizer.defaults["fused"] is fused
