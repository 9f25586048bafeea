"""Training epochs in which each class is equally likely, however rare it is."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ptb.data.sources import InMemorySamples
from ptb.data.spec import DataSpec
from ptb.errors import IncompatibleError


def classes_of(split: Dataset[Any], spec: DataSpec) -> Tensor:
    """Return the class of each sample, int64 ``[N]``.

    They are the targets of samples in memory, or what the data set has as ``targets``, as those of torchvision do.

    Raises:
        IncompatibleError: a sample has no one class, or they are not known before the samples are read.
    """
    if spec.target not in ("class", "binary") or spec.positions:
        raise IncompatibleError(f"loader.balance needs samples of one class each; these targets are {spec.target_form}")
    if (held := InMemorySamples.of(split)) is not None:
        targets, rows = held.tensors.targets, held.rows
    else:
        inner: Any = split.dataset if type(split) is Subset else split
        targets = getattr(inner, "targets", None)
        if targets is None:
            raise IncompatibleError(
                f"loader.balance needs the class of each training sample before it is read, and {type(inner).__name__} "
                "has neither tensors nor an attribute targets; weigh the classes in the loss instead"
            )
        rows = torch.as_tensor(split.indices) if type(split) is Subset else None
    classes = torch.as_tensor(targets).flatten().long()
    return classes if rows is None else classes[rows]


def balanced(classes: Tensor, generator: torch.Generator) -> Tensor:
    """Choose as many samples as there are, with replacement: a class of those that occur, then a sample of that class.

    Returns:
        Sample numbers, int64 ``[N]``, plus ``N`` for each time that it came before: its augmentation differs then.
    """
    size = len(classes)
    members = classes.argsort(stable=True)
    counts = torch.unique(classes, return_counts=True)[1]
    drawn = torch.randint(len(counts), (size,), generator=generator)
    within = (torch.rand(size, generator=generator, dtype=torch.float64) * counts[drawn]).long()
    order = members[(counts.cumsum(0) - counts)[drawn] + within]
    grouped, places = order.sort(stable=True)
    again = torch.arange(size) - torch.searchsorted(grouped, grouped)
    return order + size * torch.empty_like(again).scatter_(0, places, again)
