import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ptb_schedulers.exponential import exponential


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


@pytest.mark.parametrize("total", [1, 2, 10, 1000])
def test_every_step_is_the_formula(total):
    seen = learning_rates(lambda optimizer: exponential(optimizer, total, final_factor=0.05), total)
    assert seen == [[lr * 0.05 ** (t / total) for lr in (0.1, 0.025)] for t in range(total + 1)]
    assert seen[-1] == [0.1 * 0.05, 0.025 * 0.05]


@settings(max_examples=50, deadline=None)
@given(total=st.integers(2, 60), warmup=st.integers(0, 60), factor=st.floats(1e-6, 1e3))
def test_every_step_after_a_warm_up_is_the_formula_over_the_rest(total, warmup, factor):
    warmup = min(warmup, total - 1)
    rest = total - warmup
    seen = learning_rates(lambda o: exponential(o, total, warmup_steps=warmup, final_factor=factor), total)
    assert seen[warmup:] == [[lr * factor ** (t / rest) for lr in (0.1, 0.025)] for t in range(rest + 1)]


@pytest.mark.parametrize("total", [1, 2, 10, 1000])
def test_it_is_the_curve_of_torch_with_that_gamma(total):
    gamma = 0.05 ** (1 / total)
    seen = learning_rates(lambda optimizer: exponential(optimizer, total, final_factor=0.05), total)
    theirs = learning_rates(lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma), total)
    for ours, expected in zip(seen, theirs, strict=True):
        assert ours == pytest.approx(expected, rel=1e-10)
