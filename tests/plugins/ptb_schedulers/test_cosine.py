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
