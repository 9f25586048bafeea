"""Which component is being called, so that what it raises is blamed on it and on nobody else."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptb.errors import PtbError

if TYPE_CHECKING:
    from ptb.training.trainer import Trainer


@dataclass
class Calls:
    """Names the component that is being called, by its section: ``"model"``, ``"metrics.accuracy"``."""

    now: str = ""  # empty while the core itself works


class ComponentFailed(Exception):
    """A component raised; the ``__cause__`` is what it raised."""

    def __init__(self, section: str) -> None:
        super().__init__(section)
        self.section = section


@contextmanager
def blaming(calls: Calls) -> Iterator[None]:
    """Blames what is raised on the component that is being called; errors that say themselves what to do pass."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, PtbError | ComponentFailed) or not calls.now:
            raise
        raise ComponentFailed(calls.now) from error


class StopRequested(Exception):
    """Training is to stop while something is waited for or evaluated; no state has changed since the last step."""


@contextmanager
def fitting(trainer: "Trainer") -> Iterator[None]:
    """Ends a training well in every way: a stop saves, an error is blamed on the component that was called."""
    # A stop must not wait until a slow sample is read.
    for loader in (trainer.train_loader, *trainer.eval_loaders.values()):
        loader.source.waiting = trainer.check_stop
    # Otherwise a collection would look through all of torch in the middle of a step.
    gc.freeze()
    try:
        try:
            yield
        except StopRequested:
            trainer.stop()
    except BaseException as error:
        section = trainer.calls.now  # callbacks are called now, and change it
        trainer.callbacks.on_exception(trainer, error)
        # Errors that say themselves what to do, and what no component is to blame for, pass as they are.
        if not isinstance(error, Exception | SystemExit) or isinstance(error, PtbError):
            raise
        raise ComponentFailed(section) from error
    finally:
        gc.unfreeze()
