"""Training loops as one writes them by hand, on the parts of a composed run: what ptb is measured beside."""

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ptb.internals import Batch, ComposedRun, InMemorySamples, Trainer

Transform = Callable[[Tensor], Tensor]


class Items(Dataset[tuple[Tensor, Tensor]]):
    """Samples one by one, each prepared by itself, as the data set of a tutorial gives them."""

    def __init__(self, split: Dataset[Any], transform: Transform | None) -> None:
        self.split = split
        self.transform = transform

    def __len__(self) -> int:
        return len(self.split)  # type: ignore[arg-type]  # a Dataset need not have a length, these have

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, target = self.split[index]
        return (inputs if self.transform is None else self.transform(inputs)), target


def steps(trainer: Trainer, batches: Iterable[Batch]) -> None:
    """One pass, with nothing in it but what training is."""
    model, loss, optimizer = trainer.model, trainer.objective.loss, trainer.optimizer
    model.train()
    for inputs, targets, _ in batches:
        optimizer.zero_grad(set_to_none=True)
        loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()


def train_steps(composed: ComposedRun) -> float:
    """The steps of a run, without what a run does beside them: the floor's batches through ``Trainer.train_step``."""
    trainer = composed.trainer
    batches = list(trainer.train_loader.epoch(1))
    began = perf_counter()
    trainer.model.train()
    for batch in batches:
        trainer.train_step([batch])
    wait(trainer.device)
    return perf_counter() - began


def pre_cut(composed: ComposedRun) -> float:
    """The floor: the batches of an epoch are cut and prepared before the clock starts."""
    batches = list(composed.trainer.train_loader.epoch(1))
    return _timed(composed.trainer, batches)


def gathered(composed: ComposedRun) -> float:
    """The best loop for data in memory: one permutation, and a batch by index from tensors on the device."""
    trainer, loader = composed.trainer, composed.trainer.train_loader
    held = InMemorySamples.of(composed.bundle.splits["train"])
    if held is None:
        raise ValueError("the samples are not at hand")
    rows = torch.arange(held.size) if held.rows is None else held.rows
    inputs, targets = held.tensors.inputs[rows].to(trainer.device), held.tensors.targets[rows].to(trainer.device)

    def batches() -> Iterator[Batch]:
        for chosen in torch.split(torch.randperm(len(targets)).to(trainer.device), loader.batch_size):
            batch = inputs[chosen]
            yield Batch(batch if loader.transform is None else loader.transform(batch), targets[chosen])

    return _timed(trainer, batches())


def data_loader(composed: ComposedRun, num_workers: int = 0) -> float:
    """The loop of the tutorials: a ``Dataset`` that prepares each sample, and a ``DataLoader``."""
    trainer, batches = composed.trainer, composed.trainer.train_loader
    loader = DataLoader(
        Items(composed.bundle.splits["train"], batches.transform),
        batch_size=batches.batch_size,
        shuffle=True,
        num_workers=num_workers,
        pin_memory=trainer.device.type == "cuda",
    )
    return _timed(trainer, (Batch(x.to(trainer.device), y.to(trainer.device)) for x, y in loader))


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


def _timed(trainer: Trainer, batches: Iterable[Batch]) -> float:
    began = perf_counter()
    steps(trainer, batches)
    wait(trainer.device)
    return perf_counter() - began
