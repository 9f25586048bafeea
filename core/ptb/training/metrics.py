"""The mean loss and the metrics of one pass over a split, without a wait for the device before its end."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptb.data.batch import Batch, leaves, map_leaves
from ptb.errors import tidy
from ptb.training.objective import HIDDEN, Objective
from ptb.training.protocols import Metric
from ptb.training.state import component_state, load_component_state

# Batches wait until there are so many: the metrics of 64 small batches cost hardly more than those of one.
HELD_BATCHES = 64
HELD_VALUES = 1 << 20


class Held(NamedTuple):
    """A batch that waits."""

    scores: Tensor
    targets: Any
    weights: Tensor | None
    classes: Tensor | None  # of samples that are mixed
    loss: Tensor


class RunningMetrics:
    """Accumulates losses and metrics on the device, several batches at a time. It resets the metrics first."""

    def __init__(self, objective: Objective, metrics: Mapping[str, Metric]) -> None:
        self._objective = objective
        self.metrics = dict(metrics)
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self._held: list[Held] = []
        self._most = 0
        self._sum = torch.zeros((), device=self._objective.device)
        self._count: Tensor | int = 0
        for _, metric in self._called_metrics():
            metric.reset()

    def add(self, scores: Tensor, batch: Batch, loss: Tensor) -> None:
        """Take in a batch, with the scores that metrics get and its loss, a scalar, both without gradients.

        Each process adds its piece of a batch, also one without samples: that is ``NOTHING``, with any scores and loss.
        """
        if not self._held:
            processes = self._objective.processes
            values = scores.numel() if processes is None else max(processes.gather(scores.numel())) * processes.size
            self._most = min(HELD_BATCHES, HELD_VALUES // max(values, 1))
        self._held.append(Held(scores, batch.targets, batch.weights, getattr(batch, "classes", None), loss))
        if len(self._held) >= self._most:
            self.flush()

    def flush(self) -> None:
        """Give the batches that wait to the metrics."""
        if not self._held:
            return
        held, self._held = self._of_all_processes(self._held), []
        scores, targets, weights, classes, losses = (list(column) for column in zip(*held, strict=True))
        self._add_losses(torch.stack(losses), targets, weights)
        if self.metrics:
            self._update(scores, [y if own is None else own for y, own in zip(targets, classes, strict=True)])

    def compute(self) -> dict[str, float]:
        """The mean loss over all samples, as if they were one batch, and every metric; waits for the device.

        A metric with several figures gives ``LABEL/FIGURE`` for each. Where the loss is not finite there is nothing to
        measure, and a metric might raise: the loss stands alone.
        """
        self.flush()
        count = float(self._count)
        figures = {"loss": float(self._sum) / count if count else 0.0}
        if not math.isfinite(figures["loss"]):
            return figures
        for label, metric in self._called_metrics():
            value = metric.compute()
            if isinstance(value, Mapping):
                figures |= {f"{label}/{name}": _number(each) for name, each in value.items()}
            else:
                figures[label] = _number(value)
        return figures

    def state_dict(self) -> dict[str, Any]:
        """What was taken in so far; the batches that still wait too, so that all sums go on in the same order."""
        metrics = {label: component_state(metric) for label, metric in self._called_metrics()}
        held = [list(figures) for figures in self._held]
        return {"held": held, "most": self._most, "sum": self._sum, "count": self._count, "metrics": metrics}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self._held = [Held(*each) for each in state["held"]]
        self._most, self._sum, self._count = int(state["most"]), state["sum"], state["count"]
        for label, metric in self._called_metrics():
            load_component_state(metric, state["metrics"][label])

    def _of_all_processes(self, held: list[Held]) -> list[Held]:
        """The pieces of all processes, in the order of the samples; those without samples are left out."""
        if (processes := self._objective.processes) is None:
            return held
        device = self._objective.device
        by_rank = processes.gather([Held(*(map_leaves(Tensor.cpu, part) for part in each)) for each in held])
        return [
            Held(*(map_leaves(lambda tensor: tensor.to(device), part) for part in each))
            for pieces in zip(*by_rank, strict=True)
            for each in pieces
            if not isinstance(each.targets, dict) or each.targets
        ]

    def _add_losses(self, losses: Tensor, targets: list[Any], weights: list[Tensor | None]) -> None:
        self._objective.calls.now = "loss"
        counts = list(map(self._objective.denominator, targets, weights))
        if all(isinstance(each, int) for each in counts):
            # Numbers go to the device in one transfer for all batches, which nobody waits for.
            divisors = torch.tensor(counts, dtype=losses.dtype).to(losses.device, non_blocking=True)
            self._count += sum(counts)
        else:
            divisors = torch.stack([torch.as_tensor(each, device=losses.device) for each in counts]).to(losses.dtype)
            self._count = self._count + divisors.sum()
        self._sum += (losses if self._objective.sums else losses * divisors).sum()

    def _update(self, scores: list[Tensor], targets: list[Any]) -> None:
        """Metrics get all samples that the loss uses; copies, so that writing into them changes nothing else."""
        objective, whole = self._objective, self._objective.whole
        if objective.own_units is not None:
            scores, targets = ([*map(objective.own_units, each)] for each in (scores, targets))
        masks = [objective.ignored(each) for each in targets]
        if whole:
            marked = targets
            if objective.positions:
                marked = [y.masked_fill(mask, HIDDEN) for y, mask in zip(targets, masks, strict=True)]
            for each_scores, each_targets in _joined(scores, marked):
                self._update_each(each_scores, each_targets, whole & self.metrics.keys())
        if self.metrics.keys() <= whole:
            return
        if objective.positions:
            scores, targets = [each.movedim(1, -1).flatten(0, -2) for each in scores], [*map(torch.flatten, targets)]
            masks = [None if mask is None else mask.flatten() for mask in masks]
        for each_scores, each_targets in _joined(scores, targets, masks):
            self._update_each(each_scores, each_targets, self.metrics.keys() - whole)

    def _update_each(self, scores: Tensor, targets: Any, labels: Collection[str]) -> None:
        if len(scores):
            for label, metric in self._called_metrics():
                if label in labels:
                    metric.update(scores, targets)

    def _called_metrics(self) -> Iterator[tuple[str, Metric]]:
        """The metrics by label, each noted as the component that is being called."""
        for label, metric in self.metrics.items():
            self._objective.calls.now = f"metrics.{label}"
            yield label, metric


def _joined(
    scores: Sequence[Tensor], targets: Sequence[Any], masks: Sequence[Tensor | None] = ()
) -> Iterator[tuple[Tensor, Any]]:
    """All batches as one, without the samples of the masks; where they differ in shape, one by one."""
    kept = [None if mask is None else ~mask for mask in masks or [None] * len(scores)]
    pairs = [
        (each_scores, each_targets) if keep is None else (each_scores[keep], each_targets[keep])
        for each_scores, each_targets, keep in zip(scores, targets, kept, strict=True)
    ]
    shapes = {(each.shape[1:], *(leaf.shape[1:] for leaf in leaves(target))) for each, target in pairs}
    if len(shapes) > 1:
        yield from pairs
        return
    scores, targets = zip(*pairs, strict=True)
    first = targets[0]
    if isinstance(first, dict):
        yield torch.cat(scores), {name: torch.cat([each[name] for each in targets]) for name in first}
    else:
        yield torch.cat(scores), torch.cat(targets)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        what = tidy(repr(value), 60)
        raise TypeError(f"compute() must give a number, or a dict of numbers, it gives {what}") from None
