"""What a scheduler owes: a valid learning rate at every step of a run, the same after a stop as without one."""

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ptb.errors import one_line
from ptb_testing.case import Case, Kit
from ptb_testing.checks.support import nothing_fits, on, refusals
from ptb_testing.outcome import CheckFailed
from ptb_testing.state import differences, identical

TOTAL = 100
TOTALS = (TOTAL, 1, 2, 10)
STOPS = (0, 1, 37, TOTAL - 1)
LRS = (0.1, 0.025)
METHODS = ("step", "state_dict", "load_state_dict")
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": torch.optim.SGD,
    "SGD with momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "Adam": torch.optim.Adam,
    "Adagrad": torch.optim.Adagrad,
}


def build(case: Case) -> list[int]:
    """The lengths of runs that it takes; a short run may be refused."""
    refused: dict[str, str] = {}
    taken = []
    for total in TOTALS:
        with refusals(f"a run of {total} steps", refused):
            scheduler = case.build(_optimizer(), total)
            missing = [name for name in METHODS if not callable(getattr(scheduler, name, None))]
            if missing:
                raise CheckFailed(f"it gives a {type(scheduler).__name__} without {', '.join(missing)}()")
            taken.append(total)
    if TOTAL not in taken:
        raise nothing_fits(refused)
    return taken


def use(case: Case) -> Any:
    """The learning rates of a run."""
    return _run(case, TOTAL)


def runs_to_the_end(case: Case) -> None:
    """It can be stepped once after each step of a run, of whatever length it takes."""
    for total in case.built:
        with on(f"a run of {total} steps"):
            _run(case, total)


def learning_rates_are_valid(case: Case) -> None:
    """At every step the learning rate of every group is a finite number, not below 0."""
    for total in case.built:
        for step, lrs in enumerate(_run(case, total)):
            for lr in lrs:
                if not math.isfinite(lr) or lr < 0:
                    raise CheckFailed(f"in a run of {total} steps, step {step} has the learning rate {lr}")


def resumes_exactly(case: Case) -> None:
    """Stopped anywhere and built anew, it goes on from its `state_dict` with the same learning rates."""
    whole = _run(case, TOTAL)
    for stop in STOPS:
        rest = _resumed(case, stop, copy.deepcopy)
        if not identical(whole[stop:], rest):
            raise CheckFailed(
                f"stopped after step {stop} of {TOTAL}, it goes on with other learning rates: "
                f"{_first_difference(whole[stop:], rest, stop)}; keep where it stands in state_dict"
            )


def state_is_json(case: Case) -> None:
    """Its `state_dict` can be written as JSON, as a checkpoint holds it, and it goes on from what is read."""
    whole = _run(case, TOTAL)
    for stop in STOPS:
        try:
            rest = _resumed(case, stop, lambda state: json.loads(json.dumps(state, allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise CheckFailed(f"its state_dict after step {stop} cannot be JSON: {one_line(error)}") from error
        if not identical(whole[stop:], rest):
            raise CheckFailed(
                f"from its state_dict as JSON it goes on otherwise: {_first_difference(whole[stop:], rest, stop)}"
            )


def drives_every_group(case: Case) -> None:
    """Parameter groups that begin with the same learning rate keep the same one."""
    for first, second in _run(case, TOTAL, lrs=(0.1, 0.1)):
        if first != second:
            raise CheckFailed(
                f"of two equal parameter groups one has the learning rate {first:g}, the other {second:g}"
            )


def works_with_any_optimizer(case: Case) -> None:
    """It asks nothing of the optimizer but its learning rate."""
    for name, kind in OPTIMIZERS.items():
        with on(name):
            _run(case, TOTAL, kind=kind)


def leaves_weights_alone(case: Case) -> None:
    """It changes options of the parameter groups; weights and the optimizer's state are not its own."""
    optimizer = _optimizer()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # from here on there is a momentum
    optimizer.zero_grad()
    before = _held(optimizer)
    scheduler = case.build(optimizer, TOTAL)
    optimizer.step()  # without gradients it changes nothing; some schedulers want it
    for _ in range(TOTAL):
        scheduler.step()
    if changed := differences(before, _held(optimizer)):
        raise CheckFailed(f"it changes the {' and the '.join(changed)} of the optimizer")


def groups_keep_their_own_rates(case: Case) -> None:
    """The learning rate of a group follows from the one that it begins with, and from no other group."""
    together = _run(case, TOTAL)
    if all(one == other for one, other in together[1:]):
        raise CheckFailed(
            f"groups that begin with {LRS[0]:g} and {LRS[1]:g} have the same learning rate at every later step: scale "
            "what each begins with, so that the groups of optimizer.groups mean something"
        )
    for place, lr in enumerate(LRS):
        alone = [rates[0] for rates in _run(case, TOTAL, lrs=(lr,))]
        if alone != [rates[place] for rates in together]:
            raise CheckFailed(f"a group that begins with {lr:g} has other learning rates alone than beside another one")


KIT = Kit(
    build=build,
    use=use,
    may_draw=False,
    checks=(
        runs_to_the_end,
        learning_rates_are_valid,
        drives_every_group,
        works_with_any_optimizer,
        leaves_weights_alone,
        resumes_exactly,
        state_is_json,
        groups_keep_their_own_rates,
    ),
    gates=(runs_to_the_end, drives_every_group, resumes_exactly),
)


def _optimizer(lrs: tuple[float, ...] = LRS, kind: Callable[..., Optimizer] | None = None) -> Optimizer:
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in lrs]
    return (kind or OPTIMIZERS["SGD with momentum"])(groups)


def _held(optimizer: Optimizer) -> dict[str, Any]:
    weights = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
    return {"weights": weights, "state": copy.deepcopy(optimizer.state_dict()["state"])}


def _run(
    case: Case, total: int, lrs: tuple[float, ...] = LRS, kind: Callable[..., Optimizer] | None = None
) -> list[list[float]]:
    """The learning rates of all groups, of each step of a run."""
    optimizer = _optimizer(lrs, kind)
    return _steps(optimizer, case.build(optimizer, total), total)


def _steps(optimizer: Optimizer, scheduler: Any, count: int) -> list[list[float]]:
    seen = []
    for _ in range(count):
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


def _resumed(case: Case, stop: int, through: Callable[[Any], Any]) -> list[list[float]]:
    """The learning rates after a stop; ``through`` is the way that the state takes in between."""
    optimizer = _optimizer()
    scheduler = case.build(optimizer, TOTAL)
    _steps(optimizer, scheduler, stop)
    saved = copy.deepcopy(optimizer.state_dict()), through(scheduler.state_dict())
    optimizer = _optimizer()
    scheduler = case.build(optimizer, TOTAL)
    optimizer.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    return _steps(optimizer, scheduler, TOTAL - stop)


def _first_difference(whole: list[list[float]], rest: list[list[float]], stop: int) -> str:
    pairs = zip(whole, rest, strict=False)
    for step, (one, other) in enumerate(pairs, start=stop):
        if one != other:
            return f"at step {step} {other[0]:g} instead of {one[0]:g}"
    return f"{len(rest)} steps instead of {len(whole)}"
