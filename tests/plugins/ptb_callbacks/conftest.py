"""Trainers built by hand, and what all callbacks must stand: to stop and resume after any step."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ptb.config.sections import TrainerSettings
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources
from ptb.storage.codec import Decoder, Encoder
from ptb.training.callback_list import CallbackList
from ptb.training.objective import Objective
from ptb.training.snapshot import restore_snapshot, take_snapshot
from ptb.training.trainer import Trainer

CPU = torch.device("cpu")


def small_net():
    """A model with what stops find: batch norm, and random numbers."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))


def samples(count=37):
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs.sum(1) > 0).long()


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.01)


@pytest.fixture
def make():
    """Builds a trainer of two epochs of four steps, each of two batches of five."""

    def make(net=small_net, actors=None, observers=None, optimizer=sgd, data=None, batch_size=5, loss=None, **settings):
        torch.manual_seed(0)
        inputs, targets = data or samples()
        train, val = TensorDataset(inputs, targets), TensorDataset(*samples(20))
        source = make_sources({"train": train, "val": val}, CPU)
        model = net()
        built = optimizer(model.parameters())
        return Trainer(
            Objective(model, loss or nn.CrossEntropyLoss(), CPU),
            built,
            torch.optim.lr_scheduler.ExponentialLR(built, 0.99),
            BatchLoader(source["train"], batch_size=batch_size, seed=3, shuffle=True),
            {"val": BatchLoader(source["val"], batch_size=7)},
            TrainerSettings(**{"epochs": 2, "accumulate": 2} | settings),
            callbacks=CallbackList(actors, observers),
            needs_closure=isinstance(built, torch.optim.LBFGS),
        )

    return make


def through_a_file(snapshot):
    """As a checkpoint gives it back."""
    encoder = Encoder()
    node = encoder.node(snapshot, "state")
    return Decoder(copy.deepcopy(encoder.tensors), CPU).value(node)


def assert_same(one, other, path=""):
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, path
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one.keys() - {"seconds", "epoch_start_time"}:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{path}.{number}")
    else:
        assert repr(one) == repr(other), path


@pytest.fixture
def assert_resumes():
    """Stops a training after every step, goes on from what was saved, and compares all of its state at the end."""

    def check(build):
        whole = build()
        last = whole.fit().step
        end = through_a_file(take_snapshot(whole))
        for step in range(last + 1):
            first = build()
            if step:
                first.fit(stop_after=step)
            saved = through_a_file(take_snapshot(first))
            resumed = build()
            restore_snapshot(resumed, saved)
            resumed.fit()
            assert_same(through_a_file(take_snapshot(resumed)), end, f"stopped after step {step}: ")

    return check
