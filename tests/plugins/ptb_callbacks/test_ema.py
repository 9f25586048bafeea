import copy
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ptb import StepOutput
from ptb.training.callback_list import CallbackList
from ptb.training.snapshot import restore_snapshot, take_snapshot
from ptb_callbacks.ema import Ema


class Beside:
    """PyTorch's own average, of the same training."""

    def __init__(self, **options):
        self.options = options
        self.model = None

    def on_step_end(self, trainer, output):
        self.model = self.model or AveragedModel(trainer.model, **self.options)
        self.model.update_parameters(trainer.model)


@contextmanager
def averaged(trainer):
    with trainer.callbacks.evaluation_weights(trainer):
        yield trainer.model


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def floats(state):
    return {name: value for name, value in state.items() if value.is_floating_point()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_it_is_the_average_of_pytorch_to_the_bit(make):
    beside = Beside(multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    trainer = make(actors={"ema": Ema(decay=0.9, warmup=False), "other": beside})
    trainer.fit()
    trained = copied(trainer.model)
    with averaged(trainer) as model:
        mine = copied(model)
        assert_equal(floats(mine), floats(beside.model.module.state_dict()))
    assert not torch.equal(mine["0.weight"], trained["0.weight"])
    assert not torch.equal(mine["1.running_mean"], trained["1.running_mean"])
    assert mine["1.num_batches_tracked"] == trained["1.num_batches_tracked"] == 16


def test_the_warmup_begins_with_a_short_memory(make):
    def formula(average, weights, updates):
        decay = min(0.5, (1 + float(updates)) / (10 + float(updates)))
        return torch.lerp(average, weights, 1 - decay)

    beside = Beside(avg_fn=formula)
    trainer = make(actors={"ema": Ema(decay=0.5), "other": beside})
    trainer.fit()
    with averaged(trainer) as model:
        for mine, theirs in zip(model.parameters(), beside.model.module.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_training_itself_is_as_without_it(make):
    plain = make()
    plain.fit()
    trainer = make(actors={"ema": Ema()})
    trainer.fit()
    assert_equal(copied(plain.model), copied(trainer.model))


def test_evaluations_take_the_average_and_training_goes_on_with_its_own_weights(make):
    trainer = make(actors={"ema": Ema(decay=0.9)})
    trainer.fit()
    before, pointers = copied(trainer.model), [each.data_ptr() for each in trainer.model.parameters()]
    figures = trainer.evaluate("val")
    assert_equal(copied(trainer.model), before)
    assert [each.data_ptr() for each in trainer.model.parameters()] == pointers
    with averaged(trainer) as model:
        plain = make(net=lambda: copy.deepcopy(model))
    assert figures == plain.evaluate("val")
    assert figures != make(net=lambda: copy.deepcopy(trainer.model)).evaluate("val")


def test_weights_come_back_where_an_evaluation_fails(make):
    trainer = make(actors={"ema": Ema()})
    trainer.fit()
    before = copied(trainer.model)
    with pytest.raises(ZeroDivisionError), averaged(trainer):
        raise ZeroDivisionError
    assert_equal(copied(trainer.model), before)


def test_a_checkpoint_has_both_and_its_model_is_the_average(make):
    trainer = make(actors={"ema": Ema(decay=0.9)})
    trainer.fit()
    snapshot = take_snapshot(trainer)
    with averaged(trainer) as model:
        assert_equal(snapshot["model"], copied(model))
    assert_equal(snapshot["training_weights"], copied(trainer.model))
    assert not torch.equal(snapshot["model"]["0.weight"], snapshot["training_weights"]["0.weight"])


def test_before_the_first_update_there_is_only_one_kind_of_weights(make):
    trainer = make(actors={"ema": Ema(every=3)})
    snapshot = take_snapshot(trainer)
    assert_equal(snapshot["model"], copied(trainer.model))
    trainer.fit(stop_after=2)
    with averaged(trainer) as model:
        assert_equal(copied(model), take_snapshot(trainer)["training_weights"])
    trainer.fit(stop_after=4)
    assert not torch.equal(take_snapshot(trainer)["model"]["0.weight"], trainer.model[0].weight)


@pytest.mark.parametrize("options", [{"every": 3}, {"decay": 0.9, "warmup": False, "buffers": False}])
def test_it_resumes_bit_for_bit_after_every_step(make, assert_resumes, options):
    assert_resumes(lambda: make(actors={"ema": Ema(**options)}, eval_steps=1))


def test_buffers_can_stay_those_of_the_training(make):
    trainer = make(actors={"ema": Ema(buffers=False)})
    trainer.fit()
    with averaged(trainer) as model:
        mine = copied(model)
    assert torch.equal(mine["1.running_mean"], trainer.model[1].running_mean)
    assert not torch.equal(mine["0.weight"], trainer.model[0].weight)


def test_changed_settings_win_over_the_saved_state(make):
    first = make(actors={"ema": Ema()})
    first.fit(stop_after=2)
    second = make(actors={"ema": Ema(decay=0.5, buffers=False)})
    restore_snapshot(second, copy.deepcopy(take_snapshot(first)))
    second.fit()
    with averaged(second) as model:
        assert torch.equal(model[1].running_mean.clone(), take_snapshot(second)["training_weights"]["1.running_mean"])


def test_a_mask_of_infinities_stays_as_it_is(make):
    class Masked(nn.Linear):
        def __init__(self):
            super().__init__(4, 2)
            self.register_buffer("mask", torch.tensor([float("inf"), -1.0]))

        def forward(self, inputs):
            return super().forward(inputs).minimum(self.mask)

    trainer = make(Masked, actors={"ema": Ema()}, observers={})
    trainer.fit()
    with averaged(trainer) as model:
        assert model.mask.tolist() == [float("inf"), -1.0]


def test_steps_that_were_skipped_are_no_steps(make):
    trainer, ema = make(), Ema()
    trainer.callbacks = CallbackList({"ema": ema})
    trainer.fit(stop_after=1)
    ema.on_step_end(trainer, StepOutput(torch.zeros(()), lr=0.1, samples=4, stepped=False))
    assert ema.updates == 1


def test_a_tensor_that_a_forward_pass_puts_elsewhere_is_averaged_too(make):
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(4, 2)
            self.register_buffer("mean", torch.zeros(4))

        def forward(self, inputs):
            if self.training:
                self.mean = self.mean * 0.5 + inputs.mean(0) * 0.5
            return super().forward(inputs - self.mean)

    beside = Beside(multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    trainer = make(Counting, actors={"ema": Ema(decay=0.9, warmup=False), "other": beside}, eval_steps=1)
    trainer.fit()
    with averaged(trainer) as model:
        assert_equal(copied(model), beside.model.module.state_dict())


def test_an_average_is_taken_after_the_actors_before_it(make):
    class Halve:
        @torch.no_grad()
        def on_step_end(self, trainer, output):
            trainer.model[0].weight.mul_(0.5)

    last = []
    for actors in ({"a": Halve(), "ema": Ema(decay=0.5)}, {"ema": Ema(decay=0.5), "z": Halve()}):
        trainer = make(actors=actors)
        trainer.fit(stop_after=1)
        last.append((trainer.model[0].weight.clone(), trainer.callbacks.actors["ema"].averages["0.weight"]))
    assert torch.equal(last[0][0], last[0][1])
    assert torch.equal(last[1][0], last[1][1] * 0.5)
