import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ptb_schedulers.warmup import WarmUp, with_warmup


def optimizer_with(lr):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def build_for(optimizer, asked):
    def build(steps):
        asked.append(steps)
        return LambdaLR(optimizer, lambda t: 2.0**-t)

    return build


def test_without_a_warm_up_the_schedule_itself_is_returned():
    asked = []
    scheduler = with_warmup(build_for(optimizer_with(1.0), asked), 10, 0, 0.5)
    assert (type(scheduler), asked) == (LambdaLR, [10])


def test_four_steps_up_and_then_the_schedule():
    asked, seen = [], []
    optimizer = optimizer_with(1.0)
    scheduler = with_warmup(build_for(optimizer, asked), 7, 4, 0.5)
    for _ in range(7):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert (type(scheduler), asked) == (WarmUp, [3])
    assert seen == [0.5, 0.625, 0.75, 0.875, 1.0, 0.5, 0.25]


def test_a_warm_up_that_leaves_no_step_is_refused_before_anything_is_built():
    asked = []
    with pytest.raises(ValueError, match="warmup_steps is 7 and the run has 7 optimizer steps"):
        with_warmup(build_for(optimizer_with(1.0), asked), 7, 7, 0.5)
    assert asked == []
