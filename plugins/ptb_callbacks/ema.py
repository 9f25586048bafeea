"""For weights that jump about from step to step: evaluate and keep their moving average instead."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ptb import Callback, StepOutput

Place = tuple[dict[str, Any], str]  # where a module holds a tensor: forward passes may put another one there


class Ema(Callback):
    """``average = d * average + (1 - d) * weights`` after every step; evaluations and checkpoints take the average.

    It is ``torch.optim.swa_utils.AveragedModel`` with ``get_ema_multi_avg_fn(decay)``, to the bit: the first update
    takes the weights as they are. With ``warmup``, the n-th update after it has ``d = min(decay, (1 + n) / (10 + n))``,
    so that the average does not hang on the first weights (as in ``tf.train.ExponentialMovingAverage``). The average
    itself is that of Polyak and Juditsky, 1992, doi:10.1137/0330046, with exponential weights.

    Buffers that are no floating-point numbers, and with ``buffers=False`` all, are those of the training.
    ``AveragedModel`` averages all buffers with ``use_buffers=True``, and without it leaves them as they were before the
    first step, so that ``update_bn`` has to measure the batch-norm statistics anew.

    Args:
        decay: d; the average reaches back over about ``1 / (1 - decay)`` updates.
        warmup: begin with a smaller d.
        every: optimizer steps from one update to the next.
        buffers: average floating-point buffers too.
    """

    def __init__(self, *, decay: float = 0.999, warmup: bool = True, every: int = 1, buffers: bool = True) -> None:
        self.decay = decay
        self.warmup = warmup
        self.every = every
        self.buffers = buffers
        self.updates = 0
        self.averages: dict[str, Tensor] = {}
        self._places: list[Place] = []

    @torch.no_grad()
    def on_step_end(self, trainer: Any, output: StepOutput) -> None:
        """Update the average."""
        if not output.stepped or trainer.state.step % self.every:
            return
        tensors = self._tensors(trainer.model)
        if self.updates:  # the first one takes the weights as they are
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
            # What get_ema_multi_avg_fn does, without making a function for each decay.
            torch._foreach_lerp_([*self.averages.values()], tensors, 1 - decay)
        self.updates += 1

    @contextmanager
    def evaluation_weights(self, trainer: Any) -> Iterator[None]:
        """Inside it, the model has the averages; before the first update it keeps its weights."""
        if not self.updates:
            yield
            return
        tensors = self._tensors(trainer.model)
        self._swap(tensors)
        try:
            yield
        finally:
            self._swap(tensors)

    def state_dict(self) -> dict[str, Any]:
        """The averages by name, and how many updates made them."""
        return {"updates": self.updates, "averages": dict(self.averages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them; averages of buffers are dropped where they are not wanted any more."""
        self.updates = int(state["updates"])
        self.averages = dict(state["averages"])
        self._places = []

    def _tensors(self, model: nn.Module) -> list[Tensor]:
        """The tensors of the model that are averaged, in the order of ``averages``, which it begins with copies."""
        if not self._places:
            buffers = dict(model.named_buffers()) if self.buffers else {}
            tensors = {name: each.detach() for name, each in (dict(model.named_parameters()) | buffers).items()}
            if not self.averages:
                self.averages = {name: each.clone() for name, each in tensors.items() if _can_be_averaged(each)}
            self.averages = {
                name: each.to(tensors[name].device) for name, each in self.averages.items() if name in tensors
            }
            self._places = [_place(model, name) for name in self.averages]
        return [owner[name] for owner, name in self._places]

    def _swap(self, tensors: list[Tensor]) -> None:
        # Exchanges the memory of both, which copies nothing and allocates nothing.
        for name, tensor in zip(self.averages, tensors, strict=True):
            tensor.data, self.averages[name] = self.averages[name], tensor.data


def _can_be_averaged(tensor: Tensor) -> bool:
    """Whether it is made of numbers; of a mask with infinities the average would be NaN."""
    return (tensor.is_floating_point() or tensor.is_complex()) and bool(torch.isfinite(tensor).all())


def _place(model: nn.Module, name: str) -> Place:
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    return (module._parameters if last in module._parameters else module._buffers), last
