"""What a loss owes: one finite number that its gradient belongs to, for every kind of targets that it accepts."""

import math
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError
from torch.autograd.gradcheck import gradcheck as torch_gradcheck

from ptb.internals import Batch, Objective, RunningMetrics, map_leaves, one_line, scores_of
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.support import (
    at,
    check_accepts,
    every_run,
    on_each,
    on_other_device,
    other_device,
    regrouped,
    runs_with_targets,
    unchanged,
)
from ptb_testing.outcome import CheckFailed
from ptb_testing.process import identical
from ptb_testing.trial import Sample, Trial, refused

LARGE = 100.0


def value(sample: Sample, scores: Tensor) -> Tensor:
    """The loss of these scores, in the place of the model's."""
    outputs = sample.outputs | {"scores": scores} if isinstance(sample.outputs, dict) else scores
    return sample.objective.loss_values(outputs, sample.batch.targets)


def value_and_gradient(sample: Sample, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """The loss of the scores times ``scale``, and its gradient with respect to them."""
    scores = (scale * scores_of(sample.outputs)).requires_grad_()
    loss = value(sample, scores)
    loss.mean().backward()  # type: ignore[no-untyped-call]
    return loss.detach(), torch.zeros_like(scores) if scores.grad is None else scores.grad


@on_each(every_run)
def gradient_reaches_the_scores(case: Case, trial: Trial) -> None:
    """Its gradient with respect to the scores is not 0 everywhere, and finite for a hundred times as large ones too."""
    for scale in (1.0, LARGE):
        loss, gradient = value_and_gradient(trial.samples, scale)
        if not bool(gradient.any()):
            raise CheckFailed("no gradient reaches the scores, so nothing can be learned: is something detached?")
        if not bool(torch.isfinite(loss).all()) or not bool(torch.isfinite(gradient).all()):
            raise CheckFailed(
                f"of scores times {scale:g} the loss is {float(loss.mean())}, or its gradient is not finite: compute "
                "on logits, with log_softmax, logsigmoid or logsumexp"
            )


@on_each(every_run)
def gradcheck(case: Case, trial: Trial) -> None:
    """Its gradient is that of finite differences, in float64."""
    sample = _moved(trial.sample(), slice(4), torch.float64)
    try:
        torch_gradcheck(partial(value, sample), scores_of(sample.outputs).requires_grad_())
    except GradcheckError as error:
        what = one_line(error).partition(",")[0]  # then come the numbers, all of them
        raise CheckFailed(f"backward() does not give the gradient of the values: {what}") from error


@on_each(every_run)
def arguments_are_left_alone(case: Case, trial: Trial) -> None:
    """It changes neither the scores nor the targets, which the metrics get after it."""
    sample = trial.sample()
    scores = scores_of(sample.outputs)
    with unchanged(scores=scores, targets=sample.batch.targets):
        value(sample, scores)


@on_each(every_run)
def same_value_in_evaluation(case: Case, trial: Trial) -> None:
    """In inference mode, in which the core evaluates, it gives the value that it gives in training."""
    scores = scores_of(trial.samples.outputs)
    trained = value(trial.samples, scores.clone().requires_grad_()).detach()
    with torch.inference_mode():
        evaluated = value(trial.samples, scores)
    if not identical(trained, evaluated.clone()):
        raise CheckFailed(f"it is {float(trained.mean()):g} in training and {float(evaluated.mean()):g} there")


@on_each(every_run)
def batches_add_up(case: Case, trial: Trial) -> str | None:
    """Uneven batches, counted by samples or `denominator`, have the loss of all samples at once, unless it says not."""
    objective, outputs, batch = trial.samples
    if getattr(objective.loss, "couples_samples", False):
        return "it says that it couples the samples of a batch"
    whole = _mean(objective, (outputs, batch))
    for places in regrouped(batch):
        parts = _mean(objective, *((at(place, outputs), batch.map(itemgetter(place))) for place in places))
        if not math.isclose(whole, parts, rel_tol=1e-4, abs_tol=1e-6):
            raise CheckFailed(
                f"{batch.size} samples at once have the loss {whole:g}, the same in {len(places)} parts "
                f"{parts:g}: is a `[B]` broadcast against a `[B, 1]`? A mean that is not over samples needs a method "
                "denominator(targets), which gives one number; a loss of pairs of samples couples_samples = True"
            )
    accumulated = Trial.of(case, trial.what, trial.spec, trainer={"accumulate": 2}, model=trial.partial.model)
    with refused():
        accumulated.run()
    return None


@on_each(every_run)
def moves_to_a_device(case: Case, trial: Trial) -> str:
    """Moved to another device, if it is a module, it takes scores and targets of that device."""
    device = other_device()
    sample = _moved(trial.sample(), slice(None), device)
    with on_other_device(device):
        value(sample, scores_of(sample.outputs))
    return f"tried on {device}"


KIT = Kit(
    checks=(
        *common.CHECKS,
        gradient_reaches_the_scores,
        gradcheck,
        arguments_are_left_alone,
        same_value_in_evaluation,
        batches_add_up,
        moves_to_a_device,
    ),
    gates=(batches_add_up,),
    optional=(moves_to_a_device,),
    notes=(gradient_reaches_the_scores, gradcheck, same_value_in_evaluation, moves_to_a_device),
    trials=runs_with_targets,
    check_tried=check_accepts,
)


def _mean(objective: Objective, *batches: tuple[Any, Batch]) -> float:
    """The loss over batches, as a run adds it up."""
    running = RunningMetrics(objective, {})
    for outputs, batch in batches:
        running.add(scores_of(outputs), batch, objective.mean_loss(outputs, batch).detach())
    return running.compute()["loss"]


def _moved(sample: Sample, place: slice, where: torch.dtype | torch.device) -> Sample:
    """Some of the samples, and the loss if it is a module, in another type or on another device."""

    def move(each: Any) -> Any:
        kept = not isinstance(each, Tensor) or (isinstance(where, torch.dtype) and not each.is_floating_point())
        return each if kept else each.to(where)

    if isinstance(sample.objective.loss, nn.Module):
        sample.objective.loss.to(where)
    outputs, batch = at(place, sample.outputs), sample.batch.map(itemgetter(place))
    return Sample(sample.objective, map_leaves(move, outputs), batch.map(move))
