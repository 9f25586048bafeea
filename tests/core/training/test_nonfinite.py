import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import ptb
from ptb import RunConfig
from ptb.data.loader import BatchLoader
from ptb.data.sources import place
from ptb.training.nonfinite import Finding, find
from ptb.training.objective import Parts

NAN, INF = math.nan, math.inf
CPU = torch.device("cpu")


def looked(model, inputs, targets=None, loss=None, samples=None, batches=1, **options):
    """What is found on these inputs as the batches of a step."""
    targets = torch.zeros(len(inputs), dtype=torch.int64) if targets is None else targets
    source = place({"train": TensorDataset(inputs, targets)}, CPU)["train"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parts = Parts(
        model=model,
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        train=BatchLoader(source, batch_size=len(inputs)),
        evaluation={},
        train_metrics={},
        eval_metrics={},
        device=CPU,
        **options,
    )
    numbers = torch.arange(len(inputs)) if samples is None else torch.tensor(samples)
    group = list(zip(inputs.chunk(batches), targets.chunk(batches), strict=True))
    return find(parts, group, numbers.chunk(batches), NAN)


class Does(nn.Module):
    """Any function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


def spoil(row, value=NAN):
    """Puts ``value`` where the first number of an input is ``row``."""
    return lambda inputs: torch.where(inputs[:, :1] == row, inputs + value, inputs)


def inputs_of(size=6):
    return torch.arange(size, dtype=torch.float32)[:, None].repeat(1, 3)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_the_first_module_and_the_very_sample_are_named(value):
    model = nn.Sequential(nn.Identity(), Does(spoil(4, value)), nn.Linear(3, 2))
    found = looked(model, inputs_of(), samples=[90, 91, 92, 93, 94, 95])
    assert (found.module, found.samples, found.data, found.again) == ("1 (Does)", (94,), None, True)
    assert found.told(7) == (
        "the loss is nan at step 7: the first output that is not finite is that of 1 (Does) (samples 94)"
    )


def test_samples_are_numbered_over_all_batches_of_the_step():
    model = nn.Sequential(Does(spoil(4)), nn.Linear(3, 2))
    assert looked(model, inputs_of(), batches=3).samples == (4,)


@pytest.mark.parametrize("most", [None, 1, 4])
def test_samples_are_told_apart_where_the_batch_goes_through_in_parts(most):
    model = nn.Sequential(Does(spoil(4)), nn.Linear(3, 2))

    def small(inputs):
        if most is not None and len(inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inputs

    assert looked(nn.Sequential(Does(small), model), inputs_of(), batches=2).samples == (4,)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensor: (tensor, None),
        lambda tensor: [0, {"deep": (tensor,)}],
        lambda tensor: {"scores": tensor},
        lambda tensor: torch.complex(tensor, tensor),
    ],
    ids=["tuple", "nested", "dict", "complex"],
)
def test_outputs_of_any_form_are_looked_at(wrap):
    inner = Does(lambda inputs: wrap(spoil(1)(inputs)))
    outer = Does(lambda inputs: spoil(1)(inputs) + 0 * (inner(inputs) is None))
    outer.inner = inner
    assert looked(nn.Sequential(outer, nn.Linear(3, 2)), inputs_of()).module == "0.inner (Does)"


def test_inputs_that_are_no_numbers_are_told_before_what_batch_norm_makes_of_them():
    inputs = inputs_of()
    inputs[2, 1] = NAN
    found = looked(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), inputs)
    assert (found.data, found.samples) == ("inputs", (2,))
    assert "the inputs are not finite (samples 2)" in found.told(1)


def test_targets_that_are_no_numbers_are_told():
    targets = torch.zeros(6, 2)
    targets[3, 1] = INF
    found = looked(nn.Linear(3, 2), inputs_of(), targets, nn.MSELoss())
    assert (found.data, found.samples, found.module) == ("targets", (3,), None)
    assert "the targets are not finite (samples 3)" in found.told(1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_sample_whose_loss_alone_is_no_number_is_named(reduction):
    def loss(scores, targets):
        each = (scores[:, 0] * 0 + (targets != 4)).log()
        return each if reduction == "none" else getattr(each, reduction)()

    found = looked(nn.Linear(3, 2), inputs_of(), torch.arange(6), loss)
    assert (found.module, found.samples) == (None, (4,))
    assert "the scores of the model are finite, their loss is not (samples 4)" in found.told(1)


def test_of_a_loss_that_takes_no_single_sample_all_are_named():
    def loss(scores, targets):
        if len(scores) == 1:
            raise ValueError("one sample")
        return scores.sum() * NAN

    assert looked(nn.Linear(3, 2), inputs_of(), loss=loss).samples == (0, 1, 2, 3, 4, 5)


def test_gradients_alone_name_the_parameters_from_the_last_one():
    model = nn.Sequential(nn.Linear(3, 3), Does(lambda hidden: hidden + (hidden * 0).abs().sqrt()), nn.Linear(3, 2))
    found = looked(model, inputs_of())
    assert (found.module, found.parameters) == (None, ("0.bias", "0.weight"))
    finding = Finding(1.5, found.module, found.parameters, found.samples, found.data, found.again)
    assert finding.told(2) == (
        "the gradients are not finite at step 2: first in that of 0.bias, 0.weight (samples 0, 1, 2, 3, 4, 5)"
    )
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_are_seen_though_the_model_is_compiled():
    model = nn.Sequential(Does(spoil(4)), nn.Linear(3, 2))
    assert looked(model, inputs_of(), compiled=lambda inputs: inputs[:, :2] * NAN).module == "0 (Does)"


def test_what_does_not_happen_again_is_told_as_that():
    found = looked(nn.Linear(3, 2), inputs_of())
    assert not found.again
    assert found.told(1) == "the loss is nan at step 1 (samples 0, 1, 2, 3, 4, 5); tried once more, it was finite"


def test_no_hook_is_left_behind():
    model = nn.Linear(3, 2)
    looked(model, inputs_of())
    with pytest.raises(ZeroDivisionError):
        looked(nn.Sequential(model, Does(lambda _: 1 / 0)), inputs_of())
    assert not model._forward_hooks


OPTIMIZERS = [
    *("asgd", "adadelta", "adagrad", "adam", "adamw", "adamax", "lbfgs", "rmsprop", "rprop", "sgd"),
    *("nadam", "radam", "adafactor", "sparse-adam"),
]


def test_every_built_in_optimizer_is_listed_here(built_in):
    assert {entry.name for entry in built_in.components("optimizer")} == set(OPTIMIZERS)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_there_is_no_false_alarm(built_in, tmp_path, optimizer, precision):
    sparse = optimizer == "sparse-adam"
    tokens = {"inputs": "tokens", "input_shape": [5], "vocabulary": 9, "target": "class", "output_size": 3}
    config = RunConfig(
        model={"name": "embedding-bag", "sparse": True} if sparse else {"name": "mlp", "hidden": [8]},
        dataset={"name": "random", "samples": 60, **tokens} if sparse else {"name": "iris"},
        optimizer={"name": optimizer} | ({"line_search_fn": "strong_wolfe"} if optimizer == "lbfgs" else {}),
        trainer={"epochs": 3, "precision": precision},
    )
    done = ptb.train(config, registry=built_in, output=tmp_path / "run")
    assert SimpleNamespace(**done.summary()).status == "finished"
