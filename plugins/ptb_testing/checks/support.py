"""What the checks of several kinds need: blame for what a component raises, and a second device."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ptb.data.spec import DataSpec
from ptb.errors import one_line
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.state import identical


@contextmanager
def on(what: str) -> Iterator[None]:
    """Says in every failure inside it what the component was tried on."""
    try:
        yield
    except Skipped:
        raise
    except CheckFailed as error:
        raise CheckFailed(f"{what}: {error}") from error.__cause__
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
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
    """Notes a refusal, which is a ``ValueError`` with a text; anything else that is raised is a fault."""
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
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        raise CheckFailed(
            f"{what}: building it raised {one_line(error)}; for what does not fit, raise a ValueError with a text"
        ) from error


def all_given(taken: list[DataSpec], refused: Mapping[str, str]) -> list[DataSpec]:
    """What was given for a component is what it must take."""
    for what, reason in refused.items():
        raise CheckFailed(f"it refuses a spec that was given for it; on {what} it says: {reason}")
    return taken


def nothing_fits(refused: Mapping[str, str]) -> CheckFailed:
    """The failure of a component that refuses everything."""
    what, reason = next(iter(refused.items()))
    return CheckFailed(f"it refuses everything that it was tried on; on {what} it says: {reason}")


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
