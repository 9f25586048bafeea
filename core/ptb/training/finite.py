"""Whether losses, gradients and weights are numbers, and what to say where they are not."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor, nn

from ptb.errors import NumericalError, listing
from ptb.training.optimizers import learning_rates
from ptb.training.protocols import Batch
from ptb.training.state import model_state
from ptb.training.step import NonFiniteError

if TYPE_CHECKING:
    from ptb.training.evaluation import MetricsRow
    from ptb.training.trainer import Trainer


class FiniteCheck:
    """Looks at many tensors of a device in one pass, and waits for the device once."""

    def __init__(self, device: torch.device) -> None:
        self._found = torch.zeros(1, device=device)
        self._one = torch.ones(1, device=device)

    @torch.no_grad()
    def all_finite(self, tensors: Sequence[Tensor]) -> bool:
        """Whether every value is finite."""
        # The kernel of the gradient scaler: 11 us where torch.nn.utils.get_total_norm takes 48. It divides by 1,
        # which changes nothing, and takes neither sparse nor complex tensors.
        check = torch._amp_foreach_non_finite_check_and_unscale_
        self._found.zero_()
        try:
            check(list(tensors), self._found, self._one)
        except RuntimeError:
            for tensor in tensors:
                check([_real_values(tensor)], self._found, self._one)
        return self._found.item() == 0


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of those that hold something that is not finite; waits for the device once."""
    if not tensors:
        return []
    finite = torch.stack([torch.isfinite(_real_values(each)).all() for each in tensors.values()])
    return [name for name, good in zip(tensors, finite.tolist(), strict=True) if not good]


def non_finite_tensors(model: nn.Module) -> set[str]:
    """The trained parameters and the buffers that hold something that is not finite."""
    trained = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}
    return set(non_finite(trained | dict(model.named_buffers())))


def abort_non_finite(trainer: "Trainer", loss: float, micro_batches: Sequence[Batch]) -> NoReturn:
    """Raises a ``NonFiniteError`` that says what of a step is not finite."""
    state, accumulate, rates = trainer.state, trainer.settings.accumulate, learning_rates(trainer.optimizer)
    names = non_finite({name: each.grad for name, each in trainer.model.named_parameters() if each.grad is not None})
    if not math.isfinite(loss):
        what = f"the loss is {loss}"
    elif names:
        what = f"the gradients of {listing(names, 3)} are not finite"
    elif not all(map(math.isfinite, rates)):
        what = f"the learning rate is {listing([*map(str, rates)])}"
    else:
        what = "the norm of the gradients overflows"
    if trainer.broken_ranks:
        what += f" (that of rank {listing([*map(str, trainer.broken_ranks)])})"
    advice = _advice(rates[0] if rates else None)
    error = NonFiniteError(
        f"{what} at step {state.step + 1} (epoch {state.epoch + 1}), and the step was not taken; {advice} "
        "(--callback non-finite-report finds the first module and the samples)"
    )
    error.loss, error.parameters, error.micro_batches = loss, tuple(names), micro_batches
    start = state.epoch_step * accumulate
    error.sample_indices = trainer.train_loader.sample_indices(state.epoch + 1, start, accumulate)
    raise error


def check_scale(trainer: "Trainer") -> None:
    """Called where the scaler has skipped a step; ends a training that would only skip steps from now on."""
    # Below 1 the scale would make small what has overflowed without it.
    if trainer.scaler.get_scale() < 1:
        raise NumericalError(
            f"the fp16 gradients overflow at step {trainer.state.step}, even when they are not scaled up any more "
            f"(steps skipped so far: {trainer.state.skipped_steps}): use trainer.precision=bf16 or fp32, or a smaller "
            "optimizer.lr"
        )


def check_rows(rows: Iterable["MetricsRow"]) -> None:
    """Stop a training whose loss over a split is not a number any more."""
    for row in rows:
        if not math.isfinite(row.values["loss"]):
            split = {"train": "training", "val": "validation"}.get(row.split, row.split)
            raise NumericalError(
                f"the {split} loss is {row.values['loss']} after step {row.step}, and nothing is saved after that; "
                f"{_advice(row.lr)}"
            )


def check_weights(trainer: "Trainer") -> None:
    """Called before weights are saved: none may have become infinite or NaN since the beginning."""
    if lost := non_finite_tensors(trainer.model) - trainer.initially_non_finite:
        raise NumericalError(
            f"the weights are not finite after step {trainer.state.step} ({listing(sorted(lost), 3)}), although loss "
            f"and gradients were: they are not saved; {_advice(trainer.state.lr)}"
        )


def check_same_weights(trainer: "Trainer") -> None:
    """Called before weights are saved, by all processes: each must have those of rank 0, to the last bit."""
    if (processes := trainer.objective.processes) is None:
        return
    own = {
        name: hashlib.sha256(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        ).hexdigest()
        for name, value in model_state(trainer.model).items()
        if value.numel()
    }
    first, *others = processes.gather(own)
    for rank, other in enumerate(others, 1):
        if drifted := [name for name, digest in first.items() if other.get(name) != digest]:
            actors = listing([f"callbacks.{label}" for label in trainer.callbacks.actors])
            raise NumericalError(
                f"the weights of rank {rank} are not those of rank 0 after step {trainer.state.step}, first in "
                f"{drifted[0]}: {actors or 'what changes them'} must do the same in every process, and draw the same"
            )


def _advice(lr: float | None) -> str:
    if lr is not None and not math.isfinite(lr):
        return "the scheduler or the optimizer has set it; --scheduler constant leaves it as optimizer.lr says"
    smaller = "" if lr is None else f"the learning rate is {lr:g}: try a smaller optimizer.lr or "
    return f"{smaller or 'try '}trainer.clip_norm=1, or look for values in the data that are too large"


def _real_values(tensor: Tensor) -> Tensor:
    """The real numbers that a gradient is made of."""
    tensor = tensor._values() if tensor.is_sparse else tensor
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
