"""Weights do not depend on how many processes make them."""

import importlib.util
import random
import time
from contextlib import suppress

import pytest
import torch
from torch import nn

from ptb import NumericalError

ALIKE = (
    "mlp-sgd",
    "mlp-accumulate",
    "mlp-clip",
    "mlp-weights",
    "mlp-ignored",
    "conv-adam",
    "bag-sgd",
    "bag-accumulate",
)


@pytest.fixture(scope="module")
def script():
    path = __file__.replace("test_training.py", "training_cases.py")
    spec = importlib.util.spec_from_file_location("training_cases", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def apart(one, other):
    """The relative distance of weights."""
    one, other = (torch.cat([each.flatten().double() for each in weights.values()]) for weights in (one, other))
    return float((one - other).norm() / one.norm())


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.reliability)])
def test_weights_are_those_of_one_process(script, in_ranks, name, processes):
    case = script.CASES[name]
    for steps in (1, 12):
        alone = script.trained(case, steps, None, None)
        together = in_ranks(processes, lambda world, steps=steps: script.trained(case, steps, world, None))
        assert all(same(each, together[0]) for each in together)
        in_pieces = script.trained(case, steps, None, None, in_pieces=processes)
        assert apart(alone, together[0]) <= max(1e-5 if steps == 1 else 1e-6, 3 * apart(alone, in_pieces))
        assert apart(alone, script.trained(case, steps + 1, None, None)) > 1e-4  # and they move


@pytest.mark.reliability
@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("processes", [2, 4])
def test_weights_are_those_of_one_process_after_a_hundred_steps(script, in_ranks, name, processes):
    case = script.CASES[name]
    alone = script.trained(case, 100, None, None)
    (first, *_) = in_ranks(processes, lambda world: script.trained(case, 100, world, None))
    assert apart(alone, first) <= 3 * apart(alone, script.trained(case, 100, None, None, in_pieces=processes)) + 1e-9


SHARDED = ("mlp-adam", "mlp-accumulate-weights", "bag-accumulate", "batch-norm", "lbfgs", "bf16")


@pytest.mark.parametrize("name", SHARDED)
@pytest.mark.parametrize("processes", [2, 4])
def test_shards_give_the_same_bits_in_any_number_of_processes(script, in_ranks, name, processes):
    case = script.CASES[name]
    alone = script.trained(case, 4, None, 4)
    together = in_ranks(processes, lambda world: script.trained(case, 4, world, 4))
    assert all(same(alone, each) for each in together)


def test_batches_in_shards_are_nearly_whole_batches(script):
    case = script.CASES["mlp-weights"]
    assert 0 < apart(script.trained(case, 1, None, None), script.trained(case, 1, None, 4)) < 1e-6


def test_processes_do_as_threads_do_and_their_random_numbers_too(script, cases, launched, tmp_path):
    assert launched(cases, 2, tmp_path / "two.pt", 3, "mlp-sgd", "dropout", "batch-norm") == 0
    found = torch.load(tmp_path / "two.pt")
    for name in ("mlp-sgd", "dropout", "batch-norm"):
        assert same(found[name, 9, 4], script.trained(script.CASES[name], 9, None, 4))
    assert apart(found["mlp-sgd", 3, None], script.trained(script.CASES["mlp-sgd"], 3, None, None)) < 1e-6
    assert apart(found["dropout", 3, None], script.trained(script.CASES["dropout"], 3, None, None)) > 1e-4


def test_a_step_that_has_failed_is_not_taken_again_by_one_process(script):
    class Again:
        def around_step(self, trainer, step):
            with suppress(ValueError):
                step()
            step()

    class Fails(nn.Module):
        def forward(self, inputs):
            raise ValueError("no memory")

    case = {
        "model": lambda: nn.Sequential(script.mlp(), Fails()),
        "optimizer": script.sgd,
        "actors": {"again": Again()},
    }
    with pytest.raises(RuntimeError, match="cannot be taken again"):
        script.trained(case, 1, None, 4)


def test_weights_that_drift_apart_are_not_saved(script, in_ranks):
    class Moves:
        def on_step_end(self, trainer, output):
            if trainer.objective.processes.rank == 1:
                with torch.no_grad():
                    trainer.model[3].weight[0, 0] += 1e-6

    case = script.CASES["mlp-sgd"] | {"actors": {"moves": Moves()}}
    message = r"the weights of rank 1 are not those of rank 0 after step 2, first in 3\.weight: callbacks\.moves"
    with pytest.raises(NumericalError, match=message):
        in_ranks(2, lambda world: script.trained(case, 2, world, None))


@pytest.mark.reliability
@pytest.mark.parametrize("number", range(100))
def test_delays_change_nothing(script, in_ranks, world_of_threads, monkeypatch, number):
    chance = random.Random(number)
    gather = world_of_threads.gather

    def late(self, thing):
        time.sleep(chance.random() * 0.05)
        return gather(self, thing)

    alone = script.trained(script.CASES["batch-norm"], 5, None, 4)
    monkeypatch.setattr(world_of_threads, "gather", late)
    together = in_ranks(2, lambda world: script.trained(script.CASES["batch-norm"], 5, world, 4))
    assert all(same(alone, each) for each in together)


def test_an_actor_stops_all_processes_at_once_and_a_signal_of_one_after_the_next_step(script, in_ranks):
    class Stops:
        def __init__(self, asks):
            self.asks = asks

        def on_step_end(self, trainer, output):
            self.asks(trainer)
            self.step = trainer.state.step

    def stopped(asks):
        def run(world):
            actor = Stops(asks)
            script.trained(script.CASES["mlp-sgd"] | {"actors": {"stops": actor}}, 20, world, None)
            return actor.step

        return in_ranks(2, run)

    def actor(trainer):
        trainer.state.should_stop = trainer.state.step == 3

    def signal_of_one(trainer):
        if trainer.state.step == 3 and trainer.objective.processes.rank == 1:
            trainer.state.stop_signal = 15

    assert stopped(actor) == [3, 3]
    assert stopped(signal_of_one) == [4, 4]
