"""A scheduler that cannot last for the run, or sets what is no learning rate, is refused before training, by name."""

import warnings

import pytest

from conftest import TINY
from ptb import IncompatibleError, RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose

PLUGIN = """
    import torch
    from ptb import Component, hookimpl

    class Own:
        rates = None
        def __init__(self, optimizer, total_steps):
            self.optimizer, self.number = optimizer, 0
        def step(self):
            self.number += 1
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
        def state_dict(self): return {"number": self.number}
        def load_state_dict(self, state): self.number = state["number"]

    class Figure(Own):
        def step(self, loss): ...
    class Ends(Own):
        def rate(self): return [0.1] * 3 + [0.0] if self.number > 100 else [0.1, 0.1, 0.1][self.number]
    class Stops(Own):
        def rate(self): return next(iter([])) if self.number > 2 else 0.1
    class Nothing(Own):
        def rate(self): return None
    class Word(Own):
        def rate(self): return "0.1"
    class Negative(Own):
        def rate(self): return 0.1 - 0.05 * self.number
    class Nan(Own):
        def rate(self): return float("nan") if self.number > 2 else 0.1
    class Falls(Own):  # to below 0 with the last step, which no step uses
        def rate(self): return 0.1 if self.number < 5 else -0.1

    def early(optimizer, total_steps):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total_steps - 1)
    def exact(optimizer, total_steps):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total_steps + 1)
    def plateau(optimizer, total_steps):
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)

    NAMES = ["figure", "ends", "stops", "nothing", "word", "negative", "nan", "falls"]

    @hookimpl
    def ptb_provide_schedulers():
        own = [Component(name, f"own_schedulers:{name.capitalize()}") for name in NAMES]
        return own + [Component(f"own-{name}", f"own_schedulers:{name}") for name in ("early", "exact", "plateau")]
    """


@pytest.fixture
def composed(site):
    def run(scheduler, **sections):
        site.add("tiny", TINY)
        site.add("own-schedulers", PLUGIN)
        config = {"model": {"name": "net"}, "dataset": {"name": "line"}, "optimizer": {"name": "sgd", "lr": 0.01}}
        trainer = {"epochs": 5, **sections.pop("trainer", {})}
        config |= {"scheduler": {"name": scheduler}, "loader": {"batch_size": 12}, "trainer": trainer, **sections}
        return compose(resolve(RunConfig(**config), site.registry()))

    return run


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("figure", r"scheduler 'figure' cannot take a step, which is step\(\) without arguments: TypeError: .*'loss'"),
        ("own-plateau", r"scheduler 'own-plateau' cannot take a step.*'metrics'"),
        ("own-early", r"scheduler 'own-early' cannot take step 5 of 5: ValueError: Tried to step 5 times"),
        ("ends", r"scheduler 'ends' cannot take step 3 of 5: IndexError"),
        ("stops", r"scheduler 'stops' cannot take step 3 of 5: StopIteration"),
        ("nothing", r"scheduler 'nothing' sets the learning rate to None after step 1 of 5; it must be a number"),
        ("word", r"scheduler 'word' sets the learning rate to '0\.1' after step 1"),
        ("negative", r"scheduler 'negative' sets the learning rate to -0\.0\d+ after step 3"),
        ("nan", r"scheduler 'nan' sets the learning rate to nan after step 3"),
    ],
)
def test_it_is_refused_by_its_name(composed, name, message):
    with pytest.raises(IncompatibleError, match=message):
        composed(name)


@pytest.mark.parametrize("name", ["falls", "own-exact"])
def test_what_the_last_step_leaves_behind_is_never_used(composed, name):
    assert composed(name).trainer.state.step == 0


def test_the_walk_leaves_the_schedule_of_the_run_and_the_optimizer_as_they_were(composed):
    composed = composed("one-cycle")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rates = [composed.trainer.optimizer.param_groups[0]["lr"]]
        for _ in range(5):
            composed.trainer.scheduler.step()
            rates.append(composed.trainer.optimizer.param_groups[0]["lr"])
    assert rates[0] < max(rates) > rates[-1]
    assert len(set(rates)) > 3
