"""One optimizer step: accumulation, clipping, precision, and steps that must not be taken."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ptb import NumericalError
from ptb.data.batch import Batch
from ptb.training.step import NonFiniteError

NAN, INF = math.nan, math.inf


def gradients(trainer):
    return [parameter.grad.clone() for parameter in trainer.model.parameters() if parameter.grad is not None]


class Weighed:
    """Class weights and an ignored class: its mean is not one over samples."""

    weight = torch.tensor([1.0, 5.0])

    def __call__(self, scores, targets):
        total = nn.functional.cross_entropy(scores, targets, self.weight, reduction="sum", ignore_index=-1)
        return total / self.denominator(targets).clamp(min=1e-30)

    def denominator(self, targets):
        return (self.weight[targets.clamp(min=0)] * (targets >= 0)).sum()

    def ignored(self, targets):
        return targets < 0


LOSSES = {
    "mean": nn.CrossEntropyLoss,
    "sum": lambda: nn.CrossEntropyLoss(reduction="sum"),
    "each sample": lambda: nn.CrossEntropyLoss(reduction="none"),
    "weighed": Weighed,
}


@pytest.mark.parametrize("loss", LOSSES)
@given(
    targets=st.lists(st.integers(0, 1), min_size=1, max_size=9),
    hidden=st.integers(0, 9),
    cuts=st.sets(st.integers(1, 8)),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_micro_batches_of_any_sizes_step_as_one_large_batch(build, loss, targets, hidden, cuts):
    targets = torch.tensor(targets)
    if loss == "weighed":
        targets[:hidden] = -1  # micro-batches of ignored samples only are among them
    inputs = torch.arange(3.0 * len(targets)).reshape(-1, 3).sin()
    cuts = [cut for cut in sorted(cuts) if cut < len(targets)]
    sizes = [end - start for start, end in zip([0, *cuts], [*cuts, len(targets)], strict=True)]
    whole, small = build(loss=LOSSES[loss]()), build(loss=LOSSES[loss]())
    one = whole.train_step([Batch(inputs, targets)])
    other = small.train_step(list(map(Batch, inputs.split(sizes), targets.split(sizes))))
    torch.testing.assert_close(one.loss, other.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients(whole), gradients(small), rtol=1e-5, atol=1e-6)
    assert torch.isfinite(other.loss)
    assert (one.samples, one.lr, one.stepped) == (other.samples, other.lr, True)


class Tagger(nn.Module):
    """Scores ``[B, 2, L]`` of vectors ``[B, L]``."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, inputs):
        return self.layer(inputs[..., None]).movedim(-1, 1)


@pytest.mark.parametrize("form", ["weights", "positions", "weights of positions"])
@given(size=st.integers(1, 9), cuts=st.sets(st.integers(1, 8)), seed=st.integers(0, 999))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_micro_batches_of_weighted_samples_and_of_positions_step_as_one_large_batch(build, form, size, cuts, seed):
    draw = torch.Generator().manual_seed(seed)
    inputs, positions = torch.randn(size, 3, generator=draw), form != "weights"
    targets = torch.randint(2, (size, 3) if positions else (size,), generator=draw)
    if positions:
        targets = targets.masked_fill(torch.rand(size, 3, generator=draw) < 0.5, -100)
        targets[0, 0] = 1
    weights = torch.rand(size, generator=draw) if "weights" in form else None

    def trainer():
        loss = nn.CrossEntropyLoss(reduction="none" if "weights" in form else "mean")
        return build(Tagger if positions else None, loss=loss, positions=positions)

    whole, small, batch = trainer(), trainer(), Batch(inputs, targets, weights)
    edges = [0, *sorted(cut for cut in cuts if cut < size), size]
    parts = [batch.map(lambda tensor, a=a, b=b: tensor[a:b]) for a, b in pairwise(edges)]
    if not positions or all(bool((part.targets >= 0).any()) for part in parts):  # torch's mean of nothing is NaN
        one, other = whole.train_step([batch]), small.train_step(parts)
        torch.testing.assert_close(one.loss, other.loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradients(whole), gradients(small), rtol=1e-5, atol=1e-6)
        figures = [each.train_metrics.compute()["loss"] for each in (whole, small)]
        assert figures == pytest.approx([float(one.loss)] * 2, rel=1e-5)


@pytest.mark.parametrize("size", [8, 10, 11])
def test_a_run_with_accumulation_is_one_with_large_batches(build, size):
    small = build(size=size, batch_size=2, accumulate=3, epochs=3)
    large = build(size=size, batch_size=6, epochs=3)
    for each in (small, large):
        each.fit()
    torch.testing.assert_close(small.model.weight, large.model.weight, rtol=1e-5, atol=1e-6)
    assert [row[:3] for row in small.notes.rows] == [row[:3] for row in large.notes.rows]
    for row, twin in zip(small.notes.rows, large.notes.rows, strict=True):
        assert row[3]["loss"] == pytest.approx(twin[3]["loss"], rel=1e-4)


def test_losses_that_add_up_and_those_of_each_sample_train_as_by_hand(build):
    for reduction in ("sum", "none"):
        loss = nn.CrossEntropyLoss(reduction=reduction)
        ours, twin = build(loss=loss, epochs=1), build()
        ours.fit()
        for inputs, targets, _ in twin.train_loader.epoch(1):
            twin.optimizer.zero_grad()
            value = loss(twin.model(inputs), targets)
            (value if reduction == "sum" else value.mean()).backward()
            twin.optimizer.step()
            twin.scheduler.step()
        assert torch.equal(ours.model.weight, twin.model.weight)


def test_gradients_are_scaled_down_to_the_norm_that_is_allowed(build):
    def norms(clip_norm):
        ours, seen = build(clip_norm=clip_norm), []
        ours.optimizer.register_step_pre_hook(lambda *_: seen.append(float(nn.utils.get_total_norm(gradients(ours)))))
        ours.fit()
        return seen

    free = norms(None)
    limit = sorted(free)[2]
    assert max(norms(limit)) <= limit * 1.0001 < max(free)
    assert norms(1e9) == free


def test_parameters_that_an_actor_gives_the_optimizer_are_zeroed_and_clipped_too(build):
    seen = []

    class Adds:
        def on_epoch_start(self, trainer):
            if trainer.state.epoch == 1:
                trainer.optimizer.add_param_group({"params": [trainer.model.bias]})

        def around_step(self, trainer, step):
            step()
            seen.append(float(nn.utils.get_total_norm(gradients(trainer))))

    def only_weight(parameters):
        return torch.optim.SGD([next(iter(parameters))], lr=0.0)

    ours = build(optimizer=only_weight, actors={"adds": Adds()}, epochs=3, clip_norm=1e-3, batch_size=10)
    ours.fit()
    assert max(seen[1:]) <= 1.001e-3


def test_an_optimizer_with_a_zero_grad_of_its_own_is_asked(build):
    calls = []

    class Own(torch.optim.SGD):
        def zero_grad(self, set_to_none=True):
            calls.append(set_to_none)
            super().zero_grad(set_to_none)

    build(optimizer=lambda parameters: Own(parameters, 0.1), epochs=1).fit()
    assert calls == [True] * 3


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(4, 2, sparse=True, mode="sum")

    def forward(self, inputs):
        return self.table((inputs > 0).long())


class Complex(nn.Linear):
    def __init__(self):
        super().__init__(3, 2, dtype=torch.complex64)

    def forward(self, inputs):
        return super().forward(inputs.to(torch.complex64)).abs()


class Odd(nn.Module):
    """Parameters of no values, in another memory order, unused, frozen, and of two types."""

    def __init__(self):
        super().__init__()
        self.none = nn.Parameter(torch.empty(0))
        self.across = nn.Parameter(torch.randn(2, 3).t())
        self.unused = nn.Parameter(torch.randn(2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.wide = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, inputs):
        return inputs @ self.across * self.frozen * self.wide.float() + self.none.sum()


class Spoilt(torch.autograd.Function):
    """Changes nothing going forward; going back the gradients are multiplied."""

    @staticmethod
    def forward(context, values, factor):
        context.factor = factor
        return values.clone()

    @staticmethod
    def backward(context, gradients):
        return gradients * context.factor, None


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)


WAYS = {
    "plain": {},
    "accumulated": {"accumulate": 3, "batch_size": 2},
    "clipped": {"clip_norm": 0.5},
    "lbfgs": {"optimizer": lbfgs, "closure": True},
    "adam": {"optimizer": torch.optim.Adam},
    "bf16": {"autocast": torch.bfloat16},
    "fp16": {"autocast": torch.float16},
    "sparse": {"model": Sparse},
    "sparse adam": {"model": Sparse, "optimizer": torch.optim.SparseAdam},
    "complex": {"model": Complex},
    "odd": {"model": Odd},
}


def failing_step(build, way, fault, fails, value):
    """A run whose step ``fails`` is on what is no number."""
    armed = lambda: ours.state.step + 1 == fails  # noqa: E731
    base = WAYS[way].get("model", lambda: nn.Linear(3, 2))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = base()

        def forward(self, inputs):
            scores = self.inner(inputs)
            if armed() and fault == "layer":
                scores = scores + torch.tensor([value] + [0.0] * (len(scores) - 1))[:, None]
            return Spoilt.apply(scores, value if armed() and fault == "gradient" else 1.0)

    def loss(scores, targets):
        return nn.functional.cross_entropy(scores, targets) * (value if armed() and fault == "loss" else 1)

    ours = build(**{**WAYS[way], "model": Model, "loss": loss, "epochs": 3, "size": 18, "splits": ()})
    return ours


@pytest.mark.parametrize(
    ("way", "fault", "fails"),
    [
        *(("plain", fault, 1) for fault in ("layer", "loss", "gradient")),
        *((way, "layer", 5) for way in WAYS),
        # fp16 gradients that overflow are the business of the scaler.
        *((way, "gradient", 5) for way in WAYS if way != "fp16"),
        ("lbfgs", "gradient", 1),
    ],
)
def test_a_step_on_what_is_no_number_is_not_taken(build, state_of, way, fault, fails):
    value = INF if fault == "loss" else NAN
    ours = failing_step(build, way, fault, fails, value)
    with pytest.raises(
        NonFiniteError, match=f"(loss is|gradients of inner.*) .* at step {fails} .*rate is 0[.0-9]+:"
    ) as failed:
        ours.fit()
    after = state_of(ours)
    twin = failing_step(build, way, fault, 0, value)
    if fails > 1:
        twin.fit(stop_after=fails - 1)
        assert max(ours.notes.saved) < fails
    # LBFGS notes that it has begun before it asks for gradients.
    changed = ("random", "optimizer") if way == "lbfgs" else ("random",)
    for name, value in state_of(twin).items():
        assert after[name] == value or name.startswith(changed), name
    start = (fails - 1) % ours.epoch_steps * ours.settings.accumulate
    indices = ours.train_loader.sample_indices(ours.state.epoch + 1, start, ours.settings.accumulate)
    assert torch.equal(failed.value.sample_indices, indices)
    assert sum(len(targets) for _, targets, _ in failed.value.micro_batches) == len(indices)
    assert math.isfinite(failed.value.loss) == (fault == "gradient")
    assert all(name.startswith("inner") for name in failed.value.parameters)


@pytest.mark.parametrize("way", WAYS)
def test_there_is_no_false_alarm(build, way):
    ours = failing_step(build, way, "loss", 0, NAN)
    assert ours.fit().step == ours.epoch_steps * 3
    assert ours.state.skipped_steps <= (way == "fp16")  # its scale begins high


def test_gradients_that_are_finite_and_whose_norm_is_not_are_called_that(build):
    ours = build(loss=lambda scores, _: Spoilt.apply(scores, 1e30).square().mean(), clip_norm=1.0)
    with pytest.raises(NonFiniteError, match="the norm of the gradients overflows"):
        ours.fit()


@pytest.mark.parametrize("rate", [INF, NAN])
def test_no_step_is_taken_with_a_learning_rate_that_is_no_number(build, rate):
    ours = build()
    ours.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": rate})
    before = ours.model.weight.clone()
    with pytest.raises(NumericalError, match=rf"the learning rate is 0\.1, {rate} at step 1 .*the step was not taken"):
        ours.fit()
    assert torch.equal(ours.model.weight, before)


def test_a_model_none_of_whose_parameters_the_optimizer_has_is_left_alone(build):
    other = nn.Linear(2, 2)
    ours = build(optimizer=lambda _: torch.optim.SGD(other.parameters(), lr=0.1))
    before = ours.model.weight.clone()
    ours.fit()
    assert torch.equal(ours.model.weight, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_lower_precision_computes_in_that_type_and_trains(build, dtype):
    seen = set()

    class Spy(nn.Linear):
        def forward(self, inputs):
            scores = super().forward(inputs)
            seen.add(scores.dtype)
            return scores

    ours = build(lambda: Spy(3, 2), autocast=dtype, epochs=20)
    before = ours.evaluate("val")["loss"]
    ours.fit()
    assert ours.state.metrics["val/loss"] < before
    assert seen == {dtype}
    assert ours.model.weight.dtype == torch.float32


def overflowing(factor):
    class Overflowing(nn.Linear):
        def forward(self, inputs):
            return Spoilt.apply(super().forward(inputs), factor)

    return lambda: Overflowing(3, 2)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_fp16_steps_whose_gradients_overflow_are_skipped_counted_and_leave_the_schedule_alone(build, clip_norm):
    ours = build(overflowing(4.0), autocast=torch.float16, epochs=10, clip_norm=clip_norm)
    steps = []
    ours.optimizer.register_step_post_hook(lambda *_: steps.append(0))
    state = ours.fit()
    assert 0 < state.skipped_steps < state.step == 30
    assert len(steps) == 30 - state.skipped_steps
    assert ours.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9 ** len(steps))


def test_a_scale_below_1_ends_a_training_all_of_whose_steps_are_skipped(build):
    ours = build(overflowing(INF), autocast=torch.float16, epochs=20)
    before = ours.model.weight.clone()
    with pytest.raises(NumericalError, match="even when they are not scaled up"):
        ours.fit()
    assert torch.equal(ours.model.weight, before)


def test_an_actor_may_take_the_step_in_other_pieces(build):
    class Halves:
        def around_step(self, trainer, step):
            inputs, targets = (torch.cat(each) for each in zip(*(each[:2] for each in step.micro_batches), strict=True))
            step.replace(list(map(Batch, inputs.split(2), targets.split(2))))()

    whole, halves = build(), build(actors={"halves": Halves()})
    for each in (whole, halves):
        each.fit()
    torch.testing.assert_close(whole.model.weight, halves.model.weight, rtol=1e-5, atol=1e-6)
    assert whole.state.samples == halves.state.samples
    assert whole.state.metrics["train/loss"] == pytest.approx(halves.state.metrics["train/loss"], rel=1e-5)
