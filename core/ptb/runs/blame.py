"""Errors of components, blamed on the component that was being called; and running out of memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ptb.config.resolve import ComponentConfig
from ptb.device import is_memory_error
from ptb.errors import DataError, IncompatibleError, PluginError, PtbError, ResourceError, one_line
from ptb.training.blame import Calls


def name_of(component: ComponentConfig) -> str:
    """What messages call a component: ``model 'lenet'``."""
    kind = {"dataset": "data set"}.get(component.entry.kind, component.entry.kind)
    return f"{kind} '{component.entry.name}'"


@contextmanager
def explaining(kind: type[PtbError], message: str, remedy: str = "") -> Iterator[None]:
    """Turns what a component raises, which may be anything, into an error of ptb with this message."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, PtbError) or is_memory_error(error):
            raise
        raise kind(f"{message}: {one_line(error)}{remedy}") from error


@contextmanager
def building(component: ComponentConfig, party: str = "", remedy: str = "") -> Iterator[None]:
    """Turns what a target raises while it is built into an error that names it.

    A ``ValueError`` says that it does not fit ``party``; any other exception is a fault of its plugin.
    """
    entry = component.entry
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, PtbError):
            raise
        if is_memory_error(error):
            raise ResourceError(
                f"out of memory while {name_of(component)} was built; make it smaller by its settings "
                f"(`ptb show {entry.kind} {entry.name}`)"
            ) from error
        if isinstance(error, ValueError) and party:
            raise IncompatibleError(f"{name_of(component)} does not fit {party}: {error}{remedy}") from error
        kind = DataError if entry.kind == "dataset" and isinstance(error, OSError | ValueError) else PluginError
        hint = entry.spec_hint(entry.load()) if isinstance(error, AttributeError | TypeError) else ""
        raise kind(f"{entry}: building it failed: {one_line(error)}" + (f"; {hint}" if hint else "")) from error


@contextmanager
def naming(calls: Calls, components: Mapping[str, ComponentConfig], when: str) -> Iterator[None]:
    """Turns what the component that is being called raises into an error that names it and its plugin.

    Errors that say themselves what to do, and those of ptb itself, pass as they are.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, PtbError) or is_memory_error(error) or calls.now not in components:
            raise
        kind = DataError if calls.now == "dataset" else PluginError
        raise kind(f"{components[calls.now].entry} failed {when}: {one_line(error)}") from error


@contextmanager
def explain_oom(calls: Calls, device: str, batch_size: int, trains: bool = True) -> Iterator[None]:
    """Turns running out of memory into an error that names the setting to change."""
    try:
        yield
    except Exception as error:
        if not is_memory_error(error):
            raise
        if calls.now.startswith("optimizer"):
            raise ResourceError(
                f"out of memory on {device} in the step of the optimizer: its state grows with the model and not with "
                "the batch; try an optimizer that keeps less (`ptb list optimizer`), or a smaller model"
            ) from error
        split = "or --callback micro-batch-on-oom, " if trains else ""
        raise ResourceError(
            f"out of memory on {device} with loader.batch_size={batch_size}; try {max(batch_size // 2, 1)}, {split}or "
            "a smaller model or data set"
        ) from error
