"""Runs whose optimizers are other than torch's, held against plain loops of PyTorch."""

import copy
import json

import pytest
import torch

import ptb
from ptb import ConfigError, IncompatibleError, PluginError, RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb.training.optimizers import CombinedOptimizer

PLUGIN = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_optimizers():
        return [
            Component("muon", "torch.optim:Muon"),
            Component("averaged", "forms:Averaged"),
            Component("sam", "forms:sam", needs=("closure",)),
            Component("names", "forms:names", needs=("named-parameters", "model")),
            Component("methods", "forms:Methods"),
            Component("few-methods", "forms:FewMethods"),
            Component("hidden", "forms:Hidden"),
            Component("mixed", "forms:Mixed"),
            Component("constant", "forms:Constant"),
        ]
"""
FORMS = """
    import enum
    import torch

    class Averaged(torch.optim.SGD):
        # The weights of Defazio et al., 2024, arXiv:2405.15682, section 2, with beta = 0.9: y is trained, x evaluated.
        def __init__(self, params, *, lr: float = 0.5):
            super().__init__(params, lr=lr)
            self.train_mode, self.k = False, 0

        def _each(self):
            return [(p, self.state[p]) for group in self.param_groups for p in group["params"]]

        @torch.no_grad()
        def step(self, closure=None):
            assert self.train_mode
            weight = 1 / (self.param_groups[0].setdefault("k", 0) + 1)
            for p, state in self._each():
                z = state.setdefault("z", p.clone())
                x = (p - 0.1 * z) / 0.9
                z.sub_(p.grad, alpha=self.param_groups[0]["lr"])
                p.copy_(0.1 * z + 0.9 * (x * (1 - weight) + z * weight))
            self.param_groups[0]["k"] += 1

        @torch.no_grad()
        def eval(self):
            if self.train_mode:
                for p, state in self._each():
                    p.lerp_(state.get("z", p), 1 - 1 / 0.9)
            self.train_mode = False

        @torch.no_grad()
        def train(self):
            if not self.train_mode:
                for p, state in self._each():
                    p.lerp_(state.get("z", p), 1 - 0.9)
            self.train_mode = True

    class Sam(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure):
            parameters = [p for group in self.param_groups for p in group["params"]]
            norm = torch.stack([p.grad.norm() for p in parameters]).norm()
            before = [p.clone() for p in parameters]
            for p in parameters:
                p.add_(p.grad, alpha=float(0.05 / norm))
            with torch.enable_grad():
                closure()
            for p, value in zip(parameters, before):
                p.copy_(value)
            super().step()

    def sam(params, *, lr: float = 0.1):
        return Sam(params, lr=lr)

    def names(params, *, model, lr: float = 0.1):
        groups = [*params]
        pairs = [pair for each in groups for pair in (each["params"] if isinstance(each, dict) else [each])]
        assert {name for name, _ in pairs} == {name for name, _ in model.named_parameters()}
        return torch.optim.SGD(groups, lr=lr)

    class Methods:
        def __init__(self, params, *, rate: float = 0.1):
            self.params, self.rate = list(params), rate
        def step(self):
            for p in self.params:
                p.data -= self.rate * p.grad
        def state_dict(self): return {}
        def load_state_dict(self, state): pass

    class FewMethods:
        def __init__(self, params): pass
        def step(self): pass

    class Hidden(torch.optim.SGD):
        def __init__(self, params, *, lr: float = 0.1):
            super().__init__(params, lr=lr)
            self.calls = 0
        def step(self, closure=None):
            self.calls += 1
            for p in self.param_groups[0]["params"]:
                p.grad.div_(self.calls)
            super().step()

    class Norm(enum.IntEnum):
        NONE = 0

    class Constant(torch.optim.SGD):  # an option of a type that only its package knows; eval() wants a state
        def __init__(self, params, *, lr: float = 0.1):
            super().__init__(params, lr=lr)
            self.param_groups[0]["norm"] = Norm.NONE
        def step(self, closure=None):
            assert self.param_groups[0]["norm"] is Norm.NONE
            super().step()
            for p in self.param_groups[0]["params"]:
                self.state[p]["before"] = p.detach().clone()
        def train(self): pass
        @torch.no_grad()
        def eval(self):
            for p in self.param_groups[0]["params"]:
                p.copy_(self.state[p]["before"] / 2)

    class Mixed(torch.optim.SGD):  # a number and a tensor beside the entries of parameters
        def __init__(self, params, *, lr: float = 0.1):
            super().__init__(params, lr=lr)
            self.state["total"], self.state["k"] = 0, torch.zeros(1)
        def step(self, closure=None):
            self.state["total"] += 1
            self.state["k"] += 0.5
            for p in self.param_groups[0]["params"]:
                p.grad.div_(self.state["total"] + float(self.state["k"]))
            super().step()
"""
IRIS = {"model": {"name": "mlp", "hidden": [8]}, "dataset": {"name": "iris"}, "device": "cpu", "threads": 1}


@pytest.fixture
def forms(site):
    site.add("ptb-forms", PLUGIN)
    site.write("forms.py", FORMS)
    return site.registry()


def config(name, scheduler="constant", **sections):
    optimizer = name if isinstance(name, dict) else {"name": name}
    return RunConfig(
        **IRIS, **{"scheduler": {"name": scheduler}, "trainer": {"epochs": 2}, "optimizer": optimizer, **sections}
    )


def plain_loop(registry, asked, make, closure=False):
    """The model after a loop as in every tutorial, over the batches that the run has, and its optimizer."""
    trainer = compose(resolve(asked, registry)).trainer
    model, loss = copy.deepcopy(trainer.model).train(), torch.nn.CrossEntropyLoss()
    optimizers = make(model)
    for batch in [batch for epoch in (1, 2) for batch in trainer.train_loader.epoch(epoch)]:

        def backward(batch=batch):
            for optimizer in optimizers:
                optimizer.zero_grad()
            value = loss(model(batch.inputs), batch.targets)
            value.backward()
            return value

        backward()
        for optimizer in optimizers:
            optimizer.step(backward) if closure else optimizer.step()
    return model, optimizers


def assert_close(model, other):
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


def resumes(registry, asked, folder):
    """The result of a run that is stopped after two steps and goes on, after it was compared with an unbroken one."""
    from ptb.runs.start import start_run

    whole = ptb.train(asked, registry=registry, output=folder / "whole")
    start_run(compose(resolve(asked, registry)), folder / "broken", stop_after=2)
    again = ptb.resume(folder / "broken", registry=registry)
    assert again.weights_sha256 == whole.weights_sha256
    assert again.metrics == whole.metrics
    return again


def test_a_schedule_free_optimizer_trains_as_in_a_plain_loop_and_is_evaluated_in_its_mode(forms, tmp_path):
    import forms as module

    def make(model):
        optimizer = module.Averaged(model.parameters())
        optimizer.train()
        return [optimizer]

    asked = config("averaged")
    model, (optimizer,) = plain_loop(forms, asked, make)
    result = resumes(forms, asked, tmp_path)
    trained = copy.deepcopy(model)
    optimizer.eval()
    assert_close(result.model, model)
    assert not torch.allclose(next(trained.parameters()), next(model.parameters()))
    again = ptb.evaluate(tmp_path / "whole", checkpoint="last", split="val", registry=forms)["metrics"]
    assert again["val/loss"] == pytest.approx(result.metrics["val/loss"], rel=1e-6)


def test_evaluations_do_not_change_what_a_schedule_free_optimizer_trains(forms, tmp_path):
    runs = [{"epochs": 2, "eval_every": 0}, {"epochs": 2, "eval_steps": 1, "checkpoint_every": 1}]
    digests = {
        ptb.train(config("averaged", trainer=each), registry=forms, output=tmp_path / str(number)).weights_sha256
        for number, each in enumerate(runs)
    }
    assert len(digests) == 1


def test_sam_trains_as_in_a_plain_loop(forms, tmp_path):
    import forms as module

    asked = config("sam")
    model, _ = plain_loop(forms, asked, lambda model: [module.sam(model.parameters())], closure=True)
    assert_close(resumes(forms, asked, tmp_path).model, model)


def test_muon_for_matrices_with_adamw_for_the_rest_trains_as_in_a_plain_loop(forms, tmp_path):
    group = {"ndim": 2, "name": "muon", "lr": 0.02}
    asked = config({"name": "adamw", "lr": 0.01, "groups": [group]})

    def make(model):
        rest = [each for each in model.parameters() if each.ndim != 2]
        matrices = [each for each in model.parameters() if each.ndim == 2]
        return [torch.optim.AdamW(rest, lr=0.01), torch.optim.Muon(matrices, lr=0.02)]

    model, _ = plain_loop(forms, asked, make)
    assert_close(resumes(forms, asked, tmp_path).model, model)
    manifest = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    assert {each["section"]: each["id"] for each in manifest["plugins"]}["optimizer.groups[0]"] == "ptb-forms:muon"
    (written,) = resolve(RunConfig.read([tmp_path / "whole" / "config.toml"]), forms).as_config()["optimizer"]["groups"]
    assert written.items() >= {**group, "name": "ptb-forms:muon"}.items()


def test_a_scheduler_moves_the_rates_of_all_optimizers(forms):
    group = {"ndim": 2, "name": "muon", "lr": 0.02}
    trainer = compose(resolve(config({"name": "adamw", "lr": 0.01, "groups": [group]}, "cosine"), forms)).trainer
    trainer.fit()
    assert isinstance(trainer.optimizer, CombinedOptimizer)
    assert [each["lr"] for each in trainer.optimizer.param_groups] == [0, 0]


def test_plateau_trains_as_reduce_lr_on_plateau_in_a_plain_loop(built_in, tmp_path):
    options = {"patience": 0, "threshold": 0.5, "factor": 0.3}
    asked = config({"name": "sgd", "lr": 0.5, "momentum": 0.9}, scheduler="plateau", trainer={"epochs": 5})
    asked.values["scheduler"] |= options
    trainer = compose(resolve(asked, built_in)).trainer
    model, loss = copy.deepcopy(trainer.model), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    for epoch in range(1, 6):
        model.train()
        for batch in trainer.train_loader.epoch(epoch):
            optimizer.zero_grad()
            loss(model(batch.inputs), batch.targets).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            figures = [
                (len(b.targets), float(loss(model(b.inputs), b.targets))) for b in trainer.eval_loaders["val"].epoch()
            ]
        scheduler.step(sum(n * value for n, value in figures) / sum(n for n, _ in figures))
    result = resumes(built_in, asked, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["lr"] < 0.5
    assert_close(result.model, model)


@pytest.mark.parametrize(
    "optimizer", ["mixed", "averaged", "constant", {"name": "names", "groups": [{"match": "*", "lr": 0.2}]}]
)
def test_state_of_any_form_is_resumed(forms, tmp_path, optimizer):
    resumes(forms, config(optimizer), tmp_path)


def test_an_object_that_has_only_the_methods_trains_and_has_no_rate(forms, tmp_path):
    result = resumes(forms, config("methods"), tmp_path)
    model, _ = plain_loop(forms, config("methods"), lambda model: [torch.optim.SGD(model.parameters(), lr=0.1)])
    assert_close(result.model, model)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert {row["lr"] for row in rows} == {None}


def test_a_rate_that_is_not_there_is_no_fault_of_the_scheduler(forms):
    told = "scheduler 'cosine' cannot change the learning rate of optimizer 'methods'.*hold no lr.*--scheduler constant"
    with pytest.raises(IncompatibleError, match=told):
        compose(resolve(config("methods", "cosine"), forms))


def test_what_lacks_a_method_is_told(forms):
    with pytest.raises(
        PluginError, match=r"optimizer 'few-methods' .* it gives FewMethods without state_dict, load_sta"
    ):
        compose(resolve(config("few-methods"), forms))


def test_state_in_attributes_is_found_and_blamed_on_the_optimizer_alone(forms):
    composed = compose(resolve(config("hidden"), forms))
    assert composed.lost_state == {"optimizer": "optimizer 'hidden' keeps state that is in no state_dict: calls"}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            [{"ndim": 2, "lrr": 1}],
            r"groups\[0\]\.lrr: unknown key \(did you mean 'lr'\?\); valid are lr, momentum",
        ),
        ([{"ndim": 2, "name": "muom"}], r"groups\[0\]\.name: unknown optimizer 'muom' \(did you mean 'muon'\?\)"),
        ([{"ndim": 2, "name": "muon", "lr": "x"}], r"groups\[0\]\.lr: must be a number"),
        ([{"ndim": 2, "name": 3}], r"groups\[0\]\.name: must be the name of a optimizer, got 3"),
        ([{"lr": 0.1}], r"groups\[0\]: needs match, a pattern of parameter names, or ndim"),
        ([{"ndim": 5}], r"groups\[0\]\.ndim: there is no parameter of 5 dimensions that earlier groups have left"),
        ([{"match": "*", "name": "muon"}], "optimizer.groups: leave no parameter to optimizer 'sgd'"),
        (3, "optimizer.groups: must be a list, got 3"),
        (["fc*"], r"optimizer.groups\[0\]: must be a table, got \"fc\*\""),
    ],
)
def test_what_is_wrong_with_a_group_is_told(forms, groups, message):
    with pytest.raises(ConfigError, match=message):
        compose(resolve(config({"name": "sgd", "groups": groups}), forms))


def test_an_option_is_laid_over_those_of_the_section(built_in):
    groups = [{"match": "*.bias", "momentum": 0.5}]
    trainer = compose(resolve(config({"name": "sgd", "momentum": 0.9, "groups": groups}), built_in)).trainer
    assert [group["momentum"] for group in trainer.optimizer.param_groups] == [0.9, 0.5]


def test_an_option_that_no_group_reads_is_refused(forms, site):
    groups = [{"match": "*.bias", "max_norm": 0.5}]
    site.write(
        "clipping.py",
        "import torch\ndef clipping(params, *, lr: float = 0.1, max_norm: float = 1.0):\n"
        "    return torch.optim.SGD(params, lr=lr)\n",
    )
    site.add(
        "ptb-clipping",
        "from ptb import Component, hookimpl\n@hookimpl\ndef ptb_provide_optimizers():\n"
        "    return [Component('clipping', 'clipping:clipping')]\n",
    )
    with pytest.raises(IncompatibleError, match="optimizer 'clipping' reads no max_norm from its parameter groups"):
        compose(resolve(config({"name": "clipping", "groups": groups}), site.registry()))


def test_a_closure_cannot_be_shared(forms):
    with pytest.raises(IncompatibleError, match="optimizer 'sam' evaluates the loss in its step and cannot be one of"):
        compose(resolve(config({"name": "sgd", "groups": [{"ndim": 2, "name": "sam"}]}), forms))


@pytest.mark.parametrize("trainer", [{"eval_every": 0}, {"monitor": "val/accuracy"}])
def test_a_scheduler_that_would_wait_in_vain_is_refused(built_in, trainer):
    told = "scheduler.name: 'plateau' waits for val/loss, and there are no evaluations"
    asked = config("sgd", "plateau", trainer=trainer)
    if "monitor" in trainer:
        compose(resolve(asked, built_in))
        return
    with pytest.raises(ConfigError, match=told):
        compose(resolve(asked, built_in))
