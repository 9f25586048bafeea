"""Which component is being called, so that what it raises is blamed on it and on nobody else, whoever catches it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptb.training.trainer import Trainer


@dataclass
class Calls:
    """Names the component that is being called, by its section: ``"model"``, ``"metrics.accuracy"``."""

    now: str = ""  # empty while the core itself works


class StopRequested(Exception):
    """Training is to stop while something is waited for or evaluated; no state has changed since the last step."""


@contextmanager
def fitting(trainer: "Trainer") -> Iterator[None]:
    """Ends a training well in every way: a stop saves, callbacks hear of an error."""
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
        section = trainer.calls.now
        trainer.callbacks.on_exception(trainer, error)
        trainer.calls.now = section  # the callbacks that were called since are not to blame
        raise
    finally:
        gc.unfreeze()
