import copy

import pytest
import torch
from torch import nn

from ptb.training.blame import Calls
from ptb.training.finite import _advice
from ptb.training.optimizers import CombinedOptimizer, closure_after, evaluation_mode, learning_rates

STEPS = 6


class Sam(torch.optim.SGD):
    """Foret et al., 2021, arXiv:2010.01412: the gradients are those of a point a little up the hill."""

    def __init__(self, params, *, lr=0.1, rho=0.05):
        super().__init__(params, lr=lr, momentum=0.9)
        self.rho = rho

    @torch.no_grad()
    def step(self, closure):
        parameters = [each for group in self.param_groups for each in group["params"]]
        norm = torch.stack([each.grad.norm() for each in parameters]).norm()
        before = [each.clone() for each in parameters]
        for each in parameters:
            each.add_(each.grad, alpha=float(self.rho / norm))
        with torch.enable_grad():
            loss = closure()
        for each, value in zip(parameters, before, strict=True):
            each.copy_(value)
        super().step()
        return loss


class Averaging(torch.optim.SGD):
    """Trains with other weights than it evaluates, as schedule-free methods do."""

    def __init__(self, params, *, lr=0.1):
        super().__init__(params, lr=lr)
        self.training = False

    def step(self, closure=None):
        assert self.training
        super().step(closure)
        for group in self.param_groups:
            for each in group["params"]:
                mean = self.state[each].setdefault("mean", each.detach().clone())
                mean.lerp_(each.detach(), 0.3)

    @torch.no_grad()
    def eval(self):
        self._exchange(training=False)

    @torch.no_grad()
    def train(self):
        self._exchange(training=True)

    def _exchange(self, training):
        if training == self.training:
            return
        self.training = training
        for group in self.param_groups:
            group["evaluates"] = not training
            for each in group["params"]:
                if "mean" in self.state[each]:
                    each.lerp_(self.state[each]["mean"], 0.7)
                    self.state[each]["mean"].mul_(1.1)


class Foreign:
    """Only has the methods, and neither groups nor a learning rate."""

    def __init__(self, params):
        self.params, self.steps = list(params), 0

    def step(self):
        self.steps += 1
        for each in self.params:
            each.data -= 0.1 / self.steps * each.grad

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def foreign(parameters):
    parameters = [*parameters]
    return CombinedOptimizer({"optimizer": Foreign(parameters)}, {"optimizer": parameters}, Calls())


def averaging(parameters):
    optimizer = Averaging(parameters)
    optimizer.train()
    return optimizer


def two(parameters):
    weight, bias = parameters
    optimizers = {"optimizer": torch.optim.Adam([weight], lr=0.1), "optimizer.groups[0]": Averaging([bias])}
    optimizers["optimizer.groups[0]"].train()
    return CombinedOptimizer(optimizers, {section: [] for section in optimizers}, Calls())


def without_scheduler(optimizer):
    class Nothing:
        def step(self):
            pass

    return Nothing()


FORMS = {
    "sam": {"optimizer": Sam, "closure": True},
    "averaging": {"optimizer": averaging},
    "foreign": {"optimizer": foreign, "scheduler": without_scheduler},
    "two": {"optimizer": two},
}


class Counted(nn.Linear):
    calls = 0

    def forward(self, inputs):
        self.calls += self.training
        return super().forward(inputs)


def closure_of(optimizer, model, batch):
    def closure():
        optimizer.zero_grad()
        value = nn.CrossEntropyLoss()(model(batch.inputs), batch.targets)
        value.backward()
        return value

    return closure


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_takes_the_steps_of_a_plain_loop_with_as_many_forward_passes(build, search):
    def lbfgs(parameters):
        return torch.optim.LBFGS(parameters, lr=0.5, max_iter=4, line_search_fn=search)

    trainer = build(lambda: Counted(3, 2), optimizer=lbfgs, closure=True, scheduler=without_scheduler)
    model = copy.deepcopy(trainer.model)
    optimizer = lbfgs(model.parameters())
    for batch in [batch for epoch in (1, 2) for batch in trainer.train_loader.epoch(epoch)]:
        optimizer.step(closure_of(optimizer, model, batch))
    trainer.fit()
    assert torch.equal(trainer.model.weight, model.weight)
    assert trainer.model.calls == model.calls > 0


def test_sam_takes_the_steps_of_a_plain_loop(build):
    trainer = build(optimizer=Sam, closure=True, scheduler=without_scheduler)
    model = copy.deepcopy(trainer.model)
    optimizer = Sam(model.parameters())
    for batch in [batch for epoch in (1, 2) for batch in trainer.train_loader.epoch(epoch)]:
        closure = closure_of(optimizer, model, batch)
        closure()
        optimizer.step(closure)
    trainer.fit()
    assert torch.equal(trainer.model.weight, model.weight)
    assert not torch.equal(trainer.model.weight, build().model.weight)


@pytest.mark.parametrize("form", FORMS)
def test_it_resumes_to_the_same_bits_from_every_step(build, resumed, state_of, form):
    whole = build(**FORMS[form])
    whole.fit()
    for stop in range(STEPS):
        first = build(**FORMS[form])
        first.fit(stop_after=stop) if stop else first.callbacks.on_fit_start(first)
        second = resumed(build(**FORMS[form]), first.notes.saved[stop], first.notes.rows)
        second.fit()
        assert state_of(second) == state_of(whole)
        assert second.notes.rows == whole.notes.rows


@pytest.mark.parametrize("form", ["averaging", "two"])
def test_weights_of_an_evaluation_are_those_of_the_mode_and_change_nothing(build, state_of, form):
    trainer, blind = build(**FORMS[form]), build(**FORMS[form], eval_every=0)
    trainer.fit()
    blind.fit()
    assert torch.equal(trainer.model.bias, blind.model.bias)
    before = state_of(trainer)
    with evaluation_mode(trainer.optimizer):
        evaluated = trainer.model.bias.detach().clone()
    assert not torch.equal(evaluated, trainer.model.bias)
    assert state_of(trainer) == before
    saved = {name: value for name, value in before.items() if name.endswith("bias")}
    assert saved["model.bias"][1] == evaluated.tolist()
    assert saved["training_weights.bias"][1] == trainer.model.bias.tolist()
    assert trainer.evaluate("val") == blind.evaluate("val")


def test_what_eval_raises_leaves_the_training_as_it_was(build, state_of, monkeypatch):
    trainer = build(optimizer=averaging)
    trainer.fit()
    before = state_of(trainer)

    def fails(self):
        with torch.no_grad():
            self._exchange(training=False)
        raise RuntimeError("no")

    with monkeypatch.context() as patched:
        patched.setattr(Averaging, "eval", fails)
        with pytest.raises(RuntimeError, match="no"), evaluation_mode(trainer.optimizer):
            pass
    assert state_of(trainer) == before


def test_an_optimizer_without_learning_rate_has_none_in_its_rows(build):
    trainer = build(optimizer=foreign, scheduler=without_scheduler)
    trainer.fit()
    assert {row[-1] for row in trainer.notes.rows} == {None}
    assert trainer.state.lr is None
    assert learning_rates(trainer.optimizer) == []
    assert _advice(None).startswith("try trainer.clip_norm=1")


def test_the_groups_of_several_are_the_groups_of_each(build):
    trainer = build(optimizer=two)
    assert [len(group["params"]) for group in trainer.optimizer.param_groups] == [1, 1]
    trainer.fit()
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([0.1 * 0.9**STEPS] * 2)
    assert {*trainer.optimizer.state} == {*trainer.model.parameters()}
    again = copy.deepcopy(trainer.optimizer)
    assert again.param_groups is not trainer.optimizer.param_groups
    assert again.param_groups[0]["lr"] == trainer.optimizer.param_groups[0]["lr"]


def test_gradients_can_be_differentiated_where_that_is_asked(build):
    class Second(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                curvature = torch.autograd.grad([each.grad.sum() for each in group["params"]], group["params"])
                for each, second in zip(group["params"], curvature, strict=True):
                    each.grad = each.grad.detach() + second
            return super().step(closure)

    trainer = build(optimizer=lambda parameters: Second(parameters, lr=0.1))
    trainer.create_graph = True
    trainer.fit()
    assert trainer.state.step == STEPS


@pytest.mark.parametrize("change", ["weight", "gradient", "in place", "nothing"])
def test_the_first_call_of_a_closure_computes_what_is_not_there(change):
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    closure = closure_after(torch.tensor(1.0), lambda: torch.tensor(2.0), [parameter])
    if change == "weight":
        parameter.data.add_(1)
    if change == "gradient":
        parameter.grad = torch.ones(2)
    if change == "in place":
        parameter.grad.mul_(1)
    assert [float(closure()), float(closure())] == [1.0 if change == "nothing" else 2.0, 2.0]
