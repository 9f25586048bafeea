"""What a scheduler owes: a valid learning rate at every step of a run, the same after a stop as without one."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ptb.internals import component_state, decode, encode, load_component_state
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common, in_a_run
from ptb_testing.checks.support import check_taken, on_each, refusals
from ptb_testing.outcome import CheckFailed
from ptb_testing.process import differing
from ptb_testing.samples import spec_of
from ptb_testing.trial import Trial

TOTAL = 100
TOTALS = (TOTAL, 1, 2, 10)
STOPS = (0, 1, 37, TOTAL - 2)
LRS = (0.1, 0.025)
METHODS = ("step", "state_dict", "load_state_dict")
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD with momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "Adagrad": torch.optim.Adagrad,
}
Rates = list[list[float]]  # of all groups, at each step


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
    check_taken(case, taken if TOTAL in taken else [], refused)
    return taken


def use(case: Case) -> Any:
    """The learning rates of a run."""
    return _rates(case, TOTAL)


def trials(case: Case) -> Iterator[tuple[str, Trial]]:
    """One run, of a hundred steps."""
    yield f"a run of {TOTAL} steps", Trial.of(case, spec_of(("vector", (8,)), "class"), train=4 * TOTAL // 2)


@on_each(lambda total: f"a run of {total} steps")
def learning_rates_are_valid(case: Case, total: int) -> None:
    """In runs of all lengths that it takes, each group has a finite learning rate of at least 0 at every step."""
    for step, rates in enumerate(_rates(case, total)):
        for lr in rates:
            if not math.isfinite(lr) or lr < 0:
                raise CheckFailed(f"step {step} has the learning rate {lr}")


def groups_keep_their_own_rates(case: Case) -> None:
    """The learning rate of a group follows from the one that it begins with, and from no other group."""
    together = _rates(case, TOTAL)
    if all(one == other for one, other in together[1:]):
        raise CheckFailed(
            f"groups that begin with {LRS[0]:g} and {LRS[1]:g} have the same learning rate at every later step: scale "
            "what each begins with, so that the groups of optimizer.groups mean something"
        )
    for place, lr in enumerate(LRS):
        alone = [rates[0] for rates in _rates(case, TOTAL, _optimizer((lr,)))]
        if alone != [rates[place] for rates in together]:
            raise CheckFailed(f"a group that begins with {lr:g} has other learning rates alone than beside another one")


@on_each(lambda name: f"optimizer {name}", among=lambda case: OPTIMIZERS)
def works_with_any_optimizer(case: Case, name: str) -> None:
    """It asks nothing of the optimizer but its learning rate."""
    _rates(case, TOTAL, _optimizer(kind=name))


def leaves_weights_alone(case: Case) -> None:
    """It changes options of the parameter groups; weights and the optimizer's state are not its own."""
    optimizer = _optimizer()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # from here on there is a momentum
    optimizer.zero_grad()
    before = _held(optimizer)
    _steps(optimizer, case.build(optimizer, TOTAL), TOTAL)  # without gradients, steps of the optimizer change nothing
    if changed := differing(before, _held(optimizer)):
        raise CheckFailed(f"it changes the {' and the '.join(changed)} of the optimizer")


def state_survives_a_checkpoint(case: Case) -> None:
    """Stopped anywhere, saved, and loaded into a new one, it goes on with the same learning rates."""
    in_a_run.state_survives_a_checkpoint(case)
    whole = _rates(case, TOTAL)
    for stop in STOPS:
        optimizer, resumed = _optimizer(), _optimizer()
        scheduler = case.build(optimizer, TOTAL)
        _steps(optimizer, scheduler, stop)
        saved = decode(encode([optimizer.state_dict(), component_state(scheduler)]))
        again = case.build(resumed, TOTAL)
        resumed.load_state_dict(saved[0])
        load_component_state(again, saved[1])
        for step, (one, other) in enumerate(zip(whole[stop:], _steps(resumed, again, TOTAL - stop), strict=True), stop):
            if one != other:
                raise CheckFailed(
                    f"stopped after step {stop} of {TOTAL}, it goes on with the learning rate {other[0]:g} at step "
                    f"{step} instead of {one[0]:g}; keep where it stands in state_dict"
                )


KIT = Kit(
    checks=(
        *common.CHECKS,
        learning_rates_are_valid,
        groups_keep_their_own_rates,
        works_with_any_optimizer,
        in_a_run.fits_a_run,
        leaves_weights_alone,
        state_survives_a_checkpoint,
    ),
    gates=(learning_rates_are_valid, groups_keep_their_own_rates, works_with_any_optimizer, in_a_run.fits_a_run),
    build=build,
    use=use,
    trials=trials,
)


def _optimizer(lrs: tuple[float, ...] = LRS, kind: str = "SGD with momentum") -> Optimizer:
    return OPTIMIZERS[kind]([{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in lrs])


def _held(optimizer: Optimizer) -> dict[str, Any]:
    weights = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
    return {"weights": weights, "state": copy.deepcopy(optimizer.state_dict()["state"])}


def _rates(case: Case, total: int, optimizer: Optimizer | None = None) -> Rates:
    """The learning rates of a run."""
    optimizer = optimizer or _optimizer()
    return _steps(optimizer, case.build(optimizer, total), total)


def _steps(optimizer: Optimizer, scheduler: Any, count: int) -> Rates:
    seen = []
    for _ in range(count):
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen
