"""What more CPU threads, or several processes, bring: some timed steps on copies. It decides nothing."""

import os
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from ptb.device import cpu_threads
from ptb.training.trainer import Trainer

if TYPE_CHECKING:
    from ptb.distributed.world import World

WORTH_IT = 1.2
LONG_RUN = 30.0  # seconds
STEPS = 5  # with each number of threads
SECONDS = 0.7  # for steps of one process, and for those of all together
MOST_STEPS = 50  # of each, where they are short
SWITCH = "PTB_PROBE"  # 0: without looking at what several processes bring


def thread_advice(trainer: Trainer, total_steps: int, threads: int, always: bool = False) -> str | None:
    """One line where a long run, or with ``always`` any, would be faster with all threads of torch.

    The trainer is that of the preflight: it takes steps.
    """
    most = torch.get_num_threads()
    if trainer.device.type != "cpu" or threads >= most:
        return None
    loader = trainer.train_loader
    batch = loader.first_batch(loader.batch_size)

    def seconds(threads: int) -> float:
        with cpu_threads(threads):
            return _seconds(lambda: trainer.train_step([batch]), lambda times: len(times) < STEPS)

    try:
        own = seconds(threads)
        if own * trainer.settings.accumulate * total_steps < LONG_RUN and not always:
            return None
        other = seconds(most)
    except (Exception, SystemExit):  # repeated steps on one batch may come to an end; the run itself says what is wrong
        return None
    if own / other < WORTH_IT:
        return None
    return (
        f"a step takes {own / other:.1f} times as long with {threads} CPU thread{'s' * (threads > 1)} as with {most} "
        f"on this machine now: threads={most} is faster while nothing else runs, and slower beside another busy process"
    )


def scaling(alone: Trainer, together: Trainer, world: "World") -> str | None:
    """One line for people; both trainers are copies, which take steps. Called by all processes."""
    if os.environ.get(SWITCH) == "0":
        return None
    loader = together.train_loader
    batch = loader.first_batch(loader.batch_size)
    one = 0.0
    if world.rank == 0:  # the others wait: it has the machine to itself
        alone.train_step([batch])  # the first one takes longer
        one = _seconds(lambda: alone.train_step([batch]), _goes_on)
    one = world.share(one)
    pieces = [*loader.own_pieces(batch)]
    shared = together.shared
    waited: list[float] = []
    if shared is not None:
        combine = shared.combine

        def timed(*arguments: Any) -> Any:
            began = perf_counter()
            found = combine(*arguments)
            waited.append(perf_counter() - began)
            return found

        shared.combine = timed  # type: ignore[method-assign, assignment]
    together.train_step(pieces)
    # All must take as many steps: rank 0 says whether there is one more.
    both = _seconds(lambda: together.train_step(pieces), lambda times: world.share(_goes_on(times)))
    return _told(one, both, median(waited or [0.0]), batch.size, world.size)


def _goes_on(times: list[float]) -> bool:
    return len(times) < 3 or (sum(times) < SECONDS and len(times) < MOST_STEPS)


def _seconds(step: Callable[[], object], goes_on: Callable[[list[float]], bool]) -> float:
    """The median time of a step, of as many as ``goes_on`` asks for."""
    times: list[float] = []
    while goes_on(times):
        began = perf_counter()
        step()
        times.append(perf_counter() - began)
    return median(times)


def _told(one: float, both: float, waiting: float, samples: int, size: int) -> str:
    gain = one / both
    told = (
        f"{samples / both:,.0f} samples/s now, {min(waiting / both, 1):.0%} of a step spent on the others, "
        f"{gain:.1f} times as fast as one process"
    )
    if gain >= WORTH_IT:
        return told
    return f"{told}: {size} processes do not pay here, without --nproc it is as fast or faster"
