"""Evaluations change nothing, and what they say chooses the best step and the end."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ptb.training.evaluation import evaluate, evaluate_row, fresh, is_due, update_best


class Rude(nn.Module):
    """Draws random numbers, counts, and moves buffers and attributes whenever it is called; all of them matter."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.register_buffer("replaced", torch.zeros(2))
        self.calls, self.history, self.table = 0, [], {"tensor": torch.zeros(1)}
        self.shared = self.history
        self.generators = [torch.Generator(), random.Random(1), np.random.default_rng(1)]
        self.own, self.python, self.numpy = self.generators

    def forward(self, inputs):
        self.calls += 1
        self.seen += 1
        self.replaced = self.replaced + 1
        self.history.append(1)
        self.table["tensor"] += 1
        self.table["new"] = self.added = torch.ones(1)
        self.last = inputs.mean() * self.layers[0].weight.mean()  # inside a graph
        noise = torch.rand(1) + torch.rand(1, generator=self.own) + random.random() + np.random.rand()
        noise += self.python.random() + self.numpy.random()
        state = self.seen + self.calls + self.replaced.sum() + len(self.shared) + self.table["tensor"]
        return self.layers(inputs) * (1 + 0.01 * state + 0.1 * noise)


class Counts(nn.Module):
    """A loss with a state."""

    def __init__(self):
        super().__init__()
        self.register_buffer("center", torch.zeros(2))
        self.calls = [0]

    def forward(self, scores, targets):
        self.calls[0] += 1
        with torch.no_grad():
            self.center += scores.mean(0)
        return nn.functional.cross_entropy(scores + 0.1 * self.center, targets) * (1 + 0.1 * self.calls[0])


class Function:
    """The same without torch's module."""

    def __init__(self):
        self.calls = [0]

    def __call__(self, scores, targets):
        self.calls[0] += 1
        return nn.functional.cross_entropy(scores, targets) * (1 + 0.1 * self.calls[0])


CADENCES = [{}, {"eval_every": 3}, {"eval_steps": 1}, {"eval_every": 0, "eval_steps": 2}, {"checkpoint_every": 1}]


@pytest.mark.parametrize(
    ("loss", "cadence"), [(Function, {"eval_steps": 1}), *((Counts, cadence) for cadence in CADENCES)], ids=str
)
def test_neither_evaluation_nor_saving_changes_the_weights(build, cadence, loss):
    plain = build(Rude, loss=loss(), splits=(), size=12, epochs=3)
    plain.fit()
    other = build(Rude, loss=loss(), size=12, epochs=3, **cadence)
    other.fit()
    assert other.model.calls == plain.model.calls == len(other.model.history) == 9
    assert other.model.shared is other.model.history
    assert other.objective.loss.calls == [9]
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


def test_an_evaluation_that_fails_changes_nothing_either(build):
    trainer = build(Rude, loss=Counts())
    buffers = {name: each.clone() for name, each in trainer.model.named_buffers()}
    shares = iter([1, 1, 0])
    trainer.eval_loaders["val"].transform = lambda inputs: inputs * (1 / next(shares))
    with pytest.raises(ZeroDivisionError):
        trainer.evaluate("val")
    assert trainer.model.training
    assert not hasattr(trainer.model, "last")
    assert trainer.model.table == {"tensor": torch.zeros(1)}
    assert all(torch.equal(each, buffers[name]) for name, each in trainer.model.named_buffers())


def test_modes_of_modules_are_put_back_one_by_one(build):
    trainer = build(Rude)
    trainer.model.layers[1].eval()
    trainer.evaluate("val")
    assert [module.training for module in trainer.model.modules()] == [True, True, True, False, True, True]


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_the_mean_weighs_each_sample_alike(build, batch_size):
    trainer = build(batch_size=batch_size)
    inputs, targets, _ = trainer.eval_loaders["val"].first_batch(10)
    wanted = trainer.objective.loss(trainer.model(inputs), targets).item()
    assert trainer.evaluate("val")["loss"] == pytest.approx(wanted, rel=1e-6)


class Accuracy:
    def __init__(self):
        self.reset()

    def reset(self):
        self.right, self.count = 0, 0

    def update(self, scores, targets):
        self.right, self.count = self.right + int((scores.argmax(1) == targets).sum()), self.count + len(targets)

    def compute(self):
        return {"score": self.right / self.count, "wrong": 1 - self.right / self.count}


def test_an_evaluation_does_not_depend_on_those_before_it(build):
    class Forgets(Accuracy):
        def reset(self):  # does not do its work
            self.right, self.count = getattr(self, "right", 0), getattr(self, "count", 0)

    trainer = build(metrics=lambda: {"accuracy": Forgets()})
    assert trainer.evaluate("val") == trainer.evaluate("val")
    assert trainer.eval_metrics["accuracy"].count == 0
    uncopied = Accuracy()
    uncopied.held = (number for number in range(3))
    assert fresh({"accuracy": uncopied}) == {"accuracy": uncopied}


@pytest.mark.parametrize(("figure", "better"), [("accuracy/score", "higher"), ("accuracy/wrong", "lower")])
def test_best_and_patience_by_accuracy_are_those_of_plain_pytorch(build, figure, better):
    options = {
        "optimizer": lambda parameters: torch.optim.SGD(parameters, 1.0),
        "metrics": lambda: {"accuracy": Accuracy()},
        "size": 40,
    }
    ours = build(epochs=30, patience=4, monitor=f"val/{figure}", better=better, **options)
    ours.fit()
    twin = build(**options)
    model, best, best_epoch, weights, epoch = twin.model, -1.0, 0, None, 0
    while epoch - best_epoch < 4:
        epoch += 1
        for inputs, targets, _ in twin.train_loader.epoch(epoch):
            twin.optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            twin.optimizer.step()
            twin.scheduler.step()
        inputs, targets, _ = twin.eval_loaders["val"].first_batch(40)
        accuracy = (model(inputs).argmax(1) == targets).double().mean().item()
        if accuracy > best:
            best, best_epoch, weights = accuracy, epoch, model.weight.detach().clone()
    assert 1 < best_epoch < epoch < 30
    assert (ours.state.epoch, ours.state.stopped_early) == (epoch, True)
    assert ours.state.best_step == ours.state.labels["best"] == best_epoch * 10
    assert ours.state.best_value == pytest.approx(best if better == "higher" else 1 - best)
    saved = ours.notes.saved[best_epoch * 10]
    assert torch.equal(saved.tensors["model.weight"], weights)
    assert torch.equal(ours.model.weight, model.weight)


def test_patience_counts_every_evaluation_and_acts_at_the_end_of_the_epoch(build):
    trainer = build(better="higher", epochs=50, eval_steps=1, patience=3)  # a falling loss is never better
    trainer.fit()
    assert trainer.state.best_step == 1
    assert (trainer.state.epoch, trainer.state.step, trainer.state.evals_since_best) == (2, 6, 5)
    assert trainer.finished


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("values", "better", "best"),
    [
        ([3, 2, 2, 1, 1], "lower", 3),
        ([1, 2, 2, 0], "higher", 1),
        ([NAN, 2, NAN, 1, NAN], "lower", 3),
        ([NAN, 1, NAN, 2, NAN], "higher", 3),
        ([NAN, NAN], "higher", None),
        ([INF, INF, NAN, 5], "lower", 3),
        ([-INF, NAN, -INF], "higher", 0),
    ],
)
def test_the_first_of_equals_wins_and_nan_never_does(build, values, better, best):
    trainer = build(monitor="val/figure", max_steps=1)
    trainer.fit()
    trainer.requested_labels.clear()
    row = evaluate_row(trainer, 1)
    for step, value in enumerate(values):
        trainer.state.step = step
        update_best(trainer, replace(row, values={"loss": 0.0, "figure": value}), better)
    assert trainer.state.best_step == best
    assert trainer.state.evals_since_best == len(values) - 1 - (-1 if best is None else best)
    assert trainer.requested_labels == ({"best"} if best is not None else set())


def test_a_figure_of_another_split_or_name_is_not_monitored(build):
    trainer = build(monitor="train/loss", epochs=3, eval_steps=1)
    trainer.fit()
    assert trainer.state.best_value == trainer.state.metrics["train/loss"]
    assert trainer.state.best_step == 9
    silent = build(splits=(), patience=1)
    silent.fit()
    assert (silent.state.best_step, silent.state.epoch, silent.state.labels) == (None, 2, {})


def test_the_last_epoch_is_evaluated_unless_no_epoch_is(build):
    for every, evaluated in ((0, []), (1, [1, 2, 3]), (2, [2, 3]), (9, [3])):
        trainer = build(epochs=3, eval_every=every)
        trainer.fit()
        assert [epoch for _, epoch, split, *_ in trainer.notes.rows if split == "val"] == evaluated


def test_what_ends_an_evaluation_is_asked_after_each_batch(build):
    trainer, asked = build(), []
    evaluate(trainer.objective, {}, trainer.eval_loaders["val"], check_stop=lambda: asked.append(0))
    assert len(asked) == 3


def test_is_due():
    assert [number for number in range(7) if is_due(number, 3)] == [0, 3, 6]
    assert not is_due(3, 0)
