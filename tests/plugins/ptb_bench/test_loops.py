import pytest
import torch

from ptb import RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb_bench import loops, measure

RUN = {
    "model": {"name": "linear"},
    "dataset": {"name": "random", "samples": 70},
    "loader": {"batch_size": 32, "shuffle": False},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "scheduler": {"name": "constant"},
    "trainer": {"epochs": 1},
    "device": "cpu",
    "threads": torch.get_num_threads(),  # which the loops take
}


@pytest.fixture
def weights_after(built_in):
    def weights_after(loop, **changes):
        composed = compose(resolve(RunConfig(**RUN | changes), built_in))
        assert loop(composed) > 0
        return composed.trainer.model.state_dict()

    return weights_after


@pytest.mark.parametrize("loop", [loops.pre_cut, loops.train_steps], ids=lambda loop: loop.__name__)
def test_the_floor_takes_the_very_steps_that_ptb_takes(weights_after, loop):
    torch.testing.assert_close(weights_after(loop), weights_after(measure.trained), rtol=0, atol=0)


@pytest.mark.parametrize("loop", [loops.gathered, loops.data_loader], ids=lambda loop: loop.__name__)
def test_the_other_loops_see_every_sample_once(weights_after, loop):
    whole, floor = (weights_after(each, loader={"batch_size": 70}) for each in (loop, loops.pre_cut))
    torch.testing.assert_close(whole, floor, rtol=1e-4, atol=1e-6)
