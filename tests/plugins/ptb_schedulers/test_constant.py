import pytest
import torch
from torch import nn

from ptb_schedulers.constant import constant


def test_the_learning_rate_stays_bit_for_bit():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = constant(optimizer, 10)
    seen = []
    for _ in range(12):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert set(seen) == {0.3}


def test_after_the_warm_up_it_stays_bit_for_bit():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = constant(optimizer, 10, warmup_steps=4)
    seen = []
    for _ in range(10):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert set(seen[4:]) == {0.3}
    assert max(seen[:4]) < 0.3


def test_an_optimizer_without_learning_rate_is_left_alone():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    del optimizer.param_groups[0]["lr"]
    scheduler = constant(optimizer, 10)
    scheduler.step()
    scheduler.load_state_dict(scheduler.state_dict())
    assert "lr" not in optimizer.param_groups[0]
    with pytest.raises(KeyError):  # a warm-up would have nothing to climb to
        constant(optimizer, 10, warmup_steps=2)
