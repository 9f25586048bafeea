"""What the checks of several kinds need: names for what a component is tried on, and a second device."""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Any

import torch

from ptb import PtbError, Registry
from ptb.internals import Batch, ComponentConfig, generator, listing, map_leaves, one_line
from ptb_testing.case import Case, Check
from ptb_testing.outcome import CheckFailed, Noted, Skipped
from ptb_testing.process import identical
from ptb_testing.samples import FORMS, described_scores, target_specs
from ptb_testing.subject import loaded
from ptb_testing.trial import Trial

OnOne = Callable[[Case, Trial], str | None]


def every_run(case: Case) -> list[Trial]:
    """All that the component took part in."""
    return case.tried


def on_each(among: Callable[[Case], Iterable[Trial]]) -> Callable[[OnOne], Check]:
    """Makes a check of one that is made on each of some runs, which every failure then names."""

    def decorate(check: OnOne) -> Check:
        @functools.wraps(check)
        def on_all(case: Case) -> str | None:
            remark = None
            for trial in among(case):
                with on(trial.what):
                    remark = check(case, trial)
            return remark

        return on_all

    return decorate


@contextmanager
def on(what: str) -> Iterator[None]:
    """Says in every failure inside it what the component was tried on."""
    try:
        yield
    except Skipped:
        raise
    except (CheckFailed, Noted) as error:
        raise type(error)(f"{what}: {error}") from error.__cause__
    except (Exception, SystemExit) as error:  # a component may raise anything
        raise CheckFailed(f"{what}: it raised {one_line(error)}") from error


@contextmanager
def unchanged(**trees: Any) -> Iterator[None]:
    """The block must leave these tensors, or dicts of them, as they are."""
    before = {name: map_leaves(lambda tensor: tensor.detach().clone(), tree) for name, tree in trees.items()}
    yield
    for name, tree in trees.items():
        if not identical(before[name], map_leaves(torch.Tensor.detach, tree)):
            raise CheckFailed(f"it changed the {name} in place; others still need them: work on a new tensor")


def runs_with_targets(case: Case) -> Iterator[Trial]:
    """Runs of a loss or a metric on targets of each kind that it declares.

    With the models of its own plugin where it takes none of the kit's, as a loss may that needs more than scores.
    """
    declared = case.component.component.accepts
    for spec in case.specs or target_specs(declared):
        yield Trial.of(case, described_scores(spec), spec)
    if case.specs or case.tried:
        return
    for entry in Registry([loaded(case.found)]).components("model"):
        with suppress(PtbError, ValueError):  # it cannot be built from its defaults
            model = ComponentConfig(entry, entry.settings_model()())
            for spec in (spec for form in FORMS for spec in target_specs(declared, form)):
                if not case.tried:
                    yield Trial.of(case, f"{entry.label}, {described_scores(spec)}", spec, model=model)


def check_accepts(case: Case) -> None:
    """A loss or a metric must take each form of targets that its record names."""
    declared = case.component.component.accepts
    taken = {form for trial in case.tried for form in (trial.spec.target_form, trial.spec.target)}
    if case.tried and not case.specs and (left := [form for form in declared if form not in taken]):
        raise CheckFailed(
            f"its record says accepts={declared}, and no run with targets of kind {listing(left)} takes it"
        )


def regrouped(batch: Batch) -> Iterator[list[Any]]:
    """The places of the same samples in two uneven batches, in two with a single sample in one, in another order."""
    size = batch.size
    for cut in (2 * size // 3 + 1, size - 1):  # the mean of two means is another number than the mean
        yield [slice(0, cut), slice(cut, size)]
    yield [torch.randperm(size, generator=generator(0, "order"))]


def at(place: Any, tree: Any) -> Any:
    """Some samples of a tensor or a dict of tensors; what else a model may return stays as it is."""
    return map_leaves(lambda each: itemgetter(place)(each) if getattr(each, "ndim", 0) else each, tree)


def other_device() -> torch.device:
    """A GPU if there is one; else torch's ``meta``, on which tensors have shapes and no values."""
    return torch.device("cuda" if torch.cuda.is_available() else "meta")


REGISTER = (
    "a tensor that is neither a parameter nor a buffer stays behind: use register_buffer, or make it on the device of "
    "the inputs"
)


@contextmanager
def on_other_device(device: torch.device, advice: str = REGISTER) -> Iterator[None]:
    """Tells a tensor that was left behind from code that needs values, which only a GPU could try."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        text = str(error)
        if device.type != "meta" or "same device" in text or "expected device" in text:
            raise CheckFailed(f"on another device it raised {one_line(error)}; {advice}") from error
        raise Skipped("it asks for the values of tensors, so it can only be tried on a GPU") from error
