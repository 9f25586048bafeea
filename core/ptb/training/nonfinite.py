"""Where a number was lost: the batches of a step once more, with an eye on every module."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ptb.errors import listing
from ptb.training.objective import Parts
from ptb.training.stepping import Group, Stepper

SHOWN = 10  # samples and parameters that a message names


@dataclass(frozen=True)
class Finding:
    """What was found on the batches of a step.

    Args:
        loss: the loss of the step.
        module: the first module whose output is not finite, in the order in which they end, with its type.
        parameters: those whose gradient is not finite, the last of the model first: where it was lost going back.
        samples: numbers, in their split, of the samples whose inputs, targets, scores or loss are not finite; of all
            samples of the step where that cannot be told apart.
        data: which of the data was not finite itself.
        again: it happened again when the step was tried once more.
    """

    loss: float
    module: str | None
    parameters: tuple[str, ...]
    samples: tuple[int, ...]
    data: Literal["inputs", "targets"] | None
    again: bool

    def told(self, step: int) -> str:
        """One sentence for people: what, where, for which samples."""
        lost = not isfinite(self.loss)
        what = f"the loss is {self.loss}" if lost else "the gradients are not finite"
        where = ""
        if self.data is not None:
            where = f": the {self.data} are not finite"
        elif self.module is not None:
            where = f": the first output that is not finite is that of {self.module}"
        elif lost and self.again:
            where = ": the scores of the model are finite, their loss is not"
        elif self.parameters:
            where = f": first in that of {listing(self.parameters, SHOWN)}"
        elif self.again:
            where = ": each is a finite number, but so large that their norm is not"
        doubt = "" if self.again else "; tried once more, it was finite"
        return f"{what} at step {step}{where} (samples {listing([*map(str, self.samples)], SHOWN)}){doubt}"


class _Deaf:
    """Nobody need be told that the samples go through the model in parts here too."""

    def smaller(self, samples: int) -> None: ...


def find(parts: Parts, group: Group, samples: Sequence[Tensor], loss: float, most: int | None = None) -> Finding:
    """Takes the gradients of a step again and looks where the first number is lost; no step is taken.

    Args:
        parts: as they were when the step began; buffers and random numbers move on.
        group: its batches.
        samples: the numbers of their samples, int64 ``[B]`` for each batch.
        loss: the loss of the step.
        most: samples that go through the model at once; None is as many as a batch has.
    """
    parts = replace(parts, compiled=None)  # which would not see the hooks
    stepper = Stepper(parts, None, True, _Deaf())
    stepper.most = most
    modules: list[str] = []
    with _outputs(parts.model, modules):
        found = stepper.gradients(group)
    gradients = {name: _dense(each.grad) for name, each in parts.model.named_parameters() if each.grad is not None}
    lost = [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()]
    parts.optimizer.zero_grad(set_to_none=True)
    again = bool(lost) or not isfinite(found.loss) or not isfinite(nn.utils.get_total_norm(gradients.values()))
    inputs = torch.cat([_lost_rows(inputs) for inputs, _ in group])
    targets = torch.cat([_lost_rows(targets) for _, targets in group])
    rows = torch.cat([_lost_samples(parts, *figures) for figures in found.figures])
    data: Literal["inputs", "targets"] | None = "inputs" if inputs.any() else "targets" if targets.any() else None
    if data is not None:  # batch norm takes it from there to all the others
        rows = inputs if data == "inputs" else targets
    numbers = torch.cat([*samples])
    return Finding(
        loss=loss,
        module=modules[0] if modules else None,
        parameters=tuple(reversed(lost)),
        samples=tuple((numbers[rows.cpu()] if rows.any() else numbers).tolist()),
        data=data,
        again=again,
    )


@contextmanager
def _outputs(model: nn.Module, lost: list[str]) -> Iterator[None]:
    """Lists the modules whose output is not finite, in the order in which they end."""
    names = {module: name or "the model" for name, module in model.named_modules()}

    def look(module: nn.Module, _inputs: Any, output: Any) -> None:
        if not all(_lost_rows(tensor).logical_not().all() for tensor in _tensors(output)):
            lost.append(f"{names[module]} ({type(module).__name__})")

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    """Those of a tensor, or of containers of tensors."""
    if isinstance(output, Tensor):
        yield _dense(output.detach())
    elif isinstance(output, dict | list | tuple):
        for inner in output.values() if isinstance(output, dict) else output:
            yield from _tensors(inner)


@torch.no_grad()
def _lost_samples(parts: Parts, scores: Tensor, targets: Tensor, loss: Tensor) -> Tensor:
    """Which samples ``[B]`` of a batch have scores that are not finite, or else a loss that is not."""
    rows = _lost_rows(scores)
    if not rows.any() and not torch.isfinite(loss):
        with suppress(Exception):  # not every loss takes a single sample
            each = parts.loss(scores, targets)
            pairs = zip(torch.split(scores, 1), torch.split(targets, 1), strict=True)
            rows = _lost_rows(each if each.ndim else torch.stack([parts.loss(*pair) for pair in pairs]))
    return rows


def _lost_rows(values: Tensor) -> Tensor:
    """Which rows ``[B]`` hold something that is not finite."""
    lost = ~torch.isfinite(values.detach())
    return lost.flatten(1).any(1) if lost.ndim > 1 else lost


def _dense(tensor: Tensor) -> Tensor:
    return tensor._values() if tensor.is_sparse else tensor
