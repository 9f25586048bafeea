import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ptb import NonFiniteError
from ptb.data.batch import Batch
from ptb_callbacks.non_finite_report import NonFiniteReport


class Spoil(nn.Module):
    """Makes infinities of the samples whose first value is above a limit."""

    def __init__(self, limit=100.0):
        super().__init__()
        self.limit = limit

    def forward(self, inputs):
        return torch.where(inputs[:, :1] > self.limit, torch.inf, inputs)


def data(bad=(), value=1e6, real=False):
    inputs = torch.randn(37, 4, generator=torch.Generator().manual_seed(0))
    inputs[list(bad), 0] = value
    return inputs, inputs.sum(1, keepdim=True) if real else torch.arange(37) % 2


def report(make, **options):
    """What a training warns of that fails with a number that is not finite."""
    trainer = make(observers={"report": NonFiniteReport()}, **options)
    with pytest.warns(UserWarning, match="^non-finite-report: ") as caught, pytest.raises(NonFiniteError):
        trainer.fit()
    (said,) = [str(each.message) for each in caught]
    assert "\n" not in said
    return said


def net(*layers):
    return lambda: nn.Sequential(*layers, nn.Linear(4, 2))


def test_inputs_that_are_not_finite(make):
    said = report(make, data=data([17], float("nan")), batch_size=37, accumulate=1)
    assert said == "non-finite-report: step 1: the inputs are not finite; in training samples 17"


def test_the_samples_are_found_in_any_batch_of_a_step(make):
    said = report(make, data=data([3, 29], float("inf")), batch_size=10, accumulate=4)
    assert said.startswith("non-finite-report: step 1: the inputs are not finite; in training samples ")
    assert {int(text) for text in said.rpartition("samples ")[2].split(", ")} == {3, 29}


def test_targets_that_are_not_finite(make):
    inputs, targets = data(real=True)
    targets[5] = float("nan")
    options = {"net": lambda: nn.Linear(4, 1), "loss": nn.MSELoss(), "batch_size": 37, "accumulate": 1}
    said = report(make, data=(inputs, targets), **options)
    assert said == "non-finite-report: step 1: the targets are not finite; in training samples 5"


def test_the_first_module_and_its_samples_before_batch_norm_spreads_them(make):
    layers = [nn.Identity(), nn.Sequential(nn.Tanh(), Spoil(0.9), nn.Identity()), nn.BatchNorm1d(4)]
    said = report(make, net=net(*layers), data=data([4, 21]), batch_size=37, accumulate=1)
    assert said.startswith(
        "non-finite-report: step 1: the first output that is not finite is that of 1.1 (Spoil); in training samples "
    )
    spoiled = [number for number, row in enumerate(data([4, 21])[0]) if row[0].tanh() > 0.9]
    assert {4, 21} <= set(spoiled)
    assert sorted(map(int, said.rpartition("samples ")[2].split(", "))) == spoiled


def test_many_samples_are_counted(make):
    said = report(make, net=net(Spoil(-100.0)), batch_size=37, accumulate=1)
    assert said.endswith("and 27 more")


def test_dropout_is_said_to_differ(make):
    said = report(make, net=net(Spoil(), nn.Dropout()), data=data([4]), batch_size=37, accumulate=1)
    assert "is that of 0 (Spoil), with other random numbers than in the step, such as those of dropout; in" in said


def test_what_does_not_happen_again_is_said_too(make):
    class Sometimes(nn.Module):
        def forward(self, inputs):
            self.calls = getattr(self, "calls", 0) + 1
            return inputs / (self.calls - 1) + torch.rand(()) * 0

    said = report(make, net=net(Sometimes()), batch_size=37, accumulate=1)
    assert "the loss is nan; the outputs of all modules are finite, with other random numbers than in the step" in said


def test_a_loss_of_finite_scores(make):
    class Bad(nn.CrossEntropyLoss):
        def forward(self, scores, targets):
            return super().forward(scores, targets) / 0

    said = report(make, loss=Bad(), net=net())
    assert said.startswith(
        "non-finite-report: step 1: the loss is inf; the outputs of all modules are finite; the step had training "
    )


def test_gradients_of_a_finite_loss(make):
    class Root(nn.Module):
        def forward(self, inputs):
            return (inputs * 0).abs().sqrt()

    said = report(make, net=lambda: nn.Sequential(nn.Linear(4, 4), Root(), nn.Linear(4, 2)))
    assert "the first gradient that is not finite is that of 0.bias; the outputs of all modules are finite; the" in said


def test_gradients_whose_norm_is_too_large(make):
    class Steep(nn.Module):
        def forward(self, inputs):
            return inputs + (inputs - inputs.detach()) * 1e30

    said = report(make, net=lambda: nn.Sequential(nn.Linear(4, 2), Steep()), clip_norm=1.0)
    assert "each gradient is finite, their norm is not; the outputs of all modules are finite; the step had" in said


def test_weights_that_were_lost_before(make):
    class Lose:
        @torch.no_grad()
        def on_step_end(self, trainer, output):
            trainer.model[0].weight[0, 0] = float("inf")

    said = report(make, actors={"lose": Lose()})
    assert said.startswith(
        "non-finite-report: step 2: parameters were not finite before it already: 0.weight; the step had"
    )


def test_a_model_that_cannot_be_copied(make):
    class Locked(nn.Linear):
        def __init__(self):
            super().__init__(4, 2)
            self.lock = threading.Lock()

        def forward(self, inputs):
            return super().forward(inputs) / 0

    said = report(make, net=Locked)
    assert "the loss is nan; the model cannot be copied, so its modules were not looked at; the step had" in said


def test_other_errors_are_none_of_its_business(make):
    class Fail:
        def on_step_end(self, trainer, output):
            raise ZeroDivisionError

    trainer = make(observers={"report": NonFiniteReport()}, actors={"fail": Fail()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError):
            trainer.fit()
    assert trainer.calls.now == "callbacks.fail"


def failed(batches, model, precision="fp32"):
    """What is said of a step without a training around it."""
    error = NonFiniteError("it")
    error.loss, error.parameters, error.micro_batches = float("nan"), (), batches
    error.sample_indices = torch.arange(sum(len(targets) for _, targets, _ in batches)) + 100
    settings, state = SimpleNamespace(precision=precision), SimpleNamespace(step=6)
    trainer = SimpleNamespace(model=model, settings=settings, state=state, device=torch.device("cpu"))
    with pytest.warns(UserWarning, match="^non-finite-report: ") as caught:
        NonFiniteReport().on_exception(trainer, error)
    return str(caught[0].message).removeprefix("non-finite-report: step 7: ")


def test_it_computes_in_the_precision_of_the_run():
    model = nn.Linear(4, 2)
    batch = Batch(torch.full((3, 4), 60000.0), torch.zeros(3))
    with torch.no_grad():
        model.weight.fill_(1.0)
    assert failed([batch], model).startswith("the loss is nan; the outputs of all modules are finite")
    assert failed([batch], model, "fp16") == (
        "the first output that is not finite is that of the model (Linear); in training samples 100, 101, 102"
    )


def test_both_halves_of_a_pair_count():
    inputs = torch.zeros(3, 2, 4)
    inputs[1, 1, 0] = 1e6
    model = nn.Sequential(nn.Flatten(), Spoil(), nn.Linear(4, 2))
    said = failed([Batch(inputs, torch.ones(3))], model)
    assert said == "the first output that is not finite is that of 1 (Spoil); in training samples 101"


def test_outputs_that_are_no_tensors_are_looked_into():
    class Two(nn.Module):
        def forward(self, inputs):
            return {"a": inputs, "b": [inputs / 0]}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = Two()

        def forward(self, inputs):
            return self.two(inputs)["a"]

    assert failed([Batch(torch.ones(2, 4), torch.ones(2))], Model()).startswith(
        "the first output that is not finite is that of two"
    )


def test_a_pass_that_fails_is_said():
    said = failed([Batch(torch.ones(2, 3), torch.ones(2))], nn.Linear(4, 2))
    assert said.startswith(
        "the loss is nan; the outputs of all modules are finite up to where the forward pass failed (Ru"
    )


def test_what_was_seen_before_a_pass_fails_counts():
    model = nn.Sequential(Spoil(0.5), nn.Linear(7, 2))
    said = failed([Batch(torch.ones(2, 4), torch.ones(2))], model)
    assert said.startswith(
        "the first output that is not finite is that of 0 (Spoil) up to where the forward pass failed"
    )
    assert said.endswith("in training samples 100, 101")
