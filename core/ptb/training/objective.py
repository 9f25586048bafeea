"""What a step minimises: the model's scores, the loss of them, and what the loss divides by."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ptb.training.blame import Calls
from ptb.training.protocols import Batch, Loss

# No divisor is smaller: a batch may hold ignored samples only.
TINY = torch.finfo(torch.float32).tiny


class Objective:
    """A model and a loss, called with the autocast of the run, each noted as the component that is being called."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        device: torch.device,
        *,
        autocast: torch.dtype | None = None,
        pairs: bool = False,
    ) -> None:
        self.model = model
        self.loss = loss
        self.device = device
        self.calls = Calls()
        self.autocast_dtype = autocast  # of the forward pass where that is safe; None is the type of the weights
        self.pairs = pairs  # inputs are pairs [B, 2, *input_shape], and the model embeds both halves
        # The model by torch.compile, for full training batches only: every new shape would be compiled anew.
        self.compiled: Callable[[Tensor], Tensor] | None = None
        self.compiled_size = 0
        reduction = getattr(loss, "reduction", "mean")
        self.sums = reduction == "sum"
        own = getattr(loss, "denominator", None)
        # A mean over values that the loss left unreduced is one over samples.
        self.denominator: Callable[[Tensor], Tensor | int] = own if callable(own) and reduction == "mean" else len

    def forward(self, inputs: Tensor) -> Tensor:
        """The model's scores ``[B, output_size]``; for pairs its embeddings ``[B, 2, output_size]``."""
        self.calls.now = "model"
        if self.autocast_dtype is None:
            return self._scores(inputs)
        with torch.autocast(self.device.type, self.autocast_dtype):
            return self._scores(inputs).float()

    def mean_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch as a scalar."""
        self.calls.now = "loss"
        loss = self.loss(scores, targets)
        return loss.mean() if loss.ndim else loss

    def divisor(self, micro_batches: Sequence[Batch]) -> Tensor | int | None:
        """What the mean over all micro-batches divides by: their samples, or the sum of their weights.

        None where the losses simply add up: of one micro-batch, or of a loss that sums.
        """
        if len(micro_batches) == 1 or self.sums:
            return None
        self.calls.now = "loss"
        whole = sum(self.denominator(targets) for _, targets in micro_batches)
        return whole.float().clamp(min=TINY) if isinstance(whole, Tensor) else whole

    def share(self, loss: Tensor, targets: Tensor, divisor: Tensor | int | None) -> Tensor:
        """What a micro-batch contributes to the mean over all of them."""
        return loss if divisor is None else loss * (self.denominator(targets) / divisor)

    def ignored(self, targets: Tensor) -> Tensor | None:
        """Which samples ``[B]`` the loss leaves out; None where it uses all."""
        own = getattr(self.loss, "ignored", None)
        return cast("Tensor | None", own(targets)) if callable(own) else None

    def _scores(self, inputs: Tensor) -> Tensor:
        model: Callable[[Tensor], Tensor] = self.model
        if self.compiled is not None and self.model.training and len(inputs) == self.compiled_size:
            model = self.compiled
        if not self.pairs:
            return model(inputs)
        embeddings = model(inputs.flatten(0, 1))
        return embeddings.view(-1, 2, *embeddings.shape[1:])
