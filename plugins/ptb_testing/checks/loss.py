"""What a loss owes: one finite number that its gradient belongs to, for every kind of targets that it accepts."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError
from torch.autograd.gradcheck import gradcheck as torch_gradcheck

from ptb.data.spec import DataSpec
from ptb.errors import listing, one_line
from ptb.seeding import generator
from ptb_testing.case import Case, Kit
from ptb_testing.checks.support import all_given, nothing_fits, on, on_other_device, other_device, refusals, unchanged
from ptb_testing.outcome import CheckFailed
from ptb_testing.samples import described_scores, scores_of, target_specs, targets_of
from ptb_testing.state import identical

Loss = Callable[[Tensor, Tensor], Tensor]
LARGE = 100.0
SAMPLES = 24
FIRST = 17  # an uneven cut: the mean of two means is another number than the mean


def build(case: Case) -> list[DataSpec]:
    """The specs that it takes: all that are given, else one or more of each target kind that it declares."""
    declared = case.entry.component.accepts
    refused: dict[str, str] = {}
    taken = []
    for spec in case.specs or target_specs(declared):
        with refusals(described_scores(spec), refused):
            loss = case.build(spec)
            if not callable(loss):
                raise CheckFailed(f"it gives a {type(loss).__name__}, which cannot be called with scores and targets")
            taken.append(spec)
    if case.specs:
        return all_given(taken, refused)
    if not taken:
        raise nothing_fits(refused)
    if set(declared) - {spec.target for spec in taken}:
        what, reason = next(iter(refused.items()))
        raise CheckFailed(f"it declares accepts={declared}, and refuses {what}: {reason}")
    return taken


def use(case: Case) -> Any:
    """Its values and their gradients."""
    return {described_scores(spec): _value_and_gradient(case.build(spec), spec) for spec in case.built}


def value_has_the_right_form(case: Case) -> None:
    """It gives a floating-point scalar, or one value a sample with the batch as the first dimension."""
    for spec in case.built:
        with on(described_scores(spec)):
            scores = scores_of(spec)
            value = case.build(spec)(scores, targets_of(spec))
            if not isinstance(value, Tensor):
                raise CheckFailed(f"it gives a {type(value).__name__}; the core needs a tensor")
            if not value.is_floating_point() or (value.ndim and len(value) != len(scores)):
                raise CheckFailed(
                    f"for {len(scores)} samples it gives {value.dtype} {list(value.shape)}; the core needs a "
                    "floating-point scalar, or a first dimension of one value a sample"
                )


def value_is_finite(case: Case) -> None:
    """For scores of usual size, and for a hundred times as large ones, value and gradient are finite."""
    for spec in case.built:
        for scale in (1.0, LARGE):
            with on(f"{described_scores(spec)}, scores times {scale:g}"):
                value, gradient = _value_and_gradient(case.build(spec), spec, scale)
                if not bool(torch.isfinite(value).all()):
                    raise CheckFailed(
                        f"the loss is {float(value.detach().mean())}: compute on logits, with log_softmax, logsigmoid "
                        "or logsumexp"
                    )
                if not bool(torch.isfinite(gradient).all()):
                    raise CheckFailed("the gradient is not finite")


def gradient_reaches_the_scores(case: Case) -> None:
    """Its gradient with respect to the scores is there, and is not 0 everywhere."""
    for spec in case.built:
        with on(described_scores(spec)):
            _, gradient = _value_and_gradient(case.build(spec), spec)
            if not bool(gradient.any()):
                raise CheckFailed("no gradient reaches the scores, so nothing can be learned: is something detached?")


def gradcheck(case: Case) -> None:
    """Its gradient is that of finite differences, in float64."""
    for spec in case.built:
        with on(described_scores(spec)):
            loss = _double(case.build(spec))
            targets = targets_of(spec)
            targets = targets.double() if targets.is_floating_point() else targets
            scores = scores_of(spec).double().requires_grad_()
            try:
                torch_gradcheck(lambda values, f=loss, y=targets: f(values, y), scores)
            except GradcheckError as error:
                what = one_line(error).partition(",")[0]  # then come the numbers, all of them
                raise CheckFailed(f"backward() does not give the gradient of the values: {what}") from error


def arguments_are_left_alone(case: Case) -> None:
    """It changes neither the scores nor the targets, which the metrics get after it."""
    for spec in case.built:
        scores, targets = scores_of(spec), targets_of(spec)
        with on(described_scores(spec)), unchanged(scores=scores, targets=targets):
            case.build(spec)(scores, targets)


def works_on_one_sample(case: Case) -> None:
    """It takes a batch of one sample, as the last one of an epoch may be."""
    for spec in case.built:
        with on(f"{described_scores(spec)}, a batch of one sample"):
            value = case.build(spec)(scores_of(spec, 1), targets_of(spec, 1))
            if not bool(torch.isfinite(value).all()):
                raise CheckFailed(f"the loss is {float(value.mean())}")


def order_of_samples_does_not_matter(case: Case) -> None:
    """The same samples in another order have the same loss."""
    for spec in case.built:
        with on(described_scores(spec)):
            loss, scores, targets = case.build(spec), scores_of(spec, 16), targets_of(spec, 16)
            order = torch.randperm(16, generator=generator(0, "order"))
            one, other = loss(scores, targets).mean(), loss(scores[order], targets[order]).mean()
            if not torch.allclose(one, other, rtol=1e-4, atol=1e-6):
                raise CheckFailed(
                    f"the loss is {float(one):g} in one order of the samples and {float(other):g} in another"
                )


def same_value_in_evaluation(case: Case) -> None:
    """In inference mode, in which the core evaluates, it gives the value that it gives in training."""
    for spec in case.built:
        with on(described_scores(spec)):
            loss, scores, targets = case.build(spec), scores_of(spec), targets_of(spec)
            trained = loss(scores.requires_grad_(), targets).detach()
            with torch.inference_mode():
                evaluated = loss(scores.detach(), targets)
            if not identical(trained, evaluated.clone()):
                raise CheckFailed(f"it is {float(trained.mean()):g} in training and {float(evaluated.mean()):g} there")


def has_nothing_to_train(case: Case) -> None:
    """It has no parameters to train: the optimizer and the checkpoints get those of the model alone."""
    for spec in case.built:
        with on(described_scores(spec)):
            loss = case.build(spec)
            named = loss.named_parameters() if isinstance(loss, nn.Module) else ()
            if trained := [name for name, parameter in named if parameter.requires_grad]:
                raise CheckFailed(
                    f"nothing trains or saves its {listing(trained, 5)}: make a setting of it, or a part of the model"
                )


def moves_to_a_device(case: Case) -> str:
    """Moved to another device, if it is a module, it takes scores and targets of that device."""
    device = other_device()
    for spec in case.built:
        with on(described_scores(spec)):
            loss = case.build(spec)
            loss = loss.to(device) if isinstance(loss, nn.Module) else loss
            with on_other_device(device):
                loss(scores_of(spec).to(device), targets_of(spec).to(device))
    return f"tried on {device}"


def batches_add_up(case: Case) -> None:
    """Two uneven batches, counted by their samples or their `denominator`, have the loss of all samples at once."""
    for spec in case.built:
        with on(described_scores(spec)):
            loss, scores, targets = case.build(spec), scores_of(spec, SAMPLES), targets_of(spec, SAMPLES)
            whole = _mean(case, loss, (scores, targets))
            parts = _mean(case, loss, (scores[:FIRST], targets[:FIRST]), (scores[FIRST:], targets[FIRST:]))
            if not math.isclose(whole, parts, rel_tol=1e-4, abs_tol=1e-6):
                raise CheckFailed(
                    f"all {SAMPLES} samples at once have the loss {whole:g}, in two batches {parts:g}: is a `[B]` "
                    "broadcast against a `[B, 1]`? A mean that is not over samples needs a method denominator(targets)"
                )


KIT = Kit(
    build=build,
    use=use,
    may_draw=False,
    checks=(
        value_has_the_right_form,
        value_is_finite,
        gradient_reaches_the_scores,
        gradcheck,
        arguments_are_left_alone,
        works_on_one_sample,
        order_of_samples_does_not_matter,
        same_value_in_evaluation,
        has_nothing_to_train,
        moves_to_a_device,
        batches_add_up,
    ),
    gates=(
        value_has_the_right_form,
        gradient_reaches_the_scores,
        works_on_one_sample,
        order_of_samples_does_not_matter,
    ),
    optional=(moves_to_a_device,),
)


def _value_and_gradient(loss: Loss, spec: DataSpec, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient with respect to the scores; zeros where none reaches them."""
    scores = (scale * scores_of(spec)).requires_grad_()
    value = loss(scores, targets_of(spec))
    if value.requires_grad:
        value.mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return value.detach(), torch.zeros_like(scores) if scores.grad is None else scores.grad


def _mean(case: Case, loss: Any, *batches: tuple[Tensor, Tensor]) -> float:
    """The loss over batches as the core tells it: a mean weighted by denominators, or the sum by the samples."""
    reduction = getattr(case.settings, "reduction", "mean")
    own = getattr(loss, "denominator", None)
    denominator = own if callable(own) and reduction == "mean" else len
    total, counted = 0.0, 0.0
    for scores, targets in batches:
        count = denominator(targets)
        if isinstance(count, Tensor) and count.ndim:
            raise CheckFailed(f"denominator(targets) must give one number, it gives a tensor {list(count.shape)}")
        counted += float(count)
        total += float(loss(scores, targets).detach().mean()) * (1.0 if reduction == "sum" else float(count))
    return total / counted


def _double(loss: Loss) -> Loss:
    return loss.double() if isinstance(loss, nn.Module) else loss
