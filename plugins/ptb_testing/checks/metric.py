"""What a metric owes: a number that depends on the samples it has seen, and on nothing else."""

import json
import math
from typing import Any

import torch
from torch import Tensor, nn

from ptb.data.spec import DataSpec
from ptb.errors import one_line
from ptb.seeding import generator
from ptb_testing.case import Case, Kit
from ptb_testing.checks.support import all_given, nothing_fits, on, on_other_device, other_device, refusals, unchanged
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.samples import described_scores, scores_of, target_specs, targets_of

SAMPLES = 24
FIRST = 17  # an uneven cut: the mean of two means is another number than the mean
METHODS = ("update", "compute", "reset")


def build(case: Case) -> list[DataSpec]:
    """The specs that it takes: all that are given, else one or more of each target kind that it declares."""
    declared = case.entry.component.accepts
    refused: dict[str, str] = {}
    taken = []
    for spec in case.specs or target_specs(declared):
        with refusals(described_scores(spec), refused):
            metric = case.build(spec)
            missing = [name for name in METHODS if not callable(getattr(metric, name, None))]
            if missing:
                raise CheckFailed(f"it gives a {type(metric).__name__} without {', '.join(missing)}()")
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
    """Its figures."""
    figures = {}
    for spec in case.built:
        metric = case.build(spec)
        metric.update(*_samples(spec))
        figures[described_scores(spec)] = metric.compute()
    return figures


def figure_is_a_finite_number(case: Case) -> None:
    """On valid scores and targets it computes a finite number: a float, or a tensor of one value."""
    for spec in case.built:
        with on(described_scores(spec)):
            metric = case.build(spec)
            metric.update(*_samples(spec))
            figure = metric.compute()
            try:
                number = float(figure)
            except (TypeError, ValueError, RuntimeError) as error:
                raise CheckFailed(f"compute() gives {figure!r}, which is no number: {one_line(error)}") from error
            if not math.isfinite(number):
                raise CheckFailed(f"compute() gives {number} on {SAMPLES} valid samples")


def batches_add_up(case: Case) -> None:
    """Two uneven batches give the figure that all samples at once give."""
    for spec in case.built:
        with on(described_scores(spec)):
            scores, targets = _samples(spec)
            whole = _figure(case.build(spec), (scores, targets))
            parts = _figure(case.build(spec), (scores[:FIRST], targets[:FIRST]), (scores[FIRST:], targets[FIRST:]))
            if not _close(whole, parts):
                raise CheckFailed(
                    f"all {SAMPLES} samples at once give {whole:g}, in two batches {parts:g}: add up sums and counts, "
                    "and divide in compute()"
                )


def reset_forgets(case: Case) -> None:
    """After `reset` it gives what a new one gives."""
    for spec in case.built:
        with on(described_scores(spec)):
            metric, samples = case.build(spec), _samples(spec)
            _figure(metric, _samples(spec, seed=1))
            metric.reset()
            after, new = _figure(metric, samples), _figure(case.build(spec), samples)
            if not _close(after, new):
                raise CheckFailed(f"after reset() it gives {after:g}, a new one {new:g}")


def computing_changes_nothing(case: Case) -> None:
    """`compute` gives the same when it is asked again, and more batches may follow it."""
    for spec in case.built:
        with on(described_scores(spec)):
            metric = case.build(spec)
            (scores, targets), new = _samples(spec), case.build(spec)
            metric.update(scores[:FIRST], targets[:FIRST])
            first, again = float(metric.compute()), float(metric.compute())
            if not _close(first, again):
                raise CheckFailed(f"asked twice, compute() gives {first:g} and then {again:g}")
            after = _figure(metric, (scores[FIRST:], targets[FIRST:]))
            if not _close(after, whole := _figure(new, (scores, targets))):
                raise CheckFailed(f"with a compute() between two batches it gives {after:g} instead of {whole:g}")


def arguments_are_left_alone(case: Case) -> None:
    """It changes neither the scores nor the targets, which other metrics get after it."""
    for spec in case.built:
        scores, targets = _samples(spec)
        with on(described_scores(spec)), unchanged(scores=scores, targets=targets):
            _figure(case.build(spec), (scores, targets))


def works_on_one_sample(case: Case) -> None:
    """It takes a batch of one sample, as the last one of an epoch may be."""
    for spec in case.built:
        with on(f"{described_scores(spec)}, a batch of one sample"):
            scores, targets = _samples(spec)
            whole = _figure(case.build(spec), (scores, targets))
            parts = _figure(case.build(spec), (scores[:-1], targets[:-1]), (scores[-1:], targets[-1:]))
            if not _close(whole, parts):
                raise CheckFailed(f"all samples at once give {whole:g}, with the last one alone {parts:g}")


def order_of_samples_does_not_matter(case: Case) -> None:
    """The same samples in another order have the same figure."""
    for spec in case.built:
        with on(described_scores(spec)):
            scores, targets = _samples(spec)
            order = torch.randperm(SAMPLES, generator=generator(0, "order"))
            one = _figure(case.build(spec), (scores, targets))
            other = _figure(case.build(spec), (scores[order], targets[order]))
            if not _close(one, other):
                raise CheckFailed(f"the figure is {one:g} in one order of the samples and {other:g} in another")


def instances_share_nothing(case: Case) -> None:
    """Two of them, as one for training and one for evaluation, do not disturb each other."""
    for spec in case.built:
        with on(described_scores(spec)):
            metric, other = case.build(spec), case.build(spec)
            metric.update(*_samples(spec))
            before = float(metric.compute())
            _figure(other, _samples(spec, seed=1))
            other.reset()
            if not _close(before, after := float(metric.compute())):
                raise CheckFailed(f"it gives {before:g}, and {after:g} once another one was used: keep state in self")


def works_in_evaluation(case: Case) -> None:
    """Used before, reset, and updated in inference mode, it gives the figure that it gives outside of it."""
    for spec in case.built:
        with on(described_scores(spec)):
            metric, samples = case.build(spec), _samples(spec)
            outside = _figure(case.build(spec), samples)
            with torch.no_grad():
                metric.update(*_samples(spec, seed=1))
                float(metric.compute())
            metric.reset()
            for _ in range(2):  # two epochs
                with torch.inference_mode():
                    metric.reset()
                    inside = _figure(metric, samples)
                if not _close(outside, inside):
                    raise CheckFailed(f"it gives {outside:g} outside of inference mode and {inside:g} inside")


def details_are_json(case: Case) -> None:
    """`details()`, which a metric may have, gives a dict of JSON values, without NaN, after one sample too."""
    for spec in case.built:
        with on(described_scores(spec)):
            metric = case.build(spec)
            if not hasattr(metric, "details"):
                raise Skipped("it has no details()")
            for count in (SAMPLES, 1):
                metric.reset()
                metric.update(*(part[:count] for part in _samples(spec)))
                details = metric.details()
                try:
                    json.dumps(details, allow_nan=False)
                except (TypeError, ValueError) as error:
                    raise CheckFailed(f"details() after {count} samples cannot be JSON: {one_line(error)}") from error
                if not isinstance(details, dict):
                    raise CheckFailed(f"details() must give a dict, it gives a {type(details).__name__}")


def works_on_a_device(case: Case) -> str:
    """It takes scores and targets of another device."""
    device = other_device()
    for spec in case.built:
        with on(described_scores(spec)):
            metric = case.build(spec)
            if isinstance(metric, nn.Module):
                nn.Module.to(metric, device)
            scores, targets = _samples(spec)
            with on_other_device(device):
                metric.update(scores.to(device), targets.to(device))
    return f"tried on {device}"


KIT = Kit(
    build=build,
    use=use,
    may_draw=False,
    checks=(
        figure_is_a_finite_number,
        arguments_are_left_alone,
        instances_share_nothing,
        batches_add_up,
        works_on_one_sample,
        order_of_samples_does_not_matter,
        reset_forgets,
        computing_changes_nothing,
        works_in_evaluation,
        details_are_json,
        works_on_a_device,
    ),
    gates=(figure_is_a_finite_number, instances_share_nothing, batches_add_up, reset_forgets),
    optional=(details_are_json, works_on_a_device),
)


def _samples(spec: DataSpec, seed: int = 0) -> tuple[Tensor, Tensor]:
    return scores_of(spec, SAMPLES, seed), targets_of(spec, SAMPLES, seed)


def _figure(metric: Any, *batches: tuple[Tensor, Tensor]) -> float:
    for scores, targets in batches:
        metric.update(scores, targets)
    return float(metric.compute())


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6) or (math.isnan(one) and math.isnan(other))
