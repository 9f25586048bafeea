import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ptb import ConfigError

CASES = {
    "constant": ("constant", {}),
    "cosine": ("cosine", {"min_lr": 1e-3}),
    "exponential": ("exponential", {"final_factor": 0.03}),
    "step": ("step", {"every": 0.21, "gamma": 0.5}),
    "step-steps": ("step", {"every": 1, "gamma": 0.9}),
    "multi-step": ("multi-step", {"milestones": [0.2, 0.35, 0.9], "gamma": 0.3}),
    "multi-step-steps": ("multi-step", {"milestones": [1, 3], "gamma": 0.3}),
    "cosine-restarts": ("cosine-restarts", {"period": 0.3}),
    "cosine-restarts-steps": ("cosine-restarts", {"period": 2, "period_factor": 2}),
    "plateau": ("plateau", {"factor": 0.5}),
    "one-cycle": ("one-cycle", {"max_factor": 1.7, "pct_start": 0.4}),
    "one-cycle-linear": ("one-cycle", {"anneal": "linear", "div_factor": 3, "final_div_factor": 7}),
}
LRS = (0.1, 0.025)
every_case = pytest.mark.parametrize(("name", "options"), CASES.values(), ids=CASES)


def optimizer_with(*lrs, kind=torch.optim.Adam, **options):
    return kind([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs], **options)


def state_of(optimizer):
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def run(optimizer, scheduler, steps):
    """The options of the parameter groups before the first step and after each."""
    seen = [state_of(optimizer)]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append(state_of(optimizer))
    return seen


def lrs_of(seen):
    return [[group["lr"] for group in groups] for groups in seen]


@every_case
@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("optimizer_first", [True, False])
def test_it_goes_on_from_the_state_saved_at_any_step(built_in, name, options, warmup, kind, optimizer_first):
    total = 12
    momentum = {"momentum": 0.9} if kind is torch.optim.SGD else {}

    def fresh():
        optimizer = optimizer_with(*LRS, kind=kind, **momentum)
        return optimizer, built_in.build("scheduler", name, optimizer, total, warmup_steps=warmup, **options)

    whole = run(*fresh(), total)
    for at in range(total + 1):
        optimizer, scheduler = fresh()
        run(optimizer, scheduler, at)
        saved = [optimizer.state_dict(), json.loads(json.dumps(scheduler.state_dict()))]
        optimizer, scheduler = fresh()
        parts = [optimizer, scheduler]
        for index in (0, 1) if optimizer_first else (1, 0):
            parts[index].load_state_dict(saved[index])
        assert run(optimizer, scheduler, total - at) == whole[at:]


@every_case
@pytest.mark.parametrize("warmup", [1, 4, 30])
def test_after_the_warm_up_the_schedule_runs_over_the_steps_that_are_left(built_in, name, options, warmup):
    total = warmup + 4  # the milestones at steps 1 and 3 need four
    warm, cold = optimizer_with(*LRS), optimizer_with(*LRS)
    seen = run(warm, built_in.build("scheduler", name, warm, total, warmup_steps=warmup, **options), total)
    schedule = run(cold, built_in.build("scheduler", name, cold, total - warmup, **options), total - warmup)
    assert lrs_of(seen[warmup:]) == lrs_of(schedule)
    if name != "one-cycle":
        assert seen[warmup:] == schedule


@every_case
@settings(max_examples=50, deadline=None)
@given(warmup=st.integers(1, 40), rest=st.integers(4, 40), start=st.floats(1e-6, 1))
def test_the_warm_up_climbs_in_a_straight_line_to_the_first_value(built_in, name, options, warmup, rest, start):
    warm, cold = optimizer_with(*LRS), optimizer_with(*LRS)
    built_in.build("scheduler", name, cold, rest, **options)
    first = rates(cold)
    scheduler = built_in.build(
        "scheduler", name, warm, warmup + rest, warmup_steps=warmup, warmup_start=start, **options
    )
    assert rates(warm) == [lr * start for lr in first]
    seen = lrs_of(run(warm, scheduler, warmup))
    for t, now in enumerate(seen):
        assert now == pytest.approx([lr * (start + (1 - start) * t / warmup) for lr in first], rel=1e-12, abs=0)
    assert seen[-1] == first
    assert start > 0.99 or seen == sorted(seen)


@every_case
@pytest.mark.parametrize("warmup", [0, 3])
def test_groups_keep_their_proportion(built_in, name, options, warmup):
    if name == "cosine":
        options = {}  # all groups end at min_lr: see test_cosine.py
    optimizer = optimizer_with(0.4, 0.1)
    scheduler = built_in.build("scheduler", name, optimizer, 20, warmup_steps=warmup, **options)
    for large, small in lrs_of(run(optimizer, scheduler, 20)):
        assert large == pytest.approx(4 * small, rel=1e-12)


@every_case
@pytest.mark.parametrize("total", [1, 2, 10, 1000])
def test_no_learning_rate_is_negative_or_above_the_peak(built_in, name, options, total):
    if total < 4 and name in ("step", "multi-step", "cosine-restarts"):
        options = {}  # drops counted in steps would be refused
    optimizer = optimizer_with(0.1)
    scheduler = built_in.build("scheduler", name, optimizer, total, **options)
    seen = [lr for (lr,) in lrs_of(run(optimizer, scheduler, total))]
    assert min(seen) >= 0
    assert max(seen) <= 0.1 * options.get("max_factor", 1.0) * (1 + 1e-12)


@every_case
@pytest.mark.parametrize(("warmup", "total"), [(10, 10), (11, 10), (1, 1)])
def test_a_warm_up_as_long_as_the_run_is_refused(built_in, name, options, warmup, total):
    optimizer = optimizer_with(0.1)
    with pytest.raises(ValueError, match=f"warmup_steps is {warmup} and the run has {total} optimizer step"):
        built_in.build("scheduler", name, optimizer, total, warmup_steps=warmup, **options)
    assert rates(optimizer) == [0.1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("constant", {"warmup_steps": -1}, "scheduler.warmup_steps: must be at least 0, got -1"),
        ("constant", {"warmup_start": 0}, "scheduler.warmup_start: must be above 0, got 0"),
        ("constant", {"warmup_start": float("nan")}, "scheduler.warmup_start: must be a finite number"),
        ("cosine", {"min_lr": -1}, r"scheduler.min_lr: must be at least 0, got -1"),
        ("cosine", {"min_lr": float("inf")}, "scheduler.min_lr: must be a finite number"),
        (
            "exponential",
            {"final_factor": 0},
            r"scheduler.final_factor: must be above 0, got 0",
        ),
        ("exponential", {"final_factor": 1e39}, r"must be at most 1e\+18, got 1e\+39"),
        ("one-cycle", {"max_factor": 1e39}, r"must be at most 1e\+18, got 1e\+39"),
        ("one-cycle", {"div_factor": 1e39}, r"must be at most 1e\+18, got 1e\+39"),
        ("one-cycle", {"final_div_factor": 1e39}, r"must be at most 1e\+18, got 1e\+39"),
        ("exponential", {"gamma": 0.9}, "scheduler.gamma: unknown key"),
        (
            "step",
            {"every": 0},
            "scheduler.every: must be above 0, or must be at least 1, got 0",
        ),
        ("step", {"every": 1.0}, "scheduler.every: must be below 1"),
        ("step", {"every": 2.5}, "scheduler.every: must be below 1"),
        ("step", {"gamma": 1.1}, "scheduler.gamma: must be at most 1, got 1.1"),
        (
            "multi-step",
            {"milestones": []},
            "scheduler.milestones: must have at least 1 item, got ",
        ),
        ("multi-step", {"milestones": [0.5, 0.5]}, "scheduler.milestones: must increase"),
        ("multi-step", {"milestones": [9, 3]}, "scheduler.milestones: must increase"),
        (
            "multi-step",
            {"milestones": [0.5, 1.5]},
            r"scheduler.milestones\[1\]: must be below 1, or must be an integer, got 1.5",
        ),
        ("multi-step", {"milestones": [0.5, 300]}, "scheduler.milestones: must be all parts of the run, below 1, or"),
        ("one-cycle", {"pct_start": 1.1}, "scheduler.pct_start: must be at most 1, got 1.1"),
        ("one-cycle", {"anneal": "cosine"}, "scheduler.anneal: must be 'cos' or 'linear'"),
        ("one-cycle", {"max_momentum": 1}, "scheduler.max_momentum: must be below 1, got 1"),
        (
            "one-cycle",
            {"max_momentum": 0.5},
            "must not be above max_momentum, got base_momentum=0.85 and max_momentum=0.5",
        ),
        (
            "cosine",
            {"warmup_start": 0.5},
            "scheduler.warmup_start: belongs to a climb, and warmup_steps is 0: .*, got 0.5",
        ),
        ("one-cycle", {"cycle_momentum": False, "max_momentum": 0.9}, "belong to cycle_momentum=true: leave them out"),
    ],
)
def test_a_refusal_says_what_is_valid(built_in, name, options, message):
    with pytest.raises(ConfigError, match=message):
        built_in.build("scheduler", name, optimizer_with(0.1), 100, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("step", {}),
        ("multi-step", {}),
        ("exponential", {}),
        ("one-cycle", {}),
        ("cosine", {"min_lr": 1e-3}),
        ("plateau", {}),
        ("cosine-restarts", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schedule_for_rprop_is_refused_which_reads_lr_once(built_in, name, options):
    with pytest.raises(ValueError, match="optimizer 'rprop' reads lr for its first step only"):
        built_in.build("scheduler", name, optimizer_with(0.1, kind=torch.optim.Rprop), 10, **options)


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_rprop_takes_the_schedules_that_nobody_chose(built_in, name):
    built_in.build("scheduler", name, optimizer_with(0.1, kind=torch.optim.Rprop), 10)
