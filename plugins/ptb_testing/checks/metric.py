"""What a metric owes: figures that depend on the samples it has seen, and on nothing else."""

import functools
import json
import math
from collections.abc import Callable, Iterator
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ptb import DataSpec
from ptb.internals import Batch, RunningMetrics, one_line
from ptb_testing.case import Case, Check, Kit
from ptb_testing.checks import common
from ptb_testing.checks.support import (
    check_accepts,
    every_run,
    on_each,
    on_other_device,
    other_device,
    regrouped,
    runs_with_targets,
    unchanged,
)
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.samples import inputs_of, targets_of
from ptb_testing.trial import LABEL, TRAIN, Sample, Trial

Figures = dict[str, float]
Part = tuple[Tensor, Batch]  # what metrics get


class Tried:
    """The metrics of a run, fed as the core feeds them, and samples with what the model of the run makes of them."""

    def __init__(self, case: Case, trial: Trial) -> None:
        self.objective, outputs, batch = trial.samples
        others = Sample.of(self.objective, _samples(trial.spec, seed=1))
        self.part: Part = (self.objective.predictions(outputs), batch)
        self.others: Part = (self.objective.predictions(others.outputs), others.batch)
        self.build = functools.partial(case.build, trial.spec)

    def running(self, metric: Any = None) -> RunningMetrics:
        """A metric, reset, or a new one."""
        return RunningMetrics(self.objective, {LABEL: metric if metric is not None else self.build()})

    def figures(self, running: RunningMetrics, *parts: Part) -> Figures:
        """What it computes after these batches."""
        for scores, batch in parts:
            running.add(scores, batch, torch.zeros(()))
            running.flush()
        figures = running.compute()
        return {name.removeprefix(LABEL).removeprefix("/"): each for name, each in figures.items() if name != "loss"}


def _same_figures(advice: str) -> Callable[[Callable[[Tried], Iterator[Figures]]], Check]:
    """Makes a check of other ways to the figures of all samples."""

    def decorate(ways: Callable[[Tried], Iterator[Figures]]) -> Check:
        @functools.wraps(ways)
        def check(case: Case, trial: Trial) -> None:
            tried = Tried(case, trial)
            whole = tried.figures(tried.running(), tried.part)
            for figures in ways(tried):
                if not _close(whole, figures):
                    raise CheckFailed(f"it gives {_shown(figures)} instead of {_shown(whole)}: {advice}")

        return on_each(every_run)(check)

    return decorate


@on_each(every_run)
def figures_are_finite(case: Case, trial: Trial) -> None:
    """On valid scores and targets of every class it computes finite numbers."""
    tried = Tried(case, trial)
    figures = tried.figures(tried.running(), tried.part)
    if not figures or not all(map(math.isfinite, figures.values())):
        raise CheckFailed(f"compute() gives {_shown(figures)} on {TRAIN} valid samples")


@on_each(every_run)
def arguments_are_left_alone(case: Case, trial: Trial) -> None:
    """It changes neither the scores nor the targets, which other metrics get after it."""
    tried = Tried(case, trial)
    metric, (scores, batch) = tried.build(), _as_given(tried, tried.part)
    with unchanged(scores=scores, targets=batch.targets):
        metric.update(scores, batch.targets)


@_same_figures("add up sums and counts, and divide in compute()")
def batches_add_up(tried: Tried) -> Iterator[Figures]:
    """Two uneven batches, also one of a single sample, and another order give the figures of all samples at once."""
    scores, batch = tried.part
    for places in regrouped(batch):
        parts = [(scores[place], batch.map(itemgetter(place))) for place in places]
        yield tried.figures(tried.running(), *parts)


@_same_figures("forget all samples in reset()")
def reset_forgets(tried: Tried) -> Iterator[Figures]:
    """After `reset` it gives what a new one gives."""
    running = tried.running()
    tried.figures(running, tried.others)
    running.reset()
    yield tried.figures(running, tried.part)


@_same_figures("leave in compute() what was added up as it is")
def computing_changes_nothing(tried: Tried) -> Iterator[Figures]:
    """`compute` gives the same when it is asked again, and more batches may follow it."""
    scores, batch = tried.part
    running, places = tried.running(), next(regrouped(batch))
    for place in places:
        tried.figures(running, (scores[place], batch.map(itemgetter(place))))
    yield tried.figures(running)


@_same_figures("compute the same in inference mode")
def works_in_evaluation(tried: Tried) -> Iterator[Figures]:
    """Used before, reset, and updated in inference mode, it gives the figures that it gives outside of it."""
    running = tried.running()
    with torch.no_grad():
        tried.figures(running, tried.others)
    for _ in range(2):  # two epochs
        with torch.inference_mode():
            running.reset()
            figures = tried.figures(running, tried.part)
        yield figures


@on_each(every_run)
def details_are_json(case: Case, trial: Trial) -> None:
    """`details()`, which a metric may have, gives a dict of JSON values, without NaN, after one sample too."""
    tried = Tried(case, trial)
    metric = tried.build()
    if not hasattr(metric, "details"):
        raise Skipped("it has no details()")
    scores, batch = tried.part
    for size in (TRAIN, 1):
        tried.figures(tried.running(metric), (scores[:size], batch.map(itemgetter(slice(size)))))
        details = metric.details()
        try:
            json.dumps(details, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CheckFailed(f"details() after {size} samples cannot be JSON: {one_line(error)}") from error
        if not isinstance(details, dict):
            raise CheckFailed(f"details() must give a dict, it gives a {type(details).__name__}")


@on_each(every_run)
def works_on_a_device(case: Case, trial: Trial) -> str:
    """It takes scores and targets of another device."""
    device, tried = other_device(), Tried(case, trial)
    metric, (scores, batch) = tried.build(), _as_given(tried, tried.part)
    if isinstance(metric, nn.Module):
        nn.Module.to(metric, device)
    moved = batch.map(lambda each: each.to(device))
    with on_other_device(device):
        metric.update(scores.to(device), moved.targets)
    return f"tried on {device}"


KIT = Kit(
    checks=(
        *common.CHECKS,
        figures_are_finite,
        arguments_are_left_alone,
        batches_add_up,
        reset_forgets,
        computing_changes_nothing,
        works_in_evaluation,
        details_are_json,
        works_on_a_device,
    ),
    gates=(
        batches_add_up,
        reset_forgets,
        computing_changes_nothing,
    ),
    optional=(details_are_json, works_on_a_device),
    notes=(figures_are_finite, works_on_a_device),
    trials=runs_with_targets,
    check_tried=check_accepts,
)


def _samples(spec: DataSpec, seed: int) -> Batch:
    inputs = inputs_of(spec, TRAIN, seed)
    return Batch(inputs, inputs if spec.target == "none" else targets_of(spec, TRAIN, seed))


def _as_given(tried: Tried, part: Part) -> Part:
    """The scores and targets that the core calls ``update`` with."""
    given: list[Part] = []
    catching = SimpleNamespace(
        reset=lambda: None, update=lambda scores, targets: given.append((scores, Batch(targets, targets)))
    )
    running = tried.running(catching)
    running.add(*part, torch.zeros(()))
    running.flush()
    return given[0]


def _close(one: Figures, other: Figures) -> bool:
    return one.keys() == other.keys() and all(
        math.isclose(value, other[name], rel_tol=1e-4, abs_tol=1e-6) or (math.isnan(value) and math.isnan(other[name]))
        for name, value in one.items()
    )


def _shown(figures: Figures) -> str:
    return ", ".join(f"{name}={value:g}".removeprefix("=") for name, value in figures.items()) or "no figure"
