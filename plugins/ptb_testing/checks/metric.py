"""What a metric owes: figures that depend on the samples it has seen, and on nothing else."""

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ptb import DataSpec
from ptb.internals import (
    component_state,
    decode,
    encode,
    load_component_state,
    one_line,
)
from ptb_testing.case import Case, Check, Kit
from ptb_testing.checks import common
from ptb_testing.checks.in_a_run import fits_a_run
from ptb_testing.checks.support import on_each, on_other_device, other_device, regrouped, taken_specs, unchanged
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.samples import described_scores, scores_of, targets_of
from ptb_testing.trial import Trial

SAMPLES = 24
METHODS = ("update", "compute", "reset")
Figures = dict[str, float]


def build(case: Case) -> list[DataSpec]:
    """The specs that it takes."""

    def problem(metric: Any) -> str:
        missing = [name for name in METHODS if not callable(getattr(metric, name, None))]
        return f"it gives a {type(metric).__name__} without {', '.join(missing)}()" if missing else ""

    return taken_specs(case, problem)


def use(case: Case) -> Any:
    """Its figures."""
    figures = {}
    for spec in case.built:
        metric = case.build(spec)
        metric.update(*_samples(spec))
        figures[described_scores(spec)] = metric.compute()
    return figures


def trials(case: Case) -> Iterator[tuple[str, Trial]]:
    """A run on targets of each kind that it takes."""
    for spec in case.built:
        yield described_scores(spec), Trial.of(case, spec)


def _same_figures(advice: str) -> Callable[[Callable[[Case, DataSpec], Iterator[Figures]]], Check]:
    """Makes a check of other ways to the figures of all samples."""

    def decorate(ways: Callable[[Case, DataSpec], Iterator[Figures]]) -> Check:
        @functools.wraps(ways)
        def check(case: Case, spec: DataSpec) -> None:
            whole = _figures(case.build(spec), _samples(spec))
            for figures in ways(case, spec):
                if not _close(whole, figures):
                    raise CheckFailed(f"it gives {_shown(figures)} instead of {_shown(whole)}: {advice}")

        return on_each(described_scores)(check)

    return decorate


@on_each(described_scores)
def figures_are_finite(case: Case, spec: DataSpec) -> None:
    """On valid scores and targets it computes finite numbers: a float or a tensor of one value, or a dict of them."""
    figures = _figures(case.build(spec), _samples(spec))
    if not figures or not all(map(math.isfinite, figures.values())):
        raise CheckFailed(f"compute() gives {_shown(figures)} on {SAMPLES} valid samples")


@on_each(described_scores)
def arguments_are_left_alone(case: Case, spec: DataSpec) -> None:
    """It changes neither the scores nor the targets, which other metrics get after it."""
    scores, targets = _samples(spec)
    with unchanged(scores=scores, targets=targets):
        _figures(case.build(spec), (scores, targets))


@_same_figures("keep state in self")
def instances_share_nothing(case: Case, spec: DataSpec) -> Iterator[Figures]:
    """Two of them, as one for training and one for evaluation, do not disturb each other."""
    metric, other = case.build(spec), case.build(spec)
    _figures(metric, _samples(spec))
    _figures(other, _samples(spec, seed=1))
    other.reset()
    yield _figures(metric)


@_same_figures("add up sums and counts, and divide in compute()")
def batches_add_up(case: Case, spec: DataSpec) -> Iterator[Figures]:
    """Two uneven batches, also one of a single sample, and another order give the figures of all samples at once."""
    for batches in regrouped(*_samples(spec)):
        yield _figures(case.build(spec), *batches)


@_same_figures("forget all samples in reset()")
def reset_forgets(case: Case, spec: DataSpec) -> Iterator[Figures]:
    """After `reset` it gives what a new one gives."""
    metric = case.build(spec)
    _figures(metric, _samples(spec, seed=1))
    metric.reset()
    yield _figures(metric, _samples(spec))


@_same_figures("leave in compute() what was added up as it is")
def computing_changes_nothing(case: Case, spec: DataSpec) -> Iterator[Figures]:
    """`compute` gives the same when it is asked again, and more batches may follow it."""
    metric, (first, second) = case.build(spec), next(regrouped(*_samples(spec)))
    _figures(metric, first)
    yield _figures(metric, second)
    yield _figures(metric)


@_same_figures("compute the same in inference mode")
def works_in_evaluation(case: Case, spec: DataSpec) -> Iterator[Figures]:
    """Used before, reset, and updated in inference mode, it gives the figures that it gives outside of it."""
    metric = case.build(spec)
    with torch.no_grad():
        _figures(metric, _samples(spec, seed=1))
    for _ in range(2):  # two epochs
        with torch.inference_mode():
            metric.reset()
            figures = _figures(metric, _samples(spec))
        yield figures


@_same_figures("keep its state in state_dict(), or in plain attributes of an object that has no state_dict()")
def state_survives_a_checkpoint(case: Case, spec: DataSpec) -> Iterator[Figures]:
    """Saved between two batches and loaded into a new one, it gives the figures of one that was not saved."""
    metric, resumed, (first, second) = case.build(spec), case.build(spec), next(regrouped(*_samples(spec)))
    _figures(metric, first)
    load_component_state(resumed, decode(encode(component_state(metric))))
    yield _figures(resumed, second)


@on_each(described_scores)
def details_are_json(case: Case, spec: DataSpec) -> None:
    """`details()`, which a metric may have, gives a dict of JSON values, without NaN, after one sample too."""
    metric = case.build(spec)
    if not hasattr(metric, "details"):
        raise Skipped("it has no details()")
    for size in (SAMPLES, 1):
        metric.reset()
        metric.update(*(part[:size] for part in _samples(spec)))
        details = metric.details()
        try:
            json.dumps(details, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CheckFailed(f"details() after {size} samples cannot be JSON: {one_line(error)}") from error
        if not isinstance(details, dict):
            raise CheckFailed(f"details() must give a dict, it gives a {type(details).__name__}")


@on_each(described_scores)
def works_on_a_device(case: Case, spec: DataSpec) -> str:
    """It takes scores and targets of another device."""
    device = other_device()
    metric = case.build(spec)
    if isinstance(metric, nn.Module):
        nn.Module.to(metric, device)
    scores, targets = _samples(spec)
    with on_other_device(device):
        metric.update(scores.to(device), targets.to(device))
    return f"tried on {device}"


KIT = Kit(
    checks=(
        *common.CHECKS,
        figures_are_finite,
        fits_a_run,
        arguments_are_left_alone,
        instances_share_nothing,
        batches_add_up,
        reset_forgets,
        computing_changes_nothing,
        works_in_evaluation,
        state_survives_a_checkpoint,
        details_are_json,
        works_on_a_device,
    ),
    gates=(
        figures_are_finite,
        fits_a_run,
        instances_share_nothing,
        batches_add_up,
        reset_forgets,
        computing_changes_nothing,
    ),
    optional=(details_are_json, works_on_a_device),
    build=build,
    use=use,
    trials=trials,
)


def _samples(spec: DataSpec, seed: int = 0) -> tuple[Tensor, Tensor]:
    return scores_of(spec, SAMPLES, seed), targets_of(spec, SAMPLES, seed)


def _figures(metric: Any, *batches: tuple[Tensor, Tensor]) -> Figures:
    """What it computes after these batches, by name; a single figure has none."""
    for scores, targets in batches:
        metric.update(scores, targets)
    value = metric.compute()
    try:
        return {name: float(each) for name, each in (value if isinstance(value, Mapping) else {"": value}).items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckFailed(f"compute() gives {value!r}, no number and no dict of numbers: {one_line(error)}") from error


def _close(one: Figures, other: Figures) -> bool:
    return one.keys() == other.keys() and all(
        math.isclose(value, other[name], rel_tol=1e-4, abs_tol=1e-6) or (math.isnan(value) and math.isnan(other[name]))
        for name, value in one.items()
    )


def _shown(figures: Figures) -> str:
    return ", ".join(f"{name}={value:g}".removeprefix("=") for name, value in figures.items()) or "no figure"
