"""What an optimizer owes: runs with vectors, matrices and convolutions, and nothing that is lost at a stop."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from ptb import InputSpec
from ptb.internals import ComponentConfig, GroupConfig, ParameterGroup, seed_global
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import differing, identical
from ptb_testing.samples import FORMS, Reference, spec_of
from ptb_testing.trial import Trial, component, made

STEPS = 30
PICTURES, VECTORS, TOKENS = InputSpec((1, 8, 8), "image"), FORMS[2], FORMS[3]


class Pair(nn.Module):
    """Two models whose scores are added, and a parameter that takes no part in them."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.first, self.second = Reference(spec), Reference(spec)
        self.idle = nn.Parameter(torch.ones(3, 2))

    def forward(self, inputs: Any) -> Tensor:
        """Inputs of both to their scores."""
        scores: Tensor = self.first(inputs) + self.second(inputs)
        return scores


def trials(case: Case) -> Iterator[Trial]:
    """Models with all shapes of parameters; sparse gradients where it takes only those.

    One that takes neither is tried on matrices alone, beside another one for the rest.
    """
    if "sparse-gradients" in case.component.component.needs:
        model = component("model", "embedding-bag", sparse=True)
        yield Trial.of(case, "sparse gradients", spec_of(TOKENS, "real"), model=model)
        return
    cnn = component("model", "cnn", channels=[4])
    yield Trial.of(case, "convolutions, matrices and biases", spec_of(PICTURES, "class"), model=cnn)
    mlp = component("model", "mlp", hidden=[8])
    yield Trial.of(case, "matrices and biases", spec_of(VECTORS, "real"), model=mlp)
    if not case.tried:
        group = GroupConfig(ParameterGroup(match=None, ndim=2, name=case.entry.id), case.config, ())
        yield Trial.of(
            case,
            "matrices alone, as optimizer.groups can have it",
            spec_of(VECTORS, "real"),
            section="optimizer.groups[0]",
            model=mlp,
            optimizer=component("optimizer", "adamw"),
            groups=(group,),
        )


def lowers_the_loss(case: Case) -> str:
    """Many steps with the default settings lower the loss of the first run; a note where they do not."""
    trial = case.tried[0]
    with closing(trial.compose()) as composed:
        batch = composed.trainer.train_loader.first_batch(trial.partial.loader.batch_size)
        losses = [float(composed.trainer.train_step([batch]).loss) for _ in range(STEPS)]
    if losses[-1] >= losses[0]:
        raise CheckFailed(f"{STEPS} steps took the loss from {losses[0]:.4g} to {losses[-1]:.4g}; is a sign wrong?")
    return f"from {losses[0]:.3g} to {losses[-1]:.3g} in {STEPS} steps"


def obeys_its_learning_rate(case: Case) -> None:
    """With another `lr` in its parameter groups it takes other steps; a note where it has none, or takes the same."""
    if identical(*(_weights(case.tried[0], factor) for factor in (1.0, 0.5))):
        raise CheckFailed(
            "with half the lr in its parameter groups it takes the same steps: read group['lr'] in step()"
        )


def takes_parameter_groups(case: Case) -> None:
    """Parameters may come in groups with a learning rate of their own, which it obeys; a note where it does not."""
    lr, ends = _learning_rate(case), []
    for factor in (1.0, 0.5):
        settings = case.settings.model_copy(update={"lr": factor * lr})
        group = GroupConfig(
            ParameterGroup(match="second.*", ndim=None, name=None), ComponentConfig(case.component, settings), ("lr",)
        )
        trial = _pair(case, groups=(group,))
        ends.append((_weights(trial, steps=1), _weights(trial)))
    first, all_of_them = (differing(*pair) for pair in zip(*ends, strict=True))
    if not all_of_them:
        raise CheckFailed("with half the lr in one group it takes the same steps: read the lr of each group in step()")
    if any(name.startswith("first.") for name in first):
        raise CheckFailed("the lr of one parameter group changes the steps of another one")


def skips_parameters_without_gradient(case: Case) -> None:
    """A parameter without a gradient stays as it is, and does not stop the others; a note where it does not."""
    if not identical(_weights(_pair(case))["idle"], torch.ones(3, 2)):
        raise CheckFailed("it changes a parameter that has no gradient; pass over those whose .grad is None")


OWN = (lowers_the_loss, skips_parameters_without_gradient, obeys_its_learning_rate, takes_parameter_groups)
KIT = Kit(
    checks=(*common.CHECKS, *OWN),
    optional=(skips_parameters_without_gradient, obeys_its_learning_rate, takes_parameter_groups),
    notes=OWN,
    trials=trials,
    may_draw=True,
)


def _pair(case: Case, **sections: Any) -> Trial:
    if case.tried[0].section != "optimizer" or "sparse-gradients" in case.component.component.needs:
        raise Skipped("it does not take all parameters of a model")
    return Trial.of(case, "two models", spec_of(VECTORS, "real"), model=made("model", Pair), **sections)


def _learning_rate(case: Case) -> float:
    with closing(_pair(case).compose()) as composed:
        rate = composed.trainer.optimizer.param_groups[0].get("lr")
    if rate is None or "lr" not in case.model.model_fields:
        raise Skipped("it has no setting lr")
    return float(rate)


def _weights(trial: Trial, factor: float = 1.0, steps: int | None = None) -> dict[str, Tensor]:
    """The weights after a run, or its first steps, that begins with other learning rates."""
    with closing(trial.compose()) as composed:
        for group in composed.trainer.optimizer.param_groups if factor != 1 else ():
            if group.get("lr") is None:
                raise Skipped("its parameter groups hold no lr")
            group["lr"] = factor * group["lr"]
        seed_global(0, "steps")  # it may draw, as from noise
        return dict(trial.fit(composed.trainer, steps).model.named_parameters())
