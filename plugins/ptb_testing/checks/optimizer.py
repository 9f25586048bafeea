"""What an optimizer owes: it makes a loss smaller, obeys its learning rate, and loses nothing at a stop."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.internals import ComponentConfig, GroupConfig, ParameterGroup, Trainer, seed_global
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.in_a_run import fits_a_run, state_survives_a_checkpoint
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import differing, identical
from ptb_testing.samples import spec_of
from ptb_testing.trial import Trial, component

STEPS, SHORT = 100, 4


class Pair(nn.Module):
    """Two models whose scores are added, and a parameter that takes no part in them."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.idle = nn.Parameter(torch.ones(3, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs of both to their scores."""
        scores: Tensor = self.first(inputs) + self.second(inputs)
        return scores


def build(case: Case) -> None:
    """It is one of torch's optimizers, and has learning rates."""
    optimizer = case.build([nn.Parameter(torch.ones(3, 2))])
    if not isinstance(optimizer, Optimizer):
        raise CheckFailed(f"it gives a {type(optimizer).__name__}; the core needs a torch.optim.Optimizer")
    if not all(isinstance(group.get("lr"), int | float | Tensor) for group in optimizer.param_groups):
        raise CheckFailed("its parameter groups hold no 'lr', which the core records and schedulers change")


def use(case: Case) -> Any:
    """The weights after a few steps."""
    trial = _trial(case)
    trainer = trial.trainer()
    for _ in range(SHORT):
        trainer.train_step([trial.batch])
    return dict(trainer.model.named_parameters())


def trials(case: Case) -> Iterator[tuple[str, Trial]]:
    """One run."""
    yield "a linear model", _trial(case)


def lowers_a_quadratic(case: Case) -> str:
    """A hundred steps with the default settings lower the mean squared error of a linear model."""
    trial = _trial(case)
    trainer = trial.trainer()
    losses = [float(trainer.train_step([trial.batch]).loss) for _ in range(STEPS)]
    start, end = losses[0], losses[-1]
    if not math.isfinite(end) or end >= start:
        raise CheckFailed(f"{STEPS} steps took the loss of a quadratic from {start:.4g} to {end:.4g}; is a sign wrong?")
    return f"from {start:.3g} to {end:.3g} in {STEPS} steps"


def obeys_its_learning_rate(case: Case) -> None:
    """`lr` stands in its parameter groups, where schedulers change it, and another one makes another step."""
    ends = []
    for factor in (1.0, 0.5):
        trainer = _trial(case).trainer()
        for group in trainer.optimizer.param_groups:
            group["lr"] = factor * float(group["lr"])
        ends.append(_weights_after(1, _trial(case), trainer))
    if identical(*ends):
        raise CheckFailed("with half the lr in its parameter groups it takes the same step: read group['lr'] in step()")


def takes_parameter_groups(case: Case) -> None:
    """Parameters may come in groups with a learning rate of their own, and it obeys it."""
    lr = float(_trial(case).trainer().optimizer.param_groups[0]["lr"])
    ends = []
    for factor in (1.0, 0.5):
        settings = case.settings.model_copy(update={"lr": factor * lr})
        group = GroupConfig(
            ParameterGroup.model_validate({"match": "second.*"}), ComponentConfig(case.component, settings), ("lr",)
        )
        trial = _trial(case, groups=(group,))
        try:
            trainer = trial.trainer(_pair(trial))
        except CheckFailed as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            raise Skipped(f"it refuses them: {error.__cause__}") from error
        ends.append(_weights_after(1, trial, trainer))
    changed = {name.partition(".")[0] for name in differing(*ends)}
    if "second" not in changed:
        raise CheckFailed("with half the lr in one group it takes the same step: read the lr of each group in step()")
    if "first" in changed:
        raise CheckFailed("the lr of one parameter group changes the steps of another one")


def skips_parameters_without_gradient(case: Case) -> None:
    """A parameter without a gradient stays as it is, and does not stop the others."""
    trial = _trial(case)
    trainer = trial.trainer(_pair(trial))
    if not identical(_weights_after(SHORT, trial, trainer)["idle"], torch.ones(3, 2)):
        raise CheckFailed("it changes a parameter that has no gradient; pass over those whose .grad is None")


KIT = Kit(
    checks=(
        *common.CHECKS,
        fits_a_run,
        lowers_a_quadratic,
        obeys_its_learning_rate,
        takes_parameter_groups,
        skips_parameters_without_gradient,
        state_survives_a_checkpoint,
    ),
    gates=(fits_a_run, obeys_its_learning_rate),
    optional=(takes_parameter_groups,),
    build=build,
    use=use,
    trials=trials,
)


def _trial(case: Case, **sections: Any) -> Trial:
    """Linear regression, whose mean squared error is a quadratic; with sparse gradients where it takes only those."""
    if "sparse-gradients" not in case.component.component.needs:
        return Trial.of(case, spec_of(("vector", (8,)), "real"), **sections)
    model = component("model", "embedding-bag", sparse=True)
    return Trial.of(case, spec_of(("tokens", (12,)), "real"), model=model, **sections)


def _pair(trial: Trial) -> nn.Module:
    return Pair(trial.assembly.model(), trial.assembly.model())


def _weights_after(steps: int, trial: Trial, trainer: Trainer) -> dict[str, Tensor]:
    seed_global(0, "steps")  # it may draw, as from noise
    for _ in range(steps):
        trainer.train_step([trial.batch])
    return {name: parameter.detach() for name, parameter in trainer.model.named_parameters()}
