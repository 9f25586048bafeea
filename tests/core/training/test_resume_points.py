"""A run that is stopped anywhere, and resumed, ends with the same bits as one that was not."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ptb.storage.codec import decode
from ptb.training.snapshot import restore_snapshot, take_snapshot


class Net(nn.Module):
    """Draws random numbers everywhere, has a buffer that grows, and state beside its tensors."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.register_buffer("norms", torch.zeros(0))
        self.calls = 0

    def forward(self, inputs):
        if self.training:
            self.calls += 1
            self.norms = torch.cat([self.norms, inputs.norm().detach()[None]])
        return self.layers(inputs) * (1 + 0.01 * np.random.rand() + 0.001 * self.norms.mean() + 0.01 * self.calls)

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


class Average:
    """An actor with state: the mean of the weights after every step is evaluated and saved."""

    def __init__(self):
        self.steps, self.mean = 0, None

    def on_fit_start(self, trainer):
        torch.rand(3)  # must not move the random numbers of the steps, whenever it is called

    on_epoch_start = on_fit_start

    def on_step_end(self, trainer, output):
        self.steps += 1
        weights = [each.detach() for each in trainer.model.parameters()]
        self.mean = self.mean or [torch.zeros_like(each) for each in weights]
        self.mean = [mean + (each - mean) / self.steps for mean, each in zip(self.mean, weights, strict=True)]

    @contextmanager
    def evaluation_weights(self, trainer):
        parameters = list(trainer.model.parameters())
        kept = [each.data for each in parameters]
        for parameter, mean in zip(parameters, self.mean or kept, strict=True):
            parameter.data = mean.clone()
        yield
        for parameter, data in zip(parameters, kept, strict=True):
            parameter.data = data

    def on_evaluation(self, trainer, split, metrics):
        for group in trainer.optimizer.param_groups:
            group["lr"] *= 0.9


class Plateau(ReduceLROnPlateau):
    """A scheduler that listens to evaluations."""

    def __init__(self, optimizer):
        super().__init__(optimizer, patience=0)

    def step(self, metrics=None):
        if metrics is not None:
            super().step(metrics)

    def on_evaluation(self, metrics, *, monitor, better):
        self.step(metrics[monitor])


class Largest:
    """A metric with plain attributes only."""

    def reset(self):
        self.largest = -1e9

    def update(self, scores, targets):
        self.largest = max(self.largest, float(scores.max()))

    def compute(self):
        return {"score": self.largest, "half": self.largest / 2}


class Observer:
    def __init__(self):
        self.told = []

    def on_step_end(self, trainer, output):
        self.told.append((trainer.state.step, float(output.loss)))

    def on_evaluation(self, trainer, split, metrics):
        self.told.append((trainer.state.step, split, dict(metrics)))


class Spread(torchmetrics.MeanMetric):
    """A metric of torchmetrics, whose ``state_dict`` is empty."""

    def update(self, scores, targets):
        super().update(scores.std())


RUNS = {
    "evaluations inside": {"eval_steps": 2, "accumulate": 2, "batch_size": 2},
    "checkpoints inside": {"checkpoint_every": 2, "eval_steps": 4},
    "rare evaluations": {"eval_every": 2, "checkpoint_every": 100, "epochs": 3},
    "max_steps": {"max_steps": 5, "eval_steps": 2},
    "patience": {"patience": 1, "better": "higher", "epochs": 9, "eval_steps": 2},
    "sgd": {"optimizer": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), "clip_norm": 0.3},
    "plateau": {"scheduler": Plateau, "eval_steps": 2},
    "lbfgs": {
        "optimizer": lambda p: torch.optim.LBFGS(p, 0.1, 3, line_search_fn="strong_wolfe"),
        "closure": True,
        "epochs": 1,
    },
    "fp16": {"autocast": torch.float16, "optimizer": lambda p: torch.optim.SGD(p, 0.01)},
    "without validation": {"splits": (), "eval_steps": 2},
}


def run(build, **options):
    defaults = {"size": 10, "epochs": 2, "optimizer": lambda parameters: torch.optim.Adam(parameters, 0.01)}
    options = defaults | {"metrics": lambda: {"largest": Largest(), "spread": Spread()}} | options
    return build(Net, actors={"average": Average()}, observers={"sees": Observer()}, **options)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_stopped_at_any_step_ends_with_the_same_bits(build, resumed, state_of, name):
    whole = run(build, **RUNS[name])
    whole.fit()
    wanted, rows = state_of(whole), whole.notes.rows
    for stop in range(1, whole.state.step + 1):
        stopped = run(build, **RUNS[name])
        stopped.fit(stop_after=stop)
        saved = stopped.notes.saved[stop]
        later = resumed(run(build, **RUNS[name]), saved, stopped.notes.rows)
        later.fit()
        assert later.finished
        assert state_of(later) == wanted, stop
        assert later.notes.rows == rows, stop


@pytest.mark.parametrize("name", ["evaluations inside", "checkpoints inside"])
def test_a_run_that_is_killed_ends_with_the_same_bits_from_every_checkpoint(build, resumed, state_of, name):
    whole = run(build, **RUNS[name])
    whole.fit()
    wanted, rows = state_of(whole), whole.notes.rows
    for saved in list(whole.notes.saved.values()):
        later = resumed(run(build, **RUNS[name]), saved, rows)
        later.fit()
        assert state_of(later) == wanted
        assert later.notes.rows == rows


@pytest.mark.parametrize("name", ["evaluations inside", "patience", "plateau"])
def test_what_a_stop_inside_an_evaluation_leaves_undone_is_done_once(build, resumed, state_of, name):
    def evaluating(stop_in):
        """A signal comes in the middle of that evaluation."""
        ours = run(build, **RUNS[name])
        seen = []

        def hook(model, arguments):
            if not model.training:
                seen.append(0)
                ours.state.stop_signal = 2 * (len(seen) == stop_in)

        ours.model.register_forward_pre_hook(hook)
        return ours, seen

    whole, seen = evaluating(0)
    whole.fit()
    wanted, rows = state_of(whole), whole.notes.rows
    for stop_in in range(2, len(seen) + 1, len(whole.eval_loaders["val"])):  # its second batch
        stopped, _ = evaluating(stop_in)
        stopped.fit()
        assert not stopped.finished
        saved = max(stopped.notes.saved)
        assert saved == stopped.state.step
        later = resumed(run(build, **RUNS[name]), stopped.notes.saved[saved], stopped.notes.rows)
        later.fit()
        assert state_of(later) == wanted, stop_in
        assert later.notes.rows == rows, stop_in


def test_a_stop_between_every_two_steps_changes_nothing_either(build, resumed, state_of):
    options = RUNS["evaluations inside"] | {"checkpoint_every": 3}
    whole = run(build, **options)
    whole.fit()
    wanted = state_of(whole)
    later = run(build, **options)
    while later.fit(stop_after=later.state.step + 1) and not later.finished:
        saved, rows = later.notes.saved[later.state.step], later.notes.rows
        later = resumed(run(build, **options), saved, rows)
    assert state_of(later) == wanted
    assert later.notes.rows == whole.notes.rows


def test_an_observer_hears_of_every_step_and_evaluation_once(build, resumed):
    whole, stopped = run(build, eval_steps=2), run(build, eval_steps=2)
    whole.fit()
    stopped.fit(stop_after=4)
    later = resumed(run(build, eval_steps=2), stopped.notes.saved[4])
    later.fit()
    for each in (whole, later):
        told = each.callbacks.observers.components["sees"].told
        evaluated = [step for step, what, *_ in told if what == "val"]
        assert evaluated == [2, 3, 4, 6]
        assert [step for step, what, *_ in told if what != "val"] == [*range(1, 7)]


def test_these_tests_can_fail(build, resumed, state_of):
    whole = run(build)
    whole.fit()
    stopped = run(build)
    stopped.fit(stop_after=2)
    state, fresh = decode(stopped.notes.saved[2]), take_snapshot(run(build))
    for changed in (None, "random", "optimizer", "scheduler", "train_metrics", "callbacks"):
        later = run(build)
        restore_snapshot(later, state | ({changed: fresh[changed]} if changed else {}))
        later.fit()
        same = state_of(later) == state_of(whole) and later.notes.rows == whole.notes.rows
        assert same == (changed is None), changed
