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
