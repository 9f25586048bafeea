import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ptb_schedulers.plateau import plateau

LRS = (0.4, 0.1)
figures = st.lists(st.floats(0, 2) | st.just(math.nan), max_size=30)


def optimizer_with(*lrs):
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs])


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def hear(optimizer, scheduler, seen, better="lower"):
    """The learning rates after each evaluation; two optimizer steps lie between them."""
    found = []
    for value in seen:
        for _ in range(2):
            optimizer.step()
            scheduler.step()
        scheduler.on_evaluation({"val/loss": value, "val/other": 0.0}, monitor="val/loss", better=better)
        found.append(rates(optimizer))
    return found


@settings(max_examples=100, deadline=None)
@given(
    seen=figures,
    better=st.sampled_from(["lower", "higher"]),
    options=st.fixed_dictionaries(
        {
            "factor": st.floats(0.1, 0.9),
            "patience": st.integers(0, 3),
            "threshold": st.floats(0, 0.5),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "cooldown": st.integers(0, 3),
            "min_lr": st.floats(0, 0.09),
            "eps": st.floats(0, 0.01),
        }
    ),
)
def test_it_is_the_class_of_torch_at_evaluations(seen, better, options):
    ours, theirs = optimizer_with(*LRS), optimizer_with(*LRS)
    expected = ReduceLROnPlateau(theirs, "min" if better == "lower" else "max", **options)
    wanted = []
    for value in seen:
        expected.step(value)
        wanted.append(rates(theirs))
    assert hear(ours, plateau(ours, 100, **options), seen, better) == wanted


@settings(max_examples=30, deadline=None)
@given(seen=figures.filter(len), data=st.data(), warmup=st.sampled_from([0, 3]))
def test_it_goes_on_from_the_state_saved_at_any_evaluation(seen, data, warmup):
    at = data.draw(st.integers(0, len(seen)))

    def fresh():
        optimizer = optimizer_with(*LRS)
        return optimizer, plateau(optimizer, 100, warmup_steps=warmup, patience=1)

    whole = hear(*fresh(), seen, "higher")
    optimizer, scheduler = fresh()
    hear(optimizer, scheduler, seen[:at], "higher")
    again, resumed = fresh()
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert hear(again, resumed, seen[at:], "higher") == whole[at:]


def test_evaluations_of_the_warm_up_do_not_count():
    optimizer = optimizer_with(0.4)
    scheduler = plateau(optimizer, 100, warmup_steps=4, warmup_start=0.5, patience=0, factor=0.5)
    assert hear(optimizer, scheduler, [1.0, 2.0, 3.0, 4.0]) == [[0.30000000000000004], [0.4], [0.2], [0.1]]


def test_a_row_without_the_figure_is_let_pass():
    optimizer = optimizer_with(0.4)
    scheduler = plateau(optimizer, 100, patience=0)
    for _ in range(3):
        scheduler.on_evaluation({"val/other": 1.0}, monitor="val/loss", better="lower")
    assert rates(optimizer) == [0.4]


@pytest.mark.parametrize("min_lr", [0.1, 0.2])
def test_an_end_that_leaves_no_fall_is_refused(min_lr):
    with pytest.raises(ValueError, match=rf"min_lr is {min_lr} and the optimizer's lr 0.1, so .* would never fall"):
        plateau(optimizer_with(*LRS), 100, min_lr=min_lr)
