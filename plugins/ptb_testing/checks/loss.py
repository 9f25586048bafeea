"""What a loss owes: one finite number that its gradient belongs to, for every kind of targets that it accepts."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError
from torch.autograd.gradcheck import gradcheck as torch_gradcheck

from ptb import DataSpec
from ptb.internals import Batch, Objective, RunningMetrics, one_line
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.in_a_run import fits_a_run, state_survives_a_checkpoint
from ptb_testing.checks.support import on_each, on_other_device, other_device, regrouped, taken_specs, unchanged
from ptb_testing.outcome import CheckFailed
from ptb_testing.process import identical
from ptb_testing.samples import BATCH, described_scores, scores_of, targets_of
from ptb_testing.trial import CPU, Trial

SCALES = (1.0, 100.0)
SAMPLES = 24


def build(case: Case) -> list[DataSpec]:
    """The specs that it takes."""
    return taken_specs(case, lambda loss: "" if callable(loss) else f"it gives a {type(loss).__name__}: not callable")


def use(case: Case) -> Any:
    """Its values and their gradients."""
    return {described_scores(spec): [*_value_and_gradient(case.build(spec), spec)] for spec in case.built}


def trials(case: Case) -> Iterator[tuple[str, Trial]]:
    """A run on targets of each kind that it takes."""
    for spec in case.built:
        yield described_scores(spec), Trial.of(case, spec)


@on_each(described_scores)
def gradient_reaches_the_scores(case: Case, spec: DataSpec) -> None:
    """Its gradient with respect to the scores is there, and is not 0 everywhere."""
    _, gradient = _value_and_gradient(case.build(spec), spec)
    if not bool(gradient.any()):
        raise CheckFailed("no gradient reaches the scores, so nothing can be learned: is something detached?")


@on_each(described_scores)
def value_is_finite(case: Case, spec: DataSpec) -> None:
    """For scores of usual size, and for a hundred times as large ones, value and gradient are finite."""
    for scale in SCALES:
        value, gradient = _value_and_gradient(case.build(spec), spec, scale)
        if not bool(torch.isfinite(value).all()):
            raise CheckFailed(
                f"of scores times {scale:g} the loss is {float(value.mean())}: compute on logits, with log_softmax, "
                "logsigmoid or logsumexp"
            )
        if not bool(torch.isfinite(gradient).all()):
            raise CheckFailed(f"of scores times {scale:g} the gradient is not finite")


@on_each(described_scores)
def gradcheck(case: Case, spec: DataSpec) -> None:
    """Its gradient is that of finite differences, in float64."""
    loss, targets = case.build(spec), targets_of(spec)
    scores = _scores(loss, spec).double().requires_grad_()
    loss = loss.double() if isinstance(loss, nn.Module) else loss
    targets = targets.double() if targets.is_floating_point() else targets
    try:
        torch_gradcheck(lambda scores: loss(scores, targets), scores)
    except GradcheckError as error:
        what = one_line(error).partition(",")[0]  # then come the numbers, all of them
        raise CheckFailed(f"backward() does not give the gradient of the values: {what}") from error


@on_each(described_scores)
def arguments_are_left_alone(case: Case, spec: DataSpec) -> None:
    """It changes neither the scores nor the targets, which the metrics get after it."""
    loss = case.build(spec)
    scores, targets = _scores(loss, spec), targets_of(spec)
    with unchanged(scores=scores, targets=targets):
        loss(scores, targets)


@on_each(described_scores)
def same_value_in_evaluation(case: Case, spec: DataSpec) -> None:
    """In inference mode, in which the core evaluates, it gives the value that it gives in training."""
    loss, targets = case.build(spec), targets_of(spec)
    scores = _scores(loss, spec)
    trained = loss(scores.requires_grad_(), targets).detach()
    with torch.inference_mode():
        evaluated = loss(scores.detach(), targets)
    if not identical(trained, evaluated.clone()):
        raise CheckFailed(f"it is {float(trained.mean()):g} in training and {float(evaluated.mean()):g} there")


@on_each(described_scores)
def batches_add_up(case: Case, spec: DataSpec) -> str | None:
    """Uneven batches, counted by samples or `denominator`, and another order have the loss of all samples at once."""
    loss = case.build(spec)
    if getattr(loss, "couples_samples", False):
        return "it couples the samples of a batch, so that two halves differ from the whole"
    scores, targets = _scores(loss, spec, SAMPLES), targets_of(spec, SAMPLES)
    whole = _mean(loss, spec, (scores, targets))
    for batches in regrouped(scores, targets):
        parts, sizes = _mean(case.build(spec), spec, *batches), " and ".join(str(len(some)) for _, some in batches)
        if not math.isclose(whole, parts, rel_tol=1e-4, abs_tol=1e-6):
            raise CheckFailed(
                f"all {SAMPLES} samples at once have the loss {whole:g}, the same in batches of {sizes} {parts:g}: is "
                "a `[B]` broadcast against a `[B, 1]`? A mean that is not over samples needs a method "
                "denominator(targets), which gives one number"
            )
    return None


@on_each(described_scores)
def moves_to_a_device(case: Case, spec: DataSpec) -> str:
    """Moved to another device, if it is a module, it takes scores and targets of that device."""
    device = other_device()
    loss = case.build(spec)
    loss = loss.to(device) if isinstance(loss, nn.Module) else loss
    with on_other_device(device):
        loss(_scores(loss, spec).to(device), targets_of(spec).to(device))
    return f"tried on {device}"


KIT = Kit(
    checks=(
        *common.CHECKS,
        gradient_reaches_the_scores,
        fits_a_run,
        value_is_finite,
        gradcheck,
        arguments_are_left_alone,
        same_value_in_evaluation,
        batches_add_up,
        state_survives_a_checkpoint,
        moves_to_a_device,
    ),
    gates=(gradient_reaches_the_scores, fits_a_run, batches_add_up),
    optional=(moves_to_a_device,),
    build=build,
    use=use,
    trials=trials,
)


def _value_and_gradient(loss: Any, spec: DataSpec, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient with respect to the scores; zeros where none reaches them."""
    scores = (scale * _scores(loss, spec)).requires_grad_()
    value = loss(scores, targets_of(spec))
    if value.requires_grad:
        value.mean().backward()
    return value.detach(), torch.zeros_like(scores) if scores.grad is None else scores.grad


def _scores(loss: Any, spec: DataSpec, count: int = BATCH) -> Tensor:
    """As many scores as the loss asks for."""
    return scores_of(spec.with_output(getattr(loss, "output_size", spec.output_size)), count)


def _mean(loss: Any, spec: DataSpec, *batches: tuple[Tensor, Tensor]) -> float:
    """The loss over batches, as a run adds it up."""
    objective = Objective(nn.Identity(), loss, CPU, positions=spec.target_form == "class+positions")
    running = RunningMetrics(objective, {})
    for scores, targets in batches:
        batch = Batch(scores, targets)
        running.add(scores, batch, objective.mean_loss(scores, batch).detach())
    return running.compute()["loss"]
