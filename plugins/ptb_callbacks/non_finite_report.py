"""For a loss or gradient that is not finite: says where the first such number comes from, and in which samples."""

import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ptb import Callback, NonFiniteError
from ptb_callbacks.text import listing

SHOWN = 10  # names and samples in the message
LONGEST_TEXT = 200  # of another error in it
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteReport(Callback):
    """Takes the forward pass of the step that failed once more, on a copy of the model, and warns with what it finds.

    The first of these that is not finite is the finding: the inputs, the parameters, the output of a module (in the
    order in which they end), the targets, the loss, the gradients. Dropout draws other random numbers than in the step,
    so what happened there may not happen again; the warning says where that is so.
    """

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        """Say where the number was lost, if that is the error."""
        if not isinstance(error, NonFiniteError):
            return
        text, rows = _find(trainer, error)
        known = bool(rows.any())
        samples = listing((error.sample_indices[rows] if known else error.sample_indices).tolist(), SHOWN)
        where = f"in training samples {samples}" if known else f"the step had training samples {samples}"
        warnings.warn(f"non-finite-report: step {trainer.state.step + 1}: {text}; {where}", stacklevel=2)


class _Finding(NamedTuple):
    """What is not finite, and in which samples ``[N]`` of the step; in none where that cannot be told apart."""

    text: str
    rows: Tensor


def _find(trainer: Any, error: NonFiniteError) -> _Finding:
    inputs, targets = (
        torch.cat([_non_finite_rows(part, batch.size) for batch, part in zip(error.micro_batches, parts, strict=True)])
        for parts in zip(*((batch.inputs, batch.targets) for batch in error.micro_batches), strict=True)
    )
    nowhere, model = torch.zeros_like(inputs), trainer.model
    if inputs.any():
        return _Finding("the inputs are not finite", inputs)
    if isinstance(model, nn.Module):
        if names := [name for name, each in model.named_parameters() if each.requires_grad and _has_non_finite(each)]:
            return _Finding(f"parameters were not finite before it already: {listing(names, SHOWN)}", nowhere)
        outputs, seen = _take_pass(trainer, model, error)
        if outputs.first:
            return _Finding(f"the first output that is not finite is that of {outputs.first}{seen}", outputs.rows)
        seen = f"the outputs of all modules are finite{seen}"
    else:
        seen = "the model cannot be copied, so its modules were not looked at"
    if targets.any():
        return _Finding("the targets are not finite", targets)
    if not math.isfinite(error.loss):
        return _Finding(f"the loss is {error.loss}; {seen}", nowhere)
    if error.parameters:  # going back, that of the last one was the first to be computed
        return _Finding(f"the first gradient that is not finite is that of {error.parameters[-1]}; {seen}", nowhere)
    return _Finding(f"each gradient is finite, their norm is not; {seen}", nowhere)


def _take_pass(trainer: Any, model: nn.Module, error: NonFiniteError) -> tuple["_Outputs", str]:
    """What the outputs of the modules are, and why they may not be those of the step."""
    sizes = [batch.size for batch in error.micro_batches]
    outputs, note = _Outputs(model, sum(sizes)), ""
    before = _random_numbers(trainer.device)
    hooks = [module.register_forward_hook(outputs.look) for module in model.modules()]
    try:
        with torch.no_grad(), _autocast(trainer):
            for batch in error.micro_batches:
                outputs.begin(batch.size)
                _forward(model, batch.inputs)
    except Exception as failure:  # a model may raise anything
        text = " ".join(str(failure).split())[:LONGEST_TEXT]
        note = f" up to where the forward pass failed ({type(failure).__name__}: {text})"
    finally:
        for hook in hooks:
            hook.remove()
    if not torch.equal(before, _random_numbers(trainer.device)):
        note += ", with other random numbers than in the step, such as those of dropout"
    return outputs, note


class _Outputs:
    """Looks at the output of each module.

    Args:
        model: whose modules they are.
        samples: in the step.

    Attributes:
        first: the first module whose output is not finite, in the order in which they end; empty where there is none.
        rows: the samples ``[samples]`` of its output that are not finite.
    """

    def __init__(self, model: nn.Module, samples: int) -> None:
        self.first = ""
        self.rows = torch.zeros(samples, dtype=torch.bool)
        self._names = {module: name or "the model" for name, module in model.named_modules()}
        self._batch = slice(0, 0)

    def begin(self, size: int) -> None:
        """The next micro-batch has so many samples."""
        self._batch = slice(self._batch.stop, self._batch.stop + size)

    def look(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        """A forward hook."""
        if not any(map(_has_non_finite, _tensors(output))):
            return
        self.first = self.first or f"{self._names[module]} ({type(module).__name__})"
        rows = self.rows[self._batch]
        if not rows.any():  # later modules, such as batch norm, spread it to other samples
            rows |= _non_finite_rows(output, len(rows))


def _forward(model: nn.Module, inputs: Any) -> None:
    try:
        model(inputs)
    except Exception:
        if not isinstance(inputs, Tensor) or inputs.ndim < 3 or inputs.shape[1] != 2:
            raise
        model(inputs.flatten(0, 1))  # pairs: the model takes both halves of each


def _autocast(trainer: Any) -> AbstractContextManager[object]:
    dtype = AUTOCAST.get(trainer.settings.precision)
    return torch.autocast(trainer.device.type, dtype) if dtype else nullcontext()


def _random_numbers(device: torch.device) -> Tensor:
    """The state of the generators from which layers draw."""
    own = [torch.get_rng_state()]
    if device.type == "cuda":
        own.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        own.append(torch.mps.get_rng_state())
    return torch.cat(own)


def _non_finite_rows(values: Any, size: int) -> Tensor:
    """Which samples ``[size]`` hold something that is not finite, in tensors that have a row, or two, for each."""
    rows = torch.zeros(size, dtype=torch.bool)
    for tensor in _tensors(values):
        if tensor.numel() and tensor.ndim and len(tensor) in (size, 2 * size):
            rows = rows | ~torch.isfinite(tensor).reshape(size, -1).all(1).cpu()
    return rows


def _has_non_finite(tensor: Tensor) -> bool:
    return not torch.isfinite(tensor).all()


def _tensors(values: Any) -> Iterator[Tensor]:
    """Those of a tensor, or of containers of tensors."""
    if isinstance(values, Tensor):
        values = values.detach()
        yield values._values() if values.is_sparse else values
    elif isinstance(values, dict | list | tuple):
        for inner in values.values() if isinstance(values, dict) else values:
            yield from _tensors(inner)
