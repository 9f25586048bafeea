import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR, StepLR

from ptb_schedulers.step import multi_step, step


def learning_rates(build, steps, lrs=(0.1, 0.025)):
    """The learning rates of the groups before the first step and after each."""
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs])
    scheduler = build(optimizer)
    seen = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append([group["lr"] for group in optimizer.param_groups])
    return seen


def falls(drops):
    return [[lr * 0.5**n for lr in (0.1, 0.025)] for n in drops]


def drops_of(build, steps):
    """After which steps the learning rate falls, of those inside the run."""
    seen = learning_rates(build, steps)
    return [t for t in range(1, steps) if seen[t] != seen[t - 1]]


@pytest.mark.parametrize("every", [0.01, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.75])
@pytest.mark.parametrize("total", [1, 2, 10, 1000])
def test_every_step_is_the_formula(total, every):
    length = max(1, Fraction(every) * total)
    seen = learning_rates(lambda optimizer: step(optimizer, total, every=every, gamma=0.5), total)
    assert seen == falls(math.floor((t + Fraction(1, 2)) / length) for t in range(total + 1))


@settings(max_examples=50, deadline=None)
@given(total=st.integers(2, 60), warmup=st.integers(0, 60), every=st.floats(0.01, 0.99))
def test_every_step_after_a_warm_up_is_the_formula_over_the_rest(total, warmup, every):
    warmup = min(warmup, total - 1)
    rest = total - warmup
    length = max(1.0, every * rest)
    assume(rest == 1 or length <= rest - 0.5)
    seen = learning_rates(lambda o: step(o, total, warmup_steps=warmup, every=every, gamma=0.5), total)
    assert seen[warmup:] == falls(math.floor((t + 0.5) / length) for t in range(rest + 1))


@settings(max_examples=50, deadline=None)
@given(total=st.integers(2, 60), size=st.integers(1, 59))
def test_whole_numbers_are_the_step_size_of_torch(total, size):
    size = min(size, total - 1)
    ours = learning_rates(lambda optimizer: step(optimizer, total, every=size, gamma=0.5), total)
    assert ours == learning_rates(lambda optimizer: StepLR(optimizer, size, gamma=0.5), total)


@pytest.mark.parametrize(
    ("total", "every", "wanted"),
    [
        (1000, 0.25, [250, 500, 750]),
        (1000, 1 / 3, [333, 667]),
        (10, 0.3, [3, 6, 9]),
        (10, 0.1, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (3, 0.01, [1, 2]),
        (1, 0.5, []),
    ],
)
def test_parts_of_a_run_drop_at_the_nearest_step(total, every, wanted):
    assert drops_of(lambda optimizer: step(optimizer, total, every=every), total) == wanted


@pytest.mark.parametrize("total", [1, 2, 10, 1000])
def test_the_milestones_are_the_formula(total):
    milestones = (0.001, 0.25, 0.5, 0.99)
    places = [max(1, Fraction(m) * total) for m in milestones]
    seen = learning_rates(lambda optimizer: multi_step(optimizer, total, milestones=milestones, gamma=0.5), total)
    assert seen == falls(sum(place <= t + Fraction(1, 2) for place in places) for t in range(total + 1))


@settings(max_examples=50, deadline=None)
@given(
    total=st.integers(2, 60),
    warmup=st.integers(0, 60),
    milestones=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_milestones_after_a_warm_up_are_the_formula_over_the_rest(total, warmup, milestones):
    warmup = min(warmup, total - 1)
    rest = total - warmup
    assume(rest == 1 or milestones[0] * rest <= rest - 0.5)
    seen = learning_rates(lambda o: multi_step(o, total, warmup_steps=warmup, milestones=milestones, gamma=0.5), total)
    assert seen[warmup:] == falls(sum(max(1.0, m * rest) <= t + 0.5 for m in milestones) for t in range(rest + 1))


@settings(max_examples=50, deadline=None)
@given(milestones=st.lists(st.integers(1, 39), min_size=1, max_size=5, unique=True).map(sorted))
def test_whole_numbers_are_the_milestones_of_torch(milestones):
    ours = learning_rates(lambda optimizer: multi_step(optimizer, 40, milestones=milestones, gamma=0.5), 40)
    assert ours == learning_rates(lambda optimizer: MultiStepLR(optimizer, milestones, gamma=0.5), 40)


def test_the_default_milestones_are_half_and_three_quarters():
    assert drops_of(lambda optimizer: multi_step(optimizer, 64), 64) == [32, 48]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda optimizer: step(optimizer, 10, every=10), "every has 10 and the schedule 10 optimizer steps"),
        (lambda optimizer: step(optimizer, 10, every=8, warmup_steps=2), "every has 8 and the schedule 8"),
        (lambda optimizer: multi_step(optimizer, 10, milestones=(3, 10)), "milestones has 10 and the schedule 10"),
        (lambda optimizer: step(optimizer, 4, every=0.9), "every puts the first drop at 3.6 of 4 optimizer steps"),
        (lambda optimizer: multi_step(optimizer, 20, milestones=(0.98, 0.99)), "the first drop at 19.6 of 20"),
    ],
    ids=["step", "step-after-warm-up", "multi-step", "step-part", "multi-step-part"],
)
def test_a_drop_that_would_never_come_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        learning_rates(build, 0)
