"""What several processes bring: some steps by one alone, and the same by all, before the run begins."""

import os
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ptb.training.trainer import Trainer

if TYPE_CHECKING:
    from ptb.distributed.world import World

SECONDS = 0.7  # that each of both takes
MOST_STEPS = 50
WORTH_IT = 1.2
SWITCH = "PTB_PROBE"  # 0: without it


def scaling(alone: Trainer, together: Trainer, world: "World") -> str | None:
    """One line for people; both trainers are copies, which take steps. Called by all processes."""
    if os.environ.get(SWITCH) == "0":
        return None
    loader = together.train_loader
    batch = loader.first_batch(loader.batch_size)
    one = 0.0
    if world.rank == 0:  # the others wait: it has the machine to itself
        one = _seconds(lambda: alone.train_step([batch]), lambda more: more)
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
    # All must take as many steps: rank 0 says whether there is one more.
    both = _seconds(lambda: together.train_step(pieces), world.share)
    return _told(one, both, median(waited or [0.0]), batch.size, world.size)


def _seconds(step: Callable[[], object], agreed: Callable[[bool], bool]) -> float:
    """The median time of a step, the first one left out."""
    step()
    times: list[float] = []
    while agreed(len(times) < 3 or (sum(times) < SECONDS and len(times) < MOST_STEPS)):
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
