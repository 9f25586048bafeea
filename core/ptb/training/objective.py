"""What a step minimises: the model's scores, the loss of them, and what the loss divides by."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ptb.data.batch import Batch, leaves, map_leaves
from ptb.training.blame import Calls
from ptb.training.protocols import Loss, Processes

# No divisor is smaller: a batch may hold ignored samples only.
TINY = torch.finfo(torch.float32).tiny
# The class of a position that loss and metrics leave out, as in torch: padding, or a pixel without a label.
HIDDEN = -100


class Objective:
    """A model and a loss, called with the autocast of the run, each noted as the component that is being called.

    What a model returns, its outputs, are scores, or a dict with ``scores`` in it. A value ``loss`` in that dict is
    added to the loss.

    Args:
        model: the model.
        loss: what is minimised.
        device: of both.
        calls: where to note the component that is being called.
        autocast: dtype of the forward pass where that is safe; None is that of the weights.
        pairs: inputs are pairs ``[B, 2, *input_shape]``, and the model embeds both halves.
        positions: targets are classes at positions, some of which may be hidden.
        whole: labels of the metrics that take batches with positions as they are.
        own_units: gives scores and targets that were standardised in the targets' own units, for metrics.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        device: torch.device,
        *,
        calls: Calls | None = None,
        autocast: torch.dtype | None = None,
        pairs: bool = False,
        positions: bool = False,
        whole: frozenset[str] = frozenset(),
        own_units: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.model = model
        self.loss = loss
        self.device = device
        self.calls = calls or Calls()
        self.autocast_dtype = autocast
        self.pairs = pairs
        self.positions = positions
        self.whole = whole
        self.own_units = own_units
        self.processes: Processes | None = None  # that share the batches; None where this one is alone
        # The model by torch.compile, for full training batches only: every new shape would be compiled anew.
        self.compiled: Callable[[Any], Any] | None = None
        self.compiled_size = 0
        reduction = getattr(loss, "reduction", "mean")
        self.sums = reduction == "sum"
        self._takes_outputs = "outputs" in _parameters(loss)
        self._predictions: Callable[[Tensor], Tensor] | None = getattr(loss, "predictions", None)
        self._ignored: Callable[[Any], Tensor | None] = getattr(loss, "ignored", lambda targets: None)
        own = getattr(loss, "denominator", None)
        # A mean over values that the loss left unreduced is one over samples.
        self._denominator: Callable[[Tensor], Tensor | int] | None = None
        if reduction == "mean":
            self._denominator = own if callable(own) else _visible if positions else None

    @property
    def turn(self) -> tuple[int, int]:
        """The number of this process, and of those that evaluate whole batches in turn."""
        return (0, 1) if self.processes is None else (self.processes.rank, self.processes.size)

    def forward(self, inputs: Any) -> Any:
        """The outputs of the model: scores ``[B, output_size, *positions]``, for pairs embeddings ``[B, 2, E]``."""
        self.calls.now = "model"
        if self.autocast_dtype is None:
            return self._outputs(inputs)
        with torch.autocast(self.device.type, self.autocast_dtype):
            return map_leaves(_in_full, self._outputs(inputs))

    def loss_values(self, outputs: Any, targets: Any) -> Tensor:
        """What the loss gives: a scalar, or a value for each sample or element."""
        self.calls.now = "loss"
        return self.loss(scores_of(outputs), targets, **({"outputs": outputs} if self._takes_outputs else {}))

    def mean_loss(self, outputs: Any, batch: Batch) -> Tensor:
        """The loss of a batch as a scalar."""
        loss = self.loss_values(outputs, batch.targets)
        weights = self._weights(batch.targets, batch.weights) if loss.ndim else batch.weights
        if weights is not None:
            each = self.by_sample(loss, batch.targets) * weights
            loss = each.sum() if self.sums else each.sum() / weights.sum().clamp(min=TINY)
        elif loss.ndim:
            loss = loss.mean()
        if isinstance(outputs, dict) and "loss" in outputs:
            loss = loss + outputs["loss"].mean()
        return loss

    def by_sample(self, loss: Tensor, targets: Any) -> Tensor:
        """The loss of each sample ``[B]``, from a value for each sample or element."""
        if loss.ndim == 1:
            return loss
        ignored = self.ignored(targets)
        if ignored is None or ignored.shape != loss.shape:
            return loss.flatten(1).mean(1)
        return loss.flatten(1).sum(1) / (~ignored).flatten(1).sum(1).clamp(min=1)

    def predictions(self, outputs: Any) -> Tensor:
        """Scores in the target's own form, without gradients: what metrics get."""
        scores = scores_of(outputs).detach()
        if self._predictions is None:
            return scores
        self.calls.now = "loss"
        with torch.no_grad():
            return self._predictions(scores)

    def denominator(self, targets: Any, weights: Tensor | None = None) -> Tensor | int:
        """What the mean over a batch divides by: its samples that are not ignored, or the sum of their weights."""
        if self._denominator is not None and weights is None:
            return self._denominator(targets)
        used = self._weights(targets, weights)
        return size_of(targets) if used is None else used.sum()

    def divisor(
        self, micro_batches: Sequence[Batch], shared: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor | int | None:
        """What the mean over all micro-batches divides by; ``shared`` adds what other processes have of them.

        None where the losses simply add up: of one micro-batch, or of a loss that sums.
        """
        if (len(micro_batches) == 1 and shared is None) or self.sums:
            return None
        self.calls.now = "loss"
        of_each = [self.denominator(batch.targets, batch.weights) for batch in micro_batches if batch.size]
        whole = sum(of_each)
        if shared is not None:
            # In float64 sums of a few float32 numbers are exact, so their order does not matter.
            exact = [torch.as_tensor(each, dtype=torch.float64, device=self.device) for each in of_each]
            whole = shared(sum(exact, torch.zeros((), dtype=torch.float64, device=self.device)))
        return whole.float().clamp(min=TINY) if isinstance(whole, Tensor) else whole

    def share(self, loss: Tensor, batch: Batch, divisor: Tensor | int | None) -> Tensor:
        """What a micro-batch contributes to the mean over all of them."""
        return loss if divisor is None else loss * (self.denominator(batch.targets, batch.weights) / divisor)

    def ignored(self, targets: Any) -> Tensor | None:
        """Which targets the loss leaves out, a mask ``[B, *positions]``; None where it uses all."""
        self.calls.now = "loss"
        mask = self._ignored(targets)
        if not self.positions:
            return mask
        hidden: Tensor = targets == HIDDEN
        return hidden if mask is None else mask | hidden

    def _weights(self, targets: Any, weights: Tensor | None) -> Tensor | None:
        """The weights of samples ``[B]``, 0 where the loss leaves out the whole sample; None where all count as one."""
        ignored = self.ignored(targets)
        if ignored is None:
            return weights
        used = ~(ignored.flatten(1).all(1) if ignored.ndim > 1 else ignored)
        return used.float() if weights is None else weights * used

    def _outputs(self, inputs: Any) -> Any:
        model: Callable[[Any], Any] = self.model
        if self.compiled is not None and self.model.training and size_of(inputs) == self.compiled_size:
            model = self.compiled
        if not self.pairs:
            return model(inputs)
        outputs = model(map_leaves(lambda tensor: tensor.flatten(0, 1), inputs))
        return map_leaves(_in_pairs, outputs)


def scores_of(outputs: Any) -> Tensor:
    """The scores among what a model returned."""
    scores: Tensor = outputs["scores"] if isinstance(outputs, dict) else outputs
    return scores


def size_of(tree: Any) -> int:
    """How many samples a tensor, or a dict of tensors, holds."""
    return len(next(leaves(tree)))


# A model may return other things beside tensors.
def _in_full(output: Any) -> Any:
    return output.float() if isinstance(output, Tensor) and output.is_floating_point() else output


def _in_pairs(output: Any) -> Any:
    return output.view(-1, 2, *output.shape[1:]) if isinstance(output, Tensor) and output.ndim else output


def _visible(targets: Tensor) -> Tensor:
    return (targets != HIDDEN).sum()


def _parameters(loss: object) -> Sequence[str]:
    """The names of the parameters of a loss's call."""
    try:
        return [*inspect.signature(loss.forward if isinstance(loss, nn.Module) else cast(Any, loss)).parameters]
    except (TypeError, ValueError):  # what is written in C may show none
        return []
