"""A trainer built by hand, and what notes how it goes."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ptb.config.sections import TrainerSettings
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources
from ptb.seeding import preserve_rng_state
from ptb.storage.codec import decode, encode
from ptb.training.callback_list import CallbackList
from ptb.training.objective import Objective
from ptb.training.snapshot import restore_snapshot, take_snapshot
from ptb.training.trainer import Trainer

CPU = torch.device("cpu")


class Notes:
    """Records the rows, and saves like a checkpoint does: encoded, so that nothing is shared with the training."""

    def __init__(self):
        self.rows, self.saved = [], {}

    def on_row(self, trainer, row):
        self.rows.append((row.step, row.epoch, row.split, row.values, row.lr))

    def save(self, trainer):
        self.saved[trainer.state.step] = encode(take_snapshot(trainer))
        return f"step-{trainer.state.step}"


def data(size, targets=None):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(size, 3, generator=generator)
    return TensorDataset(inputs, torch.randint(2, (size,), generator=generator) if targets is None else targets)


def build(
    model=None,
    *,
    loss=None,
    optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
    dataset=None,
    size=10,
    targets=None,
    batch_size=4,
    splits=("val",),
    metrics=dict,
    actors=None,
    observers=None,
    recorders=(),
    better="lower",
    autocast=None,
    pairs=False,
    positions=False,
    closure=False,
    shuffle=True,
    transform=None,
    augment=None,
    **settings,
):
    """A trainer; ``notes`` records it. Everything random begins at the same place each time."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)
    model = model() if model else nn.Linear(3, 2)
    source = make_sources({"train": dataset or data(size, targets)}, CPU)["train"]
    optimizer = optimizer(model.parameters())
    callbacks = CallbackList(actors, observers, better=better)
    trainer = Trainer(
        Objective(model, loss or nn.CrossEntropyLoss(), CPU, autocast=autocast, pairs=pairs, positions=positions),
        optimizer,
        scheduler(optimizer),
        BatchLoader(source, batch_size=batch_size, shuffle=shuffle, transform=transform, augment=augment),
        {split: BatchLoader(source, batch_size=batch_size, transform=transform) for split in splits},
        TrainerSettings(**{"epochs": 2, **settings}),
        train_metrics=metrics(),
        eval_metrics=metrics(),
        callbacks=callbacks,
        needs_closure=closure,
    )
    trainer.notes = Notes()
    callbacks.attach([trainer.notes, *recorders], trainer.notes.save)
    return trainer


def resumed(trainer, saved, rows=()):
    """A freshly built trainer at the saved state, with the rows that a run directory would still have."""
    state = decode(saved)
    restore_snapshot(trainer, state)
    trainer.notes.rows = list(rows)[: trainer.state.rows_logged]
    return trainer


def state_of(trainer):
    """All that a checkpoint holds, but the times, by its place."""
    encoded = encode(take_snapshot(trainer))
    flat = {}
    for key, value in encoded.node.items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    flat |= {name: (each.dtype, each.tolist()) for name, each in encoded.tensors.items()}
    return {name: value for name, value in flat.items() if not name.endswith(("seconds", "epoch_start_time"))}


@pytest.fixture(autouse=True)
def _own_random_numbers():
    with preserve_rng_state():
        yield


@pytest.fixture(name="build", scope="session")
def _build():
    return build


@pytest.fixture(name="resumed", scope="session")
def _resumed():
    return resumed


@pytest.fixture(name="state_of", scope="session")
def _state_of():
    return state_of
