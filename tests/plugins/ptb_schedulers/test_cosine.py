import math

import pytest
import torch
from torch import nn

from ptb_schedulers.cosine import cosine


def optimizer_with(lr):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def learning_rates(optimizer, scheduler, steps):
    """The learning rate before the first step and after each."""
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@pytest.mark.parametrize("min_lr", [0.0, 1e-3])
@pytest.mark.parametrize("total", [1, 2, 7, 800, 10_000])
def test_every_step_is_the_formula(total, min_lr):
    optimizer = optimizer_with(0.1)
    seen = learning_rates(optimizer, cosine(optimizer, total, min_lr=min_lr), total)
    wanted = [min_lr + (0.1 - min_lr) * (1 + math.cos(math.pi * t / total)) / 2 for t in range(total + 1)]
    assert seen == pytest.approx(wanted, rel=1e-12, abs=0)
    assert seen[-1] == min_lr


def test_it_goes_on_from_a_saved_state():
    optimizer = optimizer_with(0.1)
    scheduler = cosine(optimizer, 20)
    whole = learning_rates(optimizer, scheduler, 20)

    first = optimizer_with(0.1)
    half = cosine(first, 20)
    learning_rates(first, half, 8)
    second = optimizer_with(0.1)
    rest = cosine(second, 20)
    rest.load_state_dict(half.state_dict())
    second.load_state_dict(first.state_dict())
    assert learning_rates(second, rest, 12) == whole[8:]


@pytest.mark.parametrize("min_lr", [0.0, 1e-3])
@pytest.mark.parametrize("total", [1, 2, 10, 1000])
def test_without_a_warm_up_it_is_the_class_of_torch_bit_for_bit(total, min_lr):
    ours, theirs = optimizer_with(0.1), optimizer_with(0.1)
    expected = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=total, eta_min=min_lr)
    assert learning_rates(ours, cosine(ours, total, min_lr=min_lr), total) == learning_rates(theirs, expected, total)


@pytest.mark.parametrize(("warmup", "total"), [(1, 2), (3, 10), (100, 1000)])
def test_after_a_warm_up_every_step_is_the_formula_over_the_rest(warmup, total):
    optimizer = optimizer_with(0.1)
    seen = learning_rates(optimizer, cosine(optimizer, total, warmup_steps=warmup, min_lr=1e-3), total)
    rest = total - warmup
    wanted = [1e-3 + (0.1 - 1e-3) * (1 + math.cos(math.pi * t / rest)) / 2 for t in range(rest + 1)]
    assert seen[warmup:] == pytest.approx(wanted, rel=1e-12, abs=0)


def test_groups_follow_their_own_curves_to_the_same_end():
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.4, 0.1)]
    optimizer = torch.optim.SGD(groups)
    scheduler = cosine(optimizer, 10, min_lr=0.01)
    for t in range(11):
        wanted = [0.01 + (lr - 0.01) * (1 + math.cos(math.pi * t / 10)) / 2 for lr in (0.4, 0.1)]
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(wanted, rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_an_end_above_the_start_is_refused():
    with pytest.raises(ValueError, match=r"min_lr is 0.2 and the optimizer's lr 0.1, so the learning rate would rise"):
        cosine(optimizer_with(0.1), 10, min_lr=0.2)
    cosine(optimizer_with(0.1), 10, min_lr=0.1)
