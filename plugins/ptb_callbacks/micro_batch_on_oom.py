"""For batches that do not always fit into memory: takes a step that runs out of it again, in smaller pieces."""

import gc
import math
import operator
import warnings
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ptb import Callback, ResourceError
from ptb_callbacks.text import listing

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class MicroBatchOnOom(Callback):
    """Halves the samples that go through the model at once where memory runs out, and takes the step again.

    The gradients of the pieces are added up, so it is the step of the whole batch but for rounding, and for batch norm,
    which sees smaller batches. Later steps are taken in such pieces from the start. Before each step, buffers of the
    model and random numbers of torch are noted, to be put back; what else a forward pass may change (attributes, random
    numbers of Python and NumPy) is not. Where memory runs out after the optimizer has begun to move the weights, the
    run ends.
    """

    def __init__(self) -> None:
        self.samples: int | None = None  # that go through the model at once, after memory ran out
        self._before: _Before | None = None

    def around_step(self, trainer: Any, step: Any) -> None:
        """Take the step, in as many pieces as it needs.

        Raises:
            ResourceError: a single sample does not fit, or the batch cannot be split.
        """
        before = self._before = self._before or _Before(trainer.model, trainer.device)
        before.note()
        watch = _Watch()
        hook = trainer.optimizer.register_step_pre_hook(watch)
        try:
            while not self._taken(trainer, step, watch):
                # Only now is the error gone, and with it the tensors of the step that its traceback held.
                trainer.optimizer.zero_grad(set_to_none=True)
                before.put_back()
                gc.collect()
                if trainer.device.type == "cuda":
                    torch.cuda.empty_cache()
        finally:
            hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """How many samples go through the model at once; None is a whole batch."""
        return {"samples": self.samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self.samples = state["samples"]

    def _taken(self, trainer: Any, step: Any, watch: "_Watch") -> bool:
        """Whether the step could be taken; if memory ran out, the next pieces are smaller."""
        try:
            (step if self.samples is None else step.replace(_pieces(step.micro_batches, self.samples)))()
        except Exception as error:
            if self.samples is not None and "more than 1 value per channel" in str(error):
                raise _failure(trainer, "and batch norm cannot take a piece of one sample") from error
            if watch.has_moved or not _is_memory_error(error):
                raise
            # A loss over pairs of samples, for example, is another one over the pairs of each piece.
            if getattr(trainer.objective.loss, "couples_samples", False):
                raise _failure(trainer, "and the loss takes the samples of a batch together") from error
            largest = max(batch.size for batch in step.micro_batches)
            now = min(self.samples or largest, largest)
            if now == 1:
                raise _failure(trainer, "with a single sample in the model") from error
            self.samples = -(-now // 2)
            warnings.warn(_report(trainer, self.samples), stacklevel=2)
            return False
        return True


class _Watch:
    """A hook of the optimizer's step, which knows whether weights or its state may have moved."""

    def __init__(self) -> None:
        self.has_moved = False

    def __call__(self, *_: Any) -> None:
        self.has_moved = True


class _Before:
    """What a forward pass changes of a model and of torch's random numbers, as it was before.

    Args:
        model: whose buffers are noted.
        device: whose random numbers are noted, beside those of the host.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._places = [(module._buffers, name) for module in model.modules() for name in module._buffers]
        self._buffers: list[Tensor | None] = []
        self._values: list[Tensor] = []
        self._generators = {torch.default_generator, _generator(device)}
        self._random: list[tuple[torch.Generator, Tensor]] = []

    @torch.no_grad()
    def note(self) -> None:
        """A step begins."""
        self._random = [(generator, generator.get_state()) for generator in self._generators]
        buffers = [owner.get(name) for owner, name in self._places]
        there = [buffer for buffer in buffers if buffer is not None]
        if len(buffers) == len(self._buffers) and all(map(operator.is_, buffers, self._buffers)):
            if there:
                torch._foreach_copy_(self._values, there)
        else:  # the first step, or the model has put other tensors in their place
            self._buffers, self._values = buffers, [buffer.clone() for buffer in there]

    @torch.no_grad()
    def put_back(self) -> None:
        """The step could not be taken."""
        for generator, state in self._random:
            generator.set_state(state)
        for (owner, name), buffer in zip(self._places, self._buffers, strict=True):
            owner[name] = buffer
        for buffer, value in zip((each for each in self._buffers if each is not None), self._values, strict=True):
            buffer.copy_(value)


def _pieces(micro_batches: Sequence[Any], most: int) -> list[Any]:
    """The same samples in the same order, at most so many in a batch."""
    pieces = []
    for batch in micro_batches:
        count = math.ceil(batch.size / most)
        # Of equal sizes, so that a last piece of one sample, which batch norm cannot take, is rare.
        sizes = [(batch.size + number) // count for number in reversed(range(count))]
        pieces += [batch.map(operator.itemgetter(slice(*each))) for each in pairwise(accumulate(sizes, initial=0))]
    return pieces


def _report(trainer: Any, samples: int) -> str:
    names = [name for name, each in trainer.model.named_modules() if isinstance(each, BATCH_NORMS) and each.training]
    smaller = f"; these batch norms see smaller batches: {listing(names, 5)}" if names else ""
    return (
        f"out of memory on {trainer.device} at step {trainer.state.step + 1}: from now on at most {samples} samples go "
        f"through the model at once, and their gradients are added up{smaller}"
    )


def _failure(trainer: Any, why: str) -> ResourceError:
    return ResourceError(
        f"out of memory on {trainer.device} at step {trainer.state.step + 1}, {why}: micro-batch-on-oom cannot split "
        "the batch further; choose a smaller loader.batch_size, a smaller model, or smaller samples"
    )


def _is_memory_error(error: Exception) -> bool:
    """Whether memory ran out; torch's own allocator on the host raises a plain ``RuntimeError``."""
    is_host = isinstance(error, RuntimeError) and "CPUAllocator" in str(error)
    return is_host or isinstance(error, MemoryError | torch.OutOfMemoryError)


def _generator(device: torch.device) -> torch.Generator:
    """The one from which layers on this device draw."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.mps._get_default_mps_generator() if device.type == "mps" else torch.default_generator
