import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from ptb_schedulers.cosine_restarts import cosine_restarts

LRS = (0.4, 0.1)


def optimizer_with(*lrs):
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs])


def learning_rates(optimizer, scheduler, steps):
    """The learning rates before the first step and after each."""
    seen = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append([group["lr"] for group in optimizer.param_groups])
    return seen


@pytest.mark.parametrize(("period", "first"), [(7, 7), (0.25, 25), (0.001, 1)])
@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("min_lr", [0.0, 0.01])
def test_it_is_the_class_of_torch_bit_for_bit(period, first, factor, min_lr):
    ours, theirs = optimizer_with(*LRS), optimizer_with(*LRS)
    scheduler = cosine_restarts(ours, 100, period=period, period_factor=factor, min_lr=min_lr)
    expected = CosineAnnealingWarmRestarts(theirs, T_0=first, T_mult=factor, eta_min=min_lr)
    assert learning_rates(ours, scheduler, 100) == learning_rates(theirs, expected, 100)


def test_every_step_is_the_formula():
    optimizer = optimizer_with(*LRS)
    seen = learning_rates(optimizer, cosine_restarts(optimizer, 35, period=5, period_factor=2, min_lr=0.01), 34)
    places = [(t, period) for period in (5, 10, 20) for t in range(period)]
    for rates, (t, period) in zip(seen, places, strict=True):
        wanted = [0.01 + (lr - 0.01) * (1 + math.cos(math.pi * t / period)) / 2 for lr in LRS]
        assert rates == pytest.approx(wanted, rel=1e-12)


def test_after_a_warm_up_the_periods_are_parts_of_the_rest():
    optimizer = optimizer_with(0.4)
    seen = learning_rates(optimizer, cosine_restarts(optimizer, 24, warmup_steps=4, period=0.5), 23)
    assert [place for place, (lr,) in enumerate(seen) if lr == 0.4] == [4, 14]


@pytest.mark.parametrize("period", [100, 1000])
def test_a_schedule_that_would_never_restart_is_refused(period):
    with pytest.raises(
        ValueError, match=f"period is {period} and the schedule has 100 optimizer steps, so it would ne"
    ):
        cosine_restarts(optimizer_with(0.1), 100, period=period)


def test_an_end_above_the_start_is_refused():
    with pytest.raises(ValueError, match=r"min_lr is 0.2 and the optimizer's lr 0.1, so the learning rate would rise"):
        cosine_restarts(optimizer_with(*LRS), 10, period=5, min_lr=0.2)
