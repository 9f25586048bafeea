"""What a scheduler owes: a valid learning rate at every step of a run, the same after a stop as without one."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.outcome import CheckFailed
from ptb_testing.process import differing
from ptb_testing.samples import FORMS, spec_of
from ptb_testing.trial import BATCH, Trial, component

TOTAL = 100
TOTALS = (TOTAL, 1, 2, 10)
STOPS = (1, TOTAL - 2)
LRS = (0.1, 0.025)
Rates = list[list[float]]  # of all groups, at each step


def trials(case: Case) -> Iterator[Trial]:
    """Runs of some lengths, a short one may be refused; and with several optimizers."""
    momentum = component("optimizer", "sgd", lr=0.01, momentum=0.9)
    for total in TOTALS:
        stops = STOPS if total == TOTAL else ()
        yield _trial(case, f"a run of {total} steps", total, stops=stops, optimizer=momentum)
    for name in ("sgd", "adam", "adagrad"):
        yield _trial(case, f"optimizer {name}", 10, optimizer=component("optimizer", name, lr=0.01))


def learning_rates_are_valid(case: Case) -> None:
    """Each group has a learning rate of at least 0 at every step, in a run of some length."""
    for step, rates in enumerate(_rates(case, _optimizer())):
        for lr in rates:
            if not math.isfinite(lr) or lr < 0:
                raise CheckFailed(f"step {step} of {TOTAL} has the learning rate {lr}")


def groups_keep_their_own_rates(case: Case) -> None:
    """The learning rate of a group follows from the one that it begins with, and from no other group."""
    together = _rates(case, _optimizer())
    if all(one == other for one, other in together[1:]):
        raise CheckFailed(
            f"groups that begin with {LRS[0]:g} and {LRS[1]:g} have the same learning rate at every later step: scale "
            "what each begins with, so that the groups of optimizer.groups mean something"
        )
    for place, lr in enumerate(LRS):
        alone = [rates[0] for rates in _rates(case, _optimizer((lr,)))]
        if alone != [rates[place] for rates in together]:
            raise CheckFailed(f"a group that begins with {lr:g} has other learning rates alone than beside another one")


def leaves_weights_alone(case: Case) -> None:
    """It changes options of the parameter groups; weights and the optimizer's state are not its own."""
    optimizer = _optimizer()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # from here on there is a momentum
    optimizer.zero_grad()
    before = _held(optimizer)
    _rates(case, optimizer)  # without gradients, steps of the optimizer change nothing
    if changed := differing(before, _held(optimizer)):
        raise CheckFailed(f"it changes the {' and the '.join(changed)} of the optimizer")


OWN = (learning_rates_are_valid, groups_keep_their_own_rates, leaves_weights_alone)
KIT = Kit(checks=(*common.CHECKS, *OWN), notes=OWN, trials=trials)


def _trial(case: Case, what: str, total: int, stops: tuple[int, ...] = (), **sections: Any) -> Trial:
    settings = {"epochs": 10, "max_steps": total, "eval_steps": 7}
    spec = spec_of(FORMS[2], "class")
    return Trial.of(case, what, spec, train=10 * BATCH, stops=stops, trainer=settings, **sections)


def _optimizer(lrs: tuple[float, ...] = LRS) -> Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in lrs], momentum=0.9)


def _held(optimizer: Optimizer) -> dict[str, Any]:
    weights = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
    return {"weights": weights, "state": copy.deepcopy(optimizer.state_dict()["state"])}


def _rates(case: Case, optimizer: Optimizer) -> Rates:
    """The learning rates of a run."""
    scheduler, seen = case.build(optimizer, TOTAL), []
    for _ in range(TOTAL):
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen
