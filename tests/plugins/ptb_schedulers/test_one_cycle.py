import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from ptb_schedulers.one_cycle import one_cycle

LRS = (0.1, 0.025)


def optimizer_with(kind=torch.optim.SGD, **options):
    return kind([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in LRS], **options)


def run(optimizer, scheduler, steps):
    """The learning rates and momenta of the groups before the first step and after each."""
    seen = []
    for t in range(steps + 1):
        if t:
            optimizer.step()
            scheduler.step()
        groups = optimizer.param_groups
        seen.append([(g["lr"], g["betas"][0] if "betas" in g else g.get("momentum")) for g in groups])
    return seen


def lrs(optimizer, scheduler, steps):
    return [[lr for lr, _ in groups] for groups in run(optimizer, scheduler, steps)]


def curve(t, total, pct_start, anneal, start, peak, end):
    turn, last = max(pct_start * total - 1, 0), total - 1

    def between(a, b, part):
        return a + (b - a) * (part if anneal == "linear" else (1 - math.cos(math.pi * part)) / 2)

    if t <= turn:
        return between(start, peak, t / turn) if turn else peak
    return between(peak, end, min((t - turn) / (last - turn), 1)) if last > turn else end


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("pct_start", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("total", [1, 2, 10, 1000])
def test_every_step_is_the_formula(total, pct_start, anneal):
    optimizer = optimizer_with(momentum=0.9)
    seen = run(optimizer, one_cycle(optimizer, total, pct_start=pct_start, anneal=anneal), total)
    for t, groups in enumerate(seen):
        momentum = curve(t, total, pct_start, anneal, 0.95, 0.85, 0.95)
        for lr, (rate, moved) in zip(LRS, groups, strict=True):
            wanted = curve(t, total, pct_start, anneal, lr / 25, lr, lr / 25 / 1e4)
            assert rate == pytest.approx(wanted, rel=1e-9, abs=1e-15)
            assert moved == pytest.approx(momentum, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    total=st.integers(2, 60),
    warmup=st.integers(0, 60),
    pct_start=st.floats(0, 1),
    max_factor=st.floats(0.1, 10),
    div=st.floats(1, 50),
    final=st.floats(1, 1e5),
)
def test_every_step_after_a_warm_up_is_the_formula_over_the_rest(total, warmup, pct_start, max_factor, div, final):
    warmup = min(warmup, total - 1)
    rest = total - warmup
    optimizer = optimizer_with()
    scheduler = one_cycle(
        optimizer,
        total,
        warmup_steps=warmup,
        pct_start=pct_start,
        max_factor=max_factor,
        div_factor=div,
        final_div_factor=final,
    )
    for t, groups in enumerate(lrs(optimizer, scheduler, total)[warmup:]):
        for lr, rate in zip(LRS, groups, strict=True):
            peak = lr * max_factor
            wanted = curve(t, rest, pct_start, "cos", peak / div, peak, peak / div / final)
            assert rate == pytest.approx(wanted, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
@settings(max_examples=50, deadline=None)
@given(total=st.integers(4, 60), pct_start=st.floats(0.05, 0.95))
def test_it_is_the_class_of_torch_where_the_climb_has_a_step(kind, anneal, total, pct_start):
    assume(pct_start * total > 1.01)
    options = {} if kind is torch.optim.Adam else {"momentum": 0.9}
    ours, theirs = optimizer_with(kind, **options), optimizer_with(kind, **options)
    expected = OneCycleLR(theirs, max_lr=list(LRS), total_steps=total, pct_start=pct_start, anneal_strategy=anneal)
    seen = run(ours, one_cycle(ours, total, pct_start=pct_start, anneal=anneal), total - 1)
    for mine, other in zip(seen, run(theirs, expected, total - 1), strict=True):
        for a, b in zip(mine, other, strict=True):
            assert a == pytest.approx(b, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_without_a_climb_the_first_step_is_the_peak(total):
    optimizer = optimizer_with()
    assert lrs(optimizer, one_cycle(optimizer, total), total)[0] == list(LRS)


def test_building_sets_the_first_values():
    optimizer = optimizer_with(torch.optim.Adam, betas=(0.9, 0.99))
    one_cycle(optimizer, 100)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 / 25, 0.025 / 25])
    assert [group["betas"] for group in optimizer.param_groups] == [(0.95, 0.99)] * 2


@pytest.mark.parametrize(
    ("kind", "options", "cycle"),
    [
        (torch.optim.SGD, {"momentum": 0.9}, False),
        (torch.optim.Adam, {}, False),
        (torch.optim.SGD, {}, True),
        (torch.optim.RMSprop, {}, True),
        (torch.optim.Adagrad, {}, True),
    ],
    ids=["off-momentum", "off-betas", "sgd-without", "rmsprop-without", "has-none"],
)
def test_momentum_is_left_alone(kind, options, cycle):
    optimizer = optimizer_with(kind, **options)
    before = {key: value for key, value in optimizer.param_groups[0].items() if key in ("momentum", "betas")}
    scheduler = one_cycle(optimizer, 10, cycle_momentum=cycle)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
        assert before.items() <= optimizer.param_groups[0].items()


def test_momentum_that_falls_to_zero_comes_back():
    optimizer = optimizer_with(momentum=0.9)
    seen = run(optimizer, one_cycle(optimizer, 10, base_momentum=0.0, max_momentum=0.5), 9)
    momenta = [groups[0][1] for groups in seen]
    assert momenta[0] == momenta[-1] == 0.5
    assert min(momenta) == 0.0


@pytest.mark.parametrize(
    ("kind", "options"), [(torch.optim.SGD, {}), (torch.optim.Adagrad, {})], ids=["sgd-without", "has-none"]
)
def test_momenta_for_an_optimizer_without_are_refused(kind, options):
    with pytest.raises(ValueError, match=r"base_momentum=0\.8 and max_momentum=0\.95 move nothing"):
        one_cycle(optimizer_with(kind, **options), 10, base_momentum=0.8)
    one_cycle(optimizer_with(kind, **options), 10)


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (torch.optim.SGD, {"momentum": 0.5}, "optimizer.momentum=0.5"),
        (torch.optim.Adam, {"betas": (0.99, 0.999)}, r"optimizer.betas=\(0.99, 0.999\)"),
    ],
    ids=["below", "above"],
)
def test_a_momentum_of_one_s_own_is_not_replaced_unasked(kind, options, told):
    with pytest.raises(ValueError, match=f"{told} would be lost"):
        one_cycle(optimizer_with(kind, **options), 10)
    one_cycle(optimizer_with(kind, **options), 10, cycle_momentum=False)
    one_cycle(optimizer_with(kind, **options), 10, base_momentum=0.6, max_momentum=0.7)
