"""Training loops as one writes them by hand, on the parts of a composed run: what ptb is measured beside."""

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ptb.data.sources import Batch, InMemorySamples
from ptb.runs.compose import ComposedRun
from ptb.training.objective import Parts

Prepare = Callable[[Tensor], Tensor]


class Items(Dataset[tuple[Tensor, Tensor]]):
    """Samples one by one, each prepared by itself, as the data set of a tutorial gives them."""

    def __init__(self, split: Dataset[Any], prepare: Prepare | None) -> None:
        self.split = split
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.split)  # type: ignore[arg-type]  # a Dataset need not have a length, these have

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, target = self.split[index]
        return (inputs if self.prepare is None else self.prepare(inputs)), target


def steps(parts: Parts, batches: Iterable[Batch]) -> None:
    """One pass, with nothing in it but what training is."""
    model, loss, optimizer = parts.model, parts.loss, parts.optimizer
    model.train()
    for inputs, targets in batches:
        optimizer.zero_grad(set_to_none=True)
        loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def pre_cut(composed: ComposedRun) -> float:
    """The floor: the batches of an epoch are cut and prepared before the clock starts."""
    batches = list(composed.parts.train.epoch(1))
    return _timed(composed.parts, batches)


def gathered(composed: ComposedRun) -> float:
    """The best loop for data in memory: one permutation, and a batch by index from tensors on the device."""
    parts = composed.parts
    held = InMemorySamples.of(composed.splits["train"])
    if held is None:
        raise ValueError("the samples are not at hand")
    rows = torch.arange(held.size) if held.rows is None else held.rows
    inputs, targets = held.inputs[rows].to(parts.device), held.targets[rows].to(parts.device)

    def batches() -> Iterator[Batch]:
        prepare = parts.train.prepare
        for chosen in torch.split(torch.randperm(len(targets)).to(parts.device), parts.train.batch_size):
            batch = inputs[chosen]
            yield (batch if prepare is None else prepare(batch)), targets[chosen]

    return _timed(parts, batches())


def data_loader(composed: ComposedRun, num_workers: int = 0) -> float:
    """The loop of the tutorials: a ``Dataset`` that prepares each sample, and a ``DataLoader``."""
    parts = composed.parts
    loader = DataLoader(
        Items(composed.splits["train"], parts.train.prepare),
        batch_size=parts.train.batch_size,
        shuffle=True,
        num_workers=num_workers,
        pin_memory=parts.device.type == "cuda",
    )
    return _timed(parts, ((x.to(parts.device), y.to(parts.device)) for x, y in loader))


def read_by_loader(inputs: Tensor, targets: Tensor, batch_size: int, device: torch.device) -> float:
    """Reads an epoch through a ``TensorDataset`` and a ``DataLoader``, and trains nothing."""
    loader = DataLoader(
        TensorDataset(inputs, targets), batch_size=batch_size, shuffle=True, pin_memory=device.type == "cuda"
    )
    began = perf_counter()
    for x, y in loader:
        x.to(device, non_blocking=True), y.to(device, non_blocking=True)
    wait(device)
    return perf_counter() - began


def wait(device: torch.device) -> None:
    """Until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(parts: Parts, batches: Iterable[Batch]) -> float:
    began = perf_counter()
    steps(parts, batches)
    wait(parts.device)
    return perf_counter() - began
