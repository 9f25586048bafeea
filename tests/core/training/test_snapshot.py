"""The state of a training as plain values, there and back."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

from ptb.storage.codec import decode, encode
from ptb.training.snapshot import restore_snapshot, take_snapshot


def adam(parameters):
    return torch.optim.Adam(parameters, 0.01)


class Zeros:
    """Evaluates other weights than those that are trained."""

    @contextmanager
    def evaluation_weights(self, trainer):
        kept = trainer.model.weight.detach().clone()
        with torch.no_grad():
            trainer.model.weight.zero_()
        yield
        with torch.no_grad():
            trainer.model.weight.copy_(kept)


def test_what_it_holds(build):
    trainer = build(optimizer=adam)
    trainer.fit(stop_after=2)
    snapshot = take_snapshot(trainer)
    assert set(snapshot) == {
        *("train_state", "model", "training_weights", "loss", "optimizer", "scheduler", "scaler", "train_metrics"),
        *("callbacks", "random", "frozen"),
    }
    assert list(snapshot["model"]) == ["weight", "bias"]
    assert snapshot["training_weights"] is None
    assert snapshot["train_state"]["step"] == 2
    assert set(snapshot["random"]) == {"python", "numpy", "torch"}


def test_the_weights_that_are_evaluated_are_saved_and_those_that_are_trained_lie_beside_them(build, resumed):
    trainer = build(actors={"zeros": Zeros()})
    trainer.fit(stop_after=2)
    snapshot = decode(trainer.notes.saved[2])
    assert not snapshot["model"]["weight"].any()
    assert torch.equal(snapshot["training_weights"]["weight"], trainer.model.weight)
    assert trainer.model.weight.any()
    later = resumed(build(actors={"zeros": Zeros()}), trainer.notes.saved[2])
    assert torch.equal(later.model.weight, trainer.model.weight)


class Picky:
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        raise ValueError("it does not fit")


class PickyLoss(Picky, nn.CrossEntropyLoss): ...


class PickyScheduler(Picky, ExponentialLR): ...


class PickyMetric(Picky):
    def reset(self): ...


UNFIT = {
    "model": {"model": lambda: nn.Linear(4, 2)},
    "loss": {"loss": PickyLoss()},
    "optimizer": {"optimizer": lambda p: torch.optim.SGD([{"params": [each]} for each in p], 0.1)},
    "scheduler": {"scheduler": lambda optimizer: PickyScheduler(optimizer, 0.9)},
    "callbacks.one": {"actors": {"one": Picky()}},
    "metrics.one": {"metrics": lambda: {"one": PickyMetric()}},
}


@pytest.mark.parametrize("section", UNFIT)
def test_it_says_whose_state_does_not_fit(build, section):
    trainer = build(**UNFIT[section])
    snapshot = take_snapshot(build()) | {"callbacks": {"one": {}}}
    snapshot["train_metrics"]["metrics"] = {"one": {}}
    with pytest.raises(Exception, match=r"not fit|size mismatch|different number"):
        restore_snapshot(trainer, snapshot)
    assert trainer.calls.now == section


def test_a_place_that_the_epoch_does_not_have_is_refused(build):
    trainer = build()
    snapshot = take_snapshot(trainer)
    snapshot["train_state"] |= {"epoch_step": 4}
    with pytest.raises(ValueError, match="4 steps of an epoch that has 3"):
        restore_snapshot(trainer, snapshot)
    assert trainer.calls.now == ""


@pytest.mark.parametrize("section", ["model", "loss", "optimizer", "scheduler", "callbacks.one", "metrics.one"])
def test_a_component_whose_state_cannot_be_had_is_blamed(build, section):
    def fails(*_, **__):
        raise ValueError("none")

    class Stateful:
        state_dict = load_state_dict = fails

        def reset(self): ...

    trainer = build(actors={"one": Stateful()}, metrics=lambda: {"one": Stateful()}, loss=nn.CrossEntropyLoss())
    parts = {
        "loss": trainer.objective.loss,
        **{name: getattr(trainer, name) for name in ("model", "optimizer", "scheduler")},
    }
    if section in parts:
        parts[section].state_dict = fails
    elif section == "metrics.one":
        trainer.callbacks.actors.clear()
    with pytest.raises(ValueError, match="none"):
        take_snapshot(trainer)
    assert trainer.calls.now == section


def test_every_value_of_an_optimizer_keeps_its_type(build):
    class Own(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    state = self.state[parameter]
                    state["double"] = state.get("double", torch.zeros(2, dtype=torch.float64)) + 0.1
                    state["count"] = state.get("count", torch.tensor(0)) + 1
            super().step()

    trainer, later = (build(optimizer=lambda parameters: Own(parameters, 0.1, momentum=0.9)) for _ in range(2))
    trainer.fit(stop_after=2)
    restore_snapshot(later, decode(trainer.notes.saved[2]))
    state, other = (each.optimizer.state[each.model.weight] for each in (trainer, later))
    for name in state:
        assert state[name].dtype == other[name].dtype, name
        assert torch.equal(state[name], other[name]), name


def test_an_optimizer_with_a_way_of_its_own_loads_its_state_itself(build):
    class Own(torch.optim.SGD):
        def load_state_dict(self, state):
            self.loaded = state

    trainer = build(optimizer=lambda parameters: Own(parameters, 0.1))
    snapshot = take_snapshot(trainer)
    restore_snapshot(trainer, snapshot)
    assert trainer.optimizer.loaded["param_groups"] == snapshot["optimizer"]["param_groups"]


def test_a_callback_of_which_the_snapshot_knows_nothing_keeps_its_state(build):
    class Counts:
        def __init__(self):
            self.count = 3

    trainer = build(actors={"old": Counts()})
    snapshot = take_snapshot(trainer)
    trainer.callbacks.actors["old"].count = 4
    later = build(actors={"old": Counts()}, observers={"new": Counts()})
    later.callbacks.actors["old"].count = 7
    later.callbacks.observers.components["new"].count = 5
    restore_snapshot(later, snapshot)
    assert {label: each.count for label, each in later.callbacks.components().items()} == {"old": 3, "new": 5}


def test_global_generators_go_on_where_they_were(build):
    trainer = build()
    snapshot = decode(encode(take_snapshot(trainer)))
    numbers = torch.rand(3)
    torch.manual_seed(5)
    restore_snapshot(trainer, snapshot)
    assert torch.equal(torch.rand(3), numbers)
