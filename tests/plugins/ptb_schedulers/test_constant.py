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
