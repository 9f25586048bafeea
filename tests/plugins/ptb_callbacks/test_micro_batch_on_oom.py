import warnings

import pytest
import torch
from torch import nn

from ptb import ResourceError
from ptb_callbacks.ema import Ema
from ptb_callbacks.micro_batch_on_oom import MicroBatchOnOom

RAISERS = {
    "device": lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")),
    "host": lambda: torch.empty(1 << 50),  # what torch's own allocator says
    "python": lambda: (_ for _ in ()).throw(MemoryError()),
}


class Limited(nn.Module):
    """Passes on at most so many samples at once, in training."""

    def __init__(self, limit, out_of_memory=RAISERS["host"]):
        super().__init__()
        self.limit = limit
        self.out_of_memory = out_of_memory
        self.sizes = []

    def forward(self, inputs):
        if self.training:
            self.sizes.append(len(inputs))
            if len(inputs) > self.limit:
                self.out_of_memory()
        return inputs


class Recorder:
    """Whoever is around it sees the step as it came."""

    def __init__(self):
        self.sizes = []

    def around_step(self, trainer, step):
        self.sizes.append([len(targets) for _, targets, _ in step.micro_batches])
        step()


def net(limit, *between, out_of_memory=RAISERS["host"]):
    return lambda: nn.Sequential(nn.Linear(4, 8), *between, nn.ReLU(), Limited(limit, out_of_memory), nn.Linear(8, 2))


def dropping(limit):
    """Draws random numbers and moves statistics before memory runs out."""
    return net(limit, nn.BatchNorm1d(8), nn.Dropout(0.5))


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def fitted(trainer, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(**options)
    return [str(each.message) for each in caught]


def callback():
    return {"oom": MicroBatchOnOom()}


@pytest.mark.parametrize("raiser", RAISERS)
def test_it_halves_until_the_step_fits_and_keeps_the_number(make, raiser):
    trainer = make(net(3, out_of_memory=RAISERS[raiser]), actors=callback(), batch_size=10, accumulate=1)
    said = fitted(trainer)
    assert trainer.callbacks.actors["oom"].samples == 3
    assert trainer.model[2].sizes[:6] == [10, 5, 3, 3, 2, 2]
    assert said == [
        f"out of memory on cpu at step 1: from now on at most {samples} samples go through the model at once, and "
        "their gradients are added up"
        for samples in (5, 3)
    ]
    assert max(trainer.model[2].sizes[3:]) == 3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_step_is_that_of_the_whole_batch(make, accumulate):
    plain = make(net(99), accumulate=accumulate, clip_norm=0.5)
    fitted(plain)
    trainer = make(net(2), actors=callback(), accumulate=accumulate, clip_norm=0.5)
    fitted(trainer)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], value)
    assert trainer.state.metrics == pytest.approx(plain.state.metrics)
    assert trainer.state.samples == plain.state.samples


def test_weighted_samples_count_as_in_the_whole_batch(make):
    class Weighted(nn.CrossEntropyLoss):
        def denominator(self, targets):
            return self.weight[targets].sum()

    loss = Weighted(weight=torch.tensor([1.0, 5.0]))
    plain = make(net(99), loss=loss)
    fitted(plain)
    trainer = make(net(2), actors=callback(), loss=loss)
    fitted(trainer)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], value)


def test_a_step_is_taken_again_from_where_it_began(make):
    """The failed try moved statistics and drew random numbers; a training in such pieces from the start did not."""
    trainer = make(dropping(3), actors=callback())
    fitted(trainer)
    actor = MicroBatchOnOom()
    actor.samples = 3
    pieces = make(dropping(3), actors={"oom": actor})
    assert fitted(pieces) == []
    assert all(
        torch.equal(value, trainer.model.state_dict()[name]) for name, value in pieces.model.state_dict().items()
    )
    assert trainer.model[1].num_batches_tracked == 2 * (7 * 2 + 1)  # the last batch of an epoch has two samples


def test_nothing_changes_where_memory_does_not_run_out(make):
    plain = make(dropping(99))
    plain.fit()
    trainer = make(dropping(99), actors=callback())
    assert fitted(trainer) == []
    assert all(torch.equal(value, trainer.model.state_dict()[name]) for name, value in plain.model.state_dict().items())


def test_it_names_the_batch_norms_that_see_smaller_batches(make):
    said = fitted(make(dropping(3), actors=callback()))
    assert len(said) == 1
    assert said[0].endswith("are added up; these batch norms see smaller batches: 1")


def test_it_resumes_bit_for_bit_after_every_step(make, assert_resumes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert_resumes(lambda: make(dropping(3), actors={"ema": Ema(), **callback()}))


def test_actors_around_it_see_the_step_as_it_came(make):
    outer = Recorder()
    trainer = make(net(3), actors={"a": outer, **callback()})
    fitted(trainer, stop_after=2)
    assert outer.sizes == [[5, 5], [5, 5]]


def test_a_single_sample_that_does_not_fit_ends_the_run(make):
    trainer = make(net(0), actors=callback())
    before = copied(trainer.model)
    with pytest.raises(
        ResourceError, match="out of memory on cpu at step 1, with a single sample in the model: "
    ) as error:
        fitted(trainer)
    assert "choose a smaller loader.batch_size, a smaller model" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_batch_norm_cannot_take_a_piece_of_one_sample(make):
    trainer = make(net(1, nn.BatchNorm1d(8)), actors=callback())
    with pytest.raises(ResourceError, match="and batch norm cannot take a piece of one sample"):
        fitted(trainer)


def test_a_loss_that_couples_samples_is_not_split(make):
    class Coupled(nn.CrossEntropyLoss):
        couples_samples = True

    trainer = make(net(3), actors=callback(), loss=Coupled())
    with pytest.raises(ResourceError, match="the loss takes the samples of a batch together"):
        fitted(trainer)


def test_memory_that_runs_out_once_weights_may_have_moved_is_not_tried_again(make):
    class Failing(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            super().step(closure)
            raise torch.OutOfMemoryError("in the optimizer")

    trainer = make(net(99), actors=callback(), optimizer=lambda parameters: Failing(parameters, 0.1))
    with pytest.raises(torch.OutOfMemoryError):
        fitted(trainer)
    assert trainer.calls.now == "optimizer"
    assert trainer.callbacks.actors["oom"].samples is None
    assert not trainer.optimizer._optimizer_step_pre_hooks


def test_a_metric_that_runs_out_of_memory_after_the_step_does_not_repeat_it(make):
    class Greedy:
        def update(self, scores, targets):
            raise torch.OutOfMemoryError("in a metric")

        def compute(self):
            return 0.0

        def reset(self):
            pass

    trainer = make(net(99), actors=callback())
    trainer.train_metrics.metrics["greedy"] = Greedy()
    with pytest.raises(torch.OutOfMemoryError):
        fitted(trainer)
    assert trainer.calls.now == "metrics.greedy"


def test_other_errors_pass(make):
    def fail():
        raise ZeroDivisionError

    trainer = make(net(3, out_of_memory=fail), actors=callback())
    with pytest.raises(ZeroDivisionError):
        fitted(trainer)
    assert trainer.calls.now == "model"


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters, 0.5, max_iter=4, line_search_fn="strong_wolfe")


def test_an_optimizer_that_computes_gradients_itself_can_be_split_at_its_first(make):
    plain = make(net(99), optimizer=lbfgs, batch_size=37, accumulate=1)
    fitted(plain)
    trainer = make(net(20), optimizer=lbfgs, batch_size=37, accumulate=1, actors=callback())
    assert len(fitted(trainer)) == 1
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_but_not_at_later_ones_that_have_moved_the_weights(make):
    class Growing(Limited):
        def forward(self, inputs):
            self.limit = 99 if len(self.sizes) < 2 else 3
            return super().forward(inputs)

    trainer = make(
        lambda: nn.Sequential(nn.Linear(4, 2), Growing(99)),
        optimizer=lbfgs,
        batch_size=37,
        accumulate=1,
        actors=callback(),
    )
    with pytest.raises(RuntimeError, match="CPUAllocator"):
        fitted(trainer)
    assert trainer.calls.now == "model"
    assert trainer.callbacks.actors["oom"].samples is None


def test_a_buffer_that_the_model_replaces_is_put_back(make):
    class Replacing(Limited):
        def __init__(self):
            super().__init__(3)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, inputs):
            if self.training:
                self.seen = self.seen + len(inputs)
            return super().forward(inputs)

    trainer = make(lambda: nn.Sequential(nn.Linear(4, 2), Replacing()), actors=callback())
    fitted(trainer)
    assert trainer.model[1].seen == 2 * 37
