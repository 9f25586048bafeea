"""Unusual components that train and resume right: the kit finds no fault in them, for the core finds none."""

import collections
import random
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import IterableDataset, StackDataset, TensorDataset

import ptb
from ptb import Component, DataBundle, DataSpec, InputSpec, hookimpl
from ptb_testing.checks.dataset import seen
from ptb_testing.kit import cases_of, report_of
from ptb_testing.subject import Subject


class Sgd(torch.optim.Optimizer):
    """What the others are made of."""

    def __init__(self, params: Any, *, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    def rate(self, group: dict[str, Any], state: dict[str, Any]) -> float:
        return float(group["lr"])

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=self.rate(group, self.state[parameter]))


class Remembering(Sgd):
    """A deque, a dtype and infinity in its state."""

    def rate(self, group, state):
        state.setdefault("steps", collections.deque(maxlen=3)).append(1)
        state["dtype"], state["bound"] = torch.float32, float("inf")
        return group["lr"] / len(state["steps"])


class Drawing(Sgd):
    def rate(self, group, state):
        return group["lr"] * (1 + 0.1 * float(torch.rand(())) + 0.1 * random.random())


class WithoutRate(Sgd):
    def __init__(self, params):
        super().__init__(params)
        for group in self.param_groups:
            del group["lr"]

    def rate(self, group, state):
        return 0.01


class WarmUp(Sgd):
    """Its learning rate has an effect from the third step on."""

    def rate(self, group, state):
        state["step"] = state.get("step", 0) + 1
        return group["lr"] if state["step"] > 2 else 1e-3


class Pinball(nn.Module):
    """More scores than targets."""

    def __init__(self, spec):
        super().__init__()
        self.output_size, self.width = 2 * spec.target_size, spec.target_size

    def predictions(self, scores):
        return scores[:, : self.width]

    def forward(self, scores, targets):
        return F.mse_loss(scores[:, : self.width], targets) + F.l1_loss(scores[:, self.width :], targets)


class Weighing(nn.Module):
    """A parameter of its own."""

    def __init__(self, spec):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(1))

    def forward(self, scores, targets):
        return (F.mse_loss(scores, targets, reduction="none") * (-self.log_variance).exp() + self.log_variance).mean()


class Coupling(nn.Module):
    """Pairs of a batch."""

    couples_samples = True

    def __init__(self, spec):
        super().__init__()

    def forward(self, scores, targets):
        distances, same = torch.cdist(scores, scores), targets[:, None] == targets
        return torch.where(same, distances, (1 - distances).clamp(min=0)).mean()


class Latent(nn.Module):
    """Returns a dict, with a term for the loss and what a loss with ``outputs`` needs."""

    def __init__(self, spec):
        super().__init__()
        if spec.inputs != "vector":
            raise ValueError("it takes vectors")
        self.linear = nn.Linear(spec.input_size, spec.output_size)

    def forward(self, inputs):
        scores = self.linear(inputs)
        return {"scores": scores, "latent": scores.square(), "loss": 0.1 * scores.square().mean()}


def latent_loss(spec):
    def loss(scores, targets, outputs):
        return F.mse_loss(scores, targets) + outputs["latent"].mean()

    return loss


class TextAndTable(nn.Module):
    """Takes a dict of inputs only."""

    def __init__(self, spec):
        super().__init__()
        if not spec.fields or spec.inputs != "vector":
            raise ValueError("it takes a vector and further inputs")
        self.layers = nn.ModuleList(nn.Linear(form.shape[0], spec.output_size) for form in spec.all_inputs().values())

    def forward(self, inputs):
        return sum(layer(each) for layer, each in zip(self.layers, inputs.values(), strict=True))


class Halving:
    """Halves the learning rate where an evaluation is not better than the one before."""

    def __init__(self, optimizer, total_steps):
        self.optimizer, self.best = optimizer, float("inf")

    def step(self):
        pass

    def on_evaluation(self, metrics, *, monitor, better):
        if metrics[monitor] >= self.best:
            for group in self.optimizer.param_groups:
                group["lr"] *= 0.5
        self.best = min(self.best, metrics[monitor])

    def state_dict(self):
        return {"best": self.best}

    def load_state_dict(self, state):
        self.best = state["best"]


class Errors:
    """A metric of two figures."""

    def __init__(self, spec):
        self.reset()

    def reset(self):
        self.sums, self.count = torch.zeros(2), 0

    def update(self, scores, targets):
        errors = scores - targets
        self.sums = self.sums + torch.stack([errors.abs().sum(), errors.square().sum()])
        self.count += targets.numel()

    def compute(self):
        return {"mae": float(self.sums[0]) / self.count, "mse": float(self.sums[1]) / self.count}


class Counting(IterableDataset):
    def __len__(self):
        return 40

    def __iter__(self):
        return ((torch.full((3,), number / 40), number % 2, 1.0 + number % 3) for number in range(40))


def stream():
    return DataBundle(DataSpec((3,), "vector", "class", 2), Counting())


def padded(batch):
    longest = max(len(tokens) for tokens, _ in batch)
    return (
        torch.stack([F.pad(tokens, (0, longest - len(tokens))) for tokens, _ in batch]),
        torch.stack([F.pad(tokens % 2, (0, longest - len(tokens)), value=-100) for tokens, _ in batch]),
    )


class Sentences(torch.utils.data.Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, place):
        return torch.arange(1, 3 + place % 5), random.random()


def sentences():
    spec = DataSpec((6,), "tokens", "class", 2, vocabulary=9, padding=0, positions=(6,))
    return DataBundle(spec, Sentences(), collate=padded)


def forecast():
    """As many values after the inputs as the spec says, not as many as the inputs have."""
    values = torch.randn(20, 12, 2, generator=torch.Generator().manual_seed(0))
    spec = DataSpec((8, 2), "array", "real", 2, positions=(4,))
    return DataBundle(spec, TensorDataset(values[:, :8], values[:, 8:].movedim(1, 2).contiguous()))


def sequences():
    """Beside each array a number."""
    values = torch.randn(20, 7, 3, generator=torch.Generator().manual_seed(0))
    spec = DataSpec((7, 3), "array", "class", 2, fields={"length": InputSpec(())})
    return DataBundle(spec, StackDataset(StackDataset(inputs=values, length=torch.ones(20)), torch.arange(20) % 2))


def two_inputs_without_targets():
    values = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    spec = DataSpec((6,), "vector", "none", 6, fields={"more": InputSpec((2,), "vector")})
    return DataBundle(spec, StackDataset(inputs=values, more=values[:, :2]))


class Forgetting:
    """Trains, and resumes to other weights without an error: its count is not in its state."""

    def __init__(self, optimizer, total_steps):
        self.optimizer, self.steps = optimizer, 0

    def step(self):
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1 / self.steps

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


DATASETS = (stream, sentences, forecast, sequences, two_inputs_without_targets)


class Ours:
    """The plugin."""

    @hookimpl
    def ptb_provide_optimizers(self):
        targets = ("Remembering", "Drawing", "WithoutRate", "WarmUp")
        return [*(_component(name) for name in targets), Component("muon", "torch.optim:Muon", summary="Good")]

    @hookimpl
    def ptb_provide_losses(self):
        real = [_component(name, accepts=("real",)) for name in ("Pinball", "Weighing", "latent_loss")]
        return [*real, _component("Coupling", accepts=("class",))]

    @hookimpl
    def ptb_provide_models(self):
        return [_component("Latent"), _component("TextAndTable")]

    @hookimpl
    def ptb_provide_schedulers(self):
        return [_component("Halving"), _component("Forgetting")]

    @hookimpl
    def ptb_provide_metrics(self):
        return [_component("Errors", accepts=("real",))]

    @hookimpl
    def ptb_provide_datasets(self):
        return [_component(dataset.__name__) for dataset in DATASETS]


def _component(target, **more):
    return Component(target.lower().replace("_", "-"), f"{__name__}:{target}", summary="Good", **more)


ENTRIES = [
    entry
    for entry in ptb.load_registry(plugins=[Ours()]).components()
    if entry.target.startswith(__name__) or entry.name == "muon"
]
CASES = {case.label: case for case in cases_of(Subject("ours", tuple(ENTRIES)))}


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """No process is started that registers the plugin, which is an object, or builds its data sets."""
    answer = {"seconds": 0.0, "registration": [], "settings": {}, "changes": []}
    monkeypatch.setattr("ptb_testing.checks.common.registered_elsewhere", lambda points, path: answer)
    here = {dataset.__name__: dataset for dataset in DATASETS}
    monkeypatch.setattr(
        "ptb_testing.checks.dataset.seen_elsewhere",
        lambda names, target, settings: seen(here[target.partition(":")[2]]()),
    )


@pytest.mark.parametrize("label", [label for label in CASES if label != "scheduler/forgetting"])
def test_what_the_core_trains_and_resumes_is_green(label):
    report = report_of(CASES[label])
    assert [(result.check, result.message) for result in report.results if result.status == "failed"] == []
    assert report.shortage == ""


def test_an_optimizer_for_matrices_alone_is_tried_beside_another_one():
    (fits,) = (result for result in report_of(CASES["optimizer/muon"]).results if result.check == "fits-a-run")
    assert (fits.status, fits.message) == ("passed", "1 run, such as matrices alone, as optimizer.groups can have it")


def test_what_resumes_to_other_weights_is_red():
    report = report_of(CASES["scheduler/forgetting"])
    failed = {result.check: result.message for result in report.results if result.status == "failed"}
    assert failed.keys() == {"resumes-exactly"}
