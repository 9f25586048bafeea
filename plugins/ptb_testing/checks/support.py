"""What the checks of several kinds need: names for what a component is tried on, refusals, and a second device."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from ptb import DataSpec
from ptb.internals import generator, one_line
from ptb_testing.case import Case, Check
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import identical
from ptb_testing.samples import described_scores, target_specs

T = TypeVar("T")


def on_each(
    describe: Callable[[T], str], among: Callable[[Case], Iterable[T]] = lambda case: case.built
) -> Callable[[Callable[[Case, T], str | None]], Check]:
    """Makes a check of one that is run on each of what the component accepts, which every failure then names."""

    def decorate(check: Callable[[Case, T], str | None]) -> Check:
        @functools.wraps(check)
        def on_all(case: Case) -> str | None:
            remark = None
            for each in among(case):
                with on(describe(each)):
                    remark = check(case, each)
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
    except CheckFailed as error:
        raise CheckFailed(f"{what}: {error}") from error.__cause__
    except (Exception, SystemExit) as error:  # a component may raise anything
        raise CheckFailed(f"{what}: it raised {one_line(error)}") from error


@contextmanager
def unchanged(**tensors: Tensor) -> Iterator[None]:
    """The block must leave these tensors as they are."""
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    yield
    for name, tensor in tensors.items():
        if not identical(before[name], tensor.detach()):
            raise CheckFailed(f"it changed the {name} in place; others still need them: work on a new tensor")


@contextmanager
def refusals(what: str, refused: dict[str, str]) -> Iterator[None]:
    """Notes a refusal, which is a ``ValueError`` with a text; whatever else is raised fails the check."""
    try:
        yield
    except (CheckFailed, Skipped):
        raise
    except ValueError as error:
        if not str(error).strip():
            raise CheckFailed(
                f"{what}: it refuses with an empty ValueError; say what it got and what it takes"
            ) from error
        refused[what] = str(error)
    except (Exception, SystemExit) as error:  # a component may raise anything
        raise CheckFailed(
            f"{what}: building it raised {one_line(error)}; for what does not fit, raise a ValueError with a text"
        ) from error


def taken_specs(case: Case, problem: Callable[[Any], str]) -> list[DataSpec]:
    """The specs that a loss or a metric takes: all that are given, else one or more of each target kind it declares.

    Args:
        case: the loss or metric.
        problem: says what is wrong with what was built, or nothing.
    """
    declared = case.component.component.accepts
    refused: dict[str, str] = {}
    taken = []
    for spec in case.specs or target_specs(declared):
        with refusals(described_scores(spec), refused):
            if wrong := problem(case.build(spec)):
                raise CheckFailed(wrong)
            taken.append(spec)
    check_taken(case, taken, refused)
    if set(declared) - {spec.target_form for spec in taken} and not case.specs:
        what, reason = next(iter(refused.items()))
        raise CheckFailed(f"it declares accepts={declared}, and refuses {what}: {reason}")
    return taken


def check_taken(case: Case, taken: Iterable[object], refused: Mapping[str, str]) -> None:
    """Fails where everything was refused, or a spec that was given for the component."""
    for what, reason in refused.items():
        if case.specs:
            raise CheckFailed(f"it refuses a spec that was given for it; on {what} it says: {reason}")
        if not taken:
            raise CheckFailed(f"it refuses everything that it was tried on; on {what} it says: {reason}")


def regrouped(scores: Tensor, targets: Tensor) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The same samples in two uneven batches, in two of which one is a single sample, and in another order."""
    for cut in (2 * len(targets) // 3 + 1, len(targets) - 1):  # the mean of two means is another number than the mean
        yield [(scores[:cut], targets[:cut]), (scores[cut:], targets[cut:])]
    order = torch.randperm(len(targets), generator=generator(0, "order"))
    yield [(scores[order], targets[order])]


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
