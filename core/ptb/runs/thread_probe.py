"""What more CPU threads would bring: a few timed steps. It decides nothing, because last bits depend on threads."""

from statistics import median
from time import perf_counter

import torch

from ptb.device import cpu_threads
from ptb.training.protocols import Batch
from ptb.training.trainer import Trainer

WORTH_SAYING = 1.2
LONG_RUN = 30.0  # seconds
STEPS = 5


def thread_advice(trainer: Trainer, total_steps: int, threads: int, always: bool = False) -> str | None:
    """One line where a long run, or with ``always`` any, would be faster with all threads of torch.

    The trainer is that of the preflight: it takes steps.
    """
    most = torch.get_num_threads()
    if trainer.device.type != "cpu" or threads >= most:
        return None
    loader = trainer.train_loader
    batch = loader.first_batch(loader.batch_size)
    try:
        with cpu_threads(threads):
            own = _seconds(trainer, batch)
        if own * trainer.settings.accumulate * total_steps < LONG_RUN and not always:
            return None
        with cpu_threads(most):
            other = _seconds(trainer, batch)
    except (
        Exception,
        SystemExit,
    ):  # repeated steps on one batch may come to an end; the run itself will say what is wrong
        return None
    if own / other < WORTH_SAYING:
        return None
    return (
        f"a step takes {own / other:.1f} times as long with {threads} CPU thread{'s' * (threads > 1)} as with {most} "
        f"on this machine now: threads={most} is faster while nothing else runs, and slower beside another busy process"
    )


def _seconds(trainer: Trainer, batch: Batch) -> float:
    times = []
    for _ in range(STEPS):
        began = perf_counter()
        trainer.train_step([batch])
        times.append(perf_counter() - began)
    return median(times)
