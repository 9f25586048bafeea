"""One optimizer step: gradients over a group of batches, a look at whether they are numbers, and the step itself."""

import gc
import operator
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.data.samples import Batch
from ptb.device import is_memory_error
from ptb.errors import ResourceError
from ptb.storage.codec import Decoder, Encoder, State
from ptb.storage.object_state import capture, restore
from ptb.training.metrics import RunningMetrics
from ptb.training.objective import Parts

Group = Sequence[Batch]


class NotFinite(Exception):
    """What a step would be taken on is no number: ``loss``, a scalar tensor, or else the gradients."""

    def __init__(self, loss: float) -> None:
        super().__init__(loss)
        self.loss = loss


class Found(NamedTuple):
    """The loss of a group, a scalar, the norm of its gradients where they are cut, and figures of what went through.

    ``figures`` holds scores, targets and loss of each batch, or of each piece of one, without gradients.
    """

    loss: Tensor
    norm: Tensor | None
    figures: list[tuple[Tensor, Tensor, Tensor]]

    def tell(self, tally: RunningMetrics) -> None:
        """Tallies them."""
        for scores, targets, loss in self.figures:
            tally.add(scores, targets, loss)


class Eyes(Protocol):
    """Is told what happens inside a step."""

    def smaller(self, samples: int) -> None:
        """Memory ran out: from now on so many samples go through the model at once."""


class Before:
    """What a forward pass changes beside gradients, as it was before.

    Buffers and the random numbers of torch are noted each time. Attributes of the model and the loss, and the random
    numbers of Python and NumPy, take far longer to note: only after a pass has changed some, each time. The first pass
    with batches of other sizes shows whether it does.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._places = [(module._buffers, name) for module in parts.model.modules() for name in module._buffers]
        self._buffers: list[Tensor | None] = []
        self._kept: list[Tensor] = []
        self._generators = {torch.default_generator, _generator(parts.device)}
        self._random = [(generator, generator.get_state()) for generator in self._generators]
        self._rest = State(None, {})
        self._changing = False  # whether a pass changes the rest, as far as was seen
        self._learning = False
        self._seen: set[tuple[int, ...]] = set()

    @torch.no_grad()
    def note(self, sizes: tuple[int, ...]) -> None:
        """A forward pass begins, of batches of so many samples."""
        if self._places:
            buffers = [owner.get(name) for owner, name in self._places]
            there = [buffer for buffer in buffers if buffer is not None]
            if len(buffers) == len(self._buffers) and all(map(operator.is_, buffers, self._buffers)):
                torch._foreach_copy_(self._kept, there)
            else:  # the first time, or a model has put others in their place
                self._buffers, self._kept = buffers, [buffer.clone() for buffer in there]
        self._random = [(generator, generator.get_state()) for generator in self._generators]
        self._learning = sizes not in self._seen
        self._seen.add(sizes)
        if self._changing or self._learning:
            self._rest = self._captured()

    def learn(self) -> None:
        """The pass is over: what did it change?"""
        if self._learning:
            self._changing = self._changing or not _same(self._rest, self._captured())
            self._learning = False

    @torch.no_grad()
    def put_back(self) -> None:
        """As when the pass began."""
        if self._changing or self._learning:
            reader = Decoder(self._rest.tensors, self._parts.device)
            model, loss, host = self._rest.node
            restore(self._parts.model, model, reader)
            restore(self._parts.loss, loss, reader)
            python, numpy = reader.value(host)
            random.setstate(python)
            np.random.set_state(numpy)
        for (owner, name), buffer in zip(self._places, self._buffers, strict=True):
            owner[name] = buffer
        if self._kept:
            torch._foreach_copy_([buffer for buffer in self._buffers if buffer is not None], self._kept)
        for generator, state in self._random:
            generator.set_state(state)

    def _captured(self) -> State:
        writer, model = Encoder(), self._parts.model
        node = [
            capture(model, "model", writer, [*model.parameters(), *model.buffers()]),
            capture(self._parts.loss, "loss", writer),
            writer.node([random.getstate(), np.random.get_state(legacy=False)], "random"),
        ]
        return State(node, writer.tensors)


class Stepper:
    """Takes optimizer steps; without fp16 each waits for the device once, to see that its gradients are numbers.

    Args:
        parts: what is trained.
        clip_norm: the gradients are scaled down to this norm where theirs is larger; None never.
        split: where memory runs out, a batch goes through the model in parts.
        eyes: is told of that.
    """

    def __init__(self, parts: Parts, clip_norm: float | None, split: bool, eyes: Eyes) -> None:
        self.most: int | None = None  # samples that go through the model at once, after memory ran out
        self.before = Before(parts)
        self.scaler = torch.amp.GradScaler(parts.device.type, enabled=parts.autocast is torch.float16)
        self._parts = parts
        self._clip_norm = clip_norm
        self._split = split
        self._eyes = eyes
        self._trained = [each for group in parts.optimizer.param_groups for each in group["params"]]
        # The usual zero_grad only enters a profiler's range around this; a stranger's may do more.
        self._usual = type(parts.optimizer).zero_grad is Optimizer.zero_grad
        self._lost = torch.zeros(1, device=parts.device)
        self._one = torch.ones(1, device=parts.device)
        self._dense = True  # the gradients are real and not sparse, as far as was seen
        self.take: Callable[[Group, RunningMetrics], bool] = (
            self._with_closure if parts.closure else self._scaled if self.scaler.is_enabled() else self._plain
        )
        """Takes a step on a group of batches, tallies them, and tells whether the weights moved.

        Raises ``NotFinite`` before the step; the gradients are then those that are no numbers.
        """

    def _plain(self, group: Group, tally: RunningMetrics) -> bool:
        found = self.gradients(group)
        self._check(found)
        found.tell(tally)
        self._parts.optimizer.step()
        self._parts.scheduler.step()
        return True

    def _scaled(self, group: Group, tally: RunningMetrics) -> bool:
        found = self.gradients(group)
        self._check(found, gradients=False)  # those of fp16 may overflow: then the step is left out
        found.tell(tally)
        scale = self.scaler.get_scale()
        self.scaler.step(self._parts.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() < scale:
            return False
        self._parts.scheduler.step()
        return True

    def _with_closure(self, group: Group, tally: RunningMetrics) -> bool:
        optimizer = self._parts.optimizer
        state = {parameter: dict(values) for parameter, values in optimizer.state.items()}
        first = True

        def closure() -> Tensor:
            nonlocal first
            found = self.gradients(group)
            if first:  # later calls try other weights, and the optimizer judges their loss
                self._check(found)
                found.tell(tally)
            first = False
            return found.loss

        try:
            optimizer.step(closure)  # type: ignore[arg-type]  # returns a tensor
        except NotFinite:
            optimizer.state.clear()  # it may have got ready for its first step
            optimizer.state.update(state)
            raise
        self._parts.scheduler.step()
        return True

    def gradients(self, group: Group) -> Found:
        """Leaves the gradients of a group of batches, as if they were one, in the parameters.

        Raises:
            ResourceError: a single sample needs more memory than there is.
        """
        self.before.note(tuple(len(targets) for _, targets in group))
        while True:
            try:
                losses, figures = self._accumulated(group)
                break
            except Exception as error:
                if not self._split or not is_memory_error(error):
                    raise
                most = self.most or max(len(targets) for _, targets in group)
                if most == 1:
                    raise ResourceError(
                        f"out of memory on {self._parts.device} with a single sample in the model, and "
                        "trainer.on_oom=split cannot split that; choose a smaller model, or smaller samples"
                    ) from error
            self.most = -(-most // 2)
            self._eyes.smaller(self.most)
            self._zero()
            self.before.put_back()
            gc.collect()
            if self._parts.device.type == "cuda":
                torch.cuda.empty_cache()
        self.before.learn()
        norm = None
        if self._clip_norm is not None:
            self.scaler.unscale_(self._parts.optimizer)
            norm = nn.utils.clip_grad_norm_(self._parts.model.parameters(), self._clip_norm).detach()
        return Found(losses[0] if len(losses) == 1 else torch.stack(losses).sum(), norm, figures)

    def _accumulated(self, group: Group) -> tuple[list[Tensor], list[tuple[Tensor, Tensor, Tensor]]]:
        parts, most = self._parts, self.most
        if most is not None:
            group = [piece for batch in group for piece in pieces(batch, most)]
        self._zero()
        whole = None if len(group) == 1 or parts.summed else _denominator(parts, group)
        losses, figures = [], []
        for inputs, targets in group:
            scores = parts.forward(inputs)
            loss = parts.mean_loss(scores, targets)
            figures.append((scores.detach(), targets, loss.detach()))
            if whole is not None:
                loss = loss * (parts.denominator(targets) / whole)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return losses, figures

    def _check(self, found: Found, gradients: bool = True) -> None:
        looked_at = [found.loss]
        if found.norm is not None and gradients:
            looked_at.append(found.norm)
        elif gradients:
            looked_at += [gradient for parameter in self._trained if (gradient := parameter.grad) is not None]
        if not self._finite(looked_at):
            raise NotFinite(float(found.loss))

    @torch.no_grad()
    def _finite(self, tensors: list[Tensor]) -> bool:
        """One pass over all of them, and one wait for the device; it divides by 1, which changes nothing."""
        self._lost.zero_()
        if self._dense:
            try:
                torch._amp_foreach_non_finite_check_and_unscale_(tensors, self._lost, self._one)
                return self._lost.item() == 0
            except RuntimeError:  # it takes neither sparse nor complex ones
                self._dense = False
        for tensor in tensors:
            torch._amp_foreach_non_finite_check_and_unscale_([_values(tensor)], self._lost, self._one)
        return self._lost.item() == 0

    def _zero(self) -> None:
        if self._usual:
            for parameter in self._trained:
                parameter.grad = None
        else:
            self._parts.optimizer.zero_grad(set_to_none=True)


def _denominator(parts: Parts, group: Group) -> Tensor | int:
    """That of several batches as one; never 0, by which nothing can be divided."""
    whole = sum(parts.denominator(targets) for _, targets in group)
    return whole.float().clamp(min=torch.finfo(torch.float32).tiny) if isinstance(whole, Tensor) else whole


def pieces(batch: Batch, most: int) -> list[Batch]:
    """A batch in parts of so many samples, the last one perhaps smaller."""
    return list(zip(*(torch.split(tensor, most) for tensor in batch), strict=True))


def _values(gradient: Tensor) -> Tensor:
    """The real numbers of which it is made."""
    gradient = gradient._values() if gradient.is_sparse else gradient
    return torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient


def _same(one: State, other: State) -> bool:
    """Whether they are the same; NaN is not, which only costs time."""
    pairs = [(tensor, other.tensors.get(name)) for name, tensor in one.tensors.items()]
    return one.node == other.node and all(b is not None and a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def _generator(device: torch.device) -> torch.Generator:
    """The one from which the layers of a model on this device draw."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.mps._get_default_mps_generator() if device.type == "mps" else torch.default_generator
