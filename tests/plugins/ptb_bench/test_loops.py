import pytest
import torch

from ptb import RunConfig
from ptb.runs.compose import compose
from ptb_bench import loops

RUN = {
    "model": {"name": "linear"},
    "dataset": {"name": "random", "samples": 70},
    "loader": {"batch_size": 32, "shuffle": False},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "scheduler": {"name": "constant"},
    "trainer": {"epochs": 1},
    "device": "cpu",
}


def trained(loop, **changes):
    composed = compose(RunConfig(**RUN | changes))
    assert loop(composed) > 0
    return composed


def by_ptb():
    from ptb.training.trainer import Recipe, Training

    class Silent:
        def __getattr__(self, name):
            return lambda *arguments: None

    composed = compose(RunConfig(**RUN))
    Training(composed.parts, Recipe(epochs=1), Silent()).run()
    return composed


@pytest.mark.parametrize("loop", [loops.pre_cut], ids=lambda loop: loop.__name__)
def test_the_floor_takes_the_very_steps_that_ptb_takes(loop):
    ours, other = by_ptb().parts.model, trained(loop).parts.model
    for one, two in zip(ours.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("loop", [loops.gathered, loops.data_loader], ids=lambda loop: loop.__name__)
def test_the_other_loops_see_every_sample_once(loop):
    whole = trained(loop, loader={"batch_size": 70}).parts.model
    floor = trained(loops.pre_cut, loader={"batch_size": 70}).parts.model
    for one, two in zip(whole.parameters(), floor.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
