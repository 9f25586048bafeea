"""What processes say to each other, and what they refuse."""

import os
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from ptb import IncompatibleError
from ptb.cli.lazy_dynamo import NAME, LazyDynamo
from ptb.distributed.place import LAUNCHER, Place, place
from ptb.distributed.world import World
from ptb.runs import manifest, together
from ptb.training.observers import Observers


@pytest.fixture
def world(monkeypatch):
    for key, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setitem(os.environ, key, value)
    world = World(Place(0, 1, 0, 1), torch.device("cpu"))
    yield world
    world.leave()


def test_one_process_talks_to_itself(world):
    assert world.sum_(torch.tensor([1.0, 2.0])).tolist() == [1, 2]
    assert world.gather({"a": torch.ones(2)})[0]["a"].tolist() == [1, 1]
    assert world.share("all") == "all"
    assert world.gather_rows(torch.ones(2, 3)).shape == (1, 2, 3)
    with world.first_on_host():
        pass


@pytest.fixture
def compiler(monkeypatch):
    """What stands in for torch's compiler, whether that has been imported before or not."""
    stand_in = LazyDynamo()
    monkeypatch.setitem(sys.modules, NAME, stand_in)
    monkeypatch.setitem(vars(torch), "_dynamo", stand_in)
    return stand_in


def test_processes_that_compile_nothing_import_no_compiler(compiler, world):
    assert world.share("all") == "all"
    assert sys.modules[NAME] is compiler


def test_a_collective_inside_an_observer_is_refused(world):
    class Talks:
        def on_epoch_end(self, trainer):
            dist.all_reduce(torch.ones(1))

    trainer = SimpleNamespace(objective=SimpleNamespace(processes=world), device=torch.device("cpu"), run=None)
    with pytest.warns(UserWarning, match=r"callbacks\.talks failed in on_epoch_end: ValueError: .*process group"):
        Observers({}).notify("on_epoch_end", [("talks", Talks().on_epoch_end)], trainer)
    assert world.sum_(torch.ones(1)).tolist() == [1]


def test_what_an_observer_starts_is_alone(world, monkeypatch):
    several = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", LAUNCHER: "1"}
    monkeypatch.setattr(os, "environ", os.environ | several)
    with world.closed():
        assert place() == Place()
        assert not several.keys() & os.environ.keys()
    assert place() == Place(0, 2, 0, 2)
    assert os.environ[LAUNCHER] == "1"


def test_processes_that_are_not_alike_are_refused_with_all_that_differs(in_ranks, monkeypatch):
    facts = {"ptb": "1", "torch": "2", "python": "3", "device": "cpu", "threads": 1, "dataset_sha256": "a"}
    facts |= {"cpu_capability": "x", "device_name": "cpu", "world_size": 2, "plugins": [], "plugin_files": {}}
    other = facts | {"torch": "2.1", "dataset_sha256": "b", "threads": 5}
    monkeypatch.setattr(manifest, "describe", lambda composed: other if composed.world.rank else facts)
    message = r"rank 1: torch was 2, and is 2\.1 here; rank 1: the data \(dataset_sha256\) was a, and is b here$"
    with pytest.raises(IncompatibleError, match=message):
        in_ranks(2, lambda world: together.check_alike(SimpleNamespace(world=world)))
    monkeypatch.setattr(manifest, "describe", lambda composed: facts | {"threads": composed.world.rank})
    in_ranks(2, lambda world: together.check_alike(SimpleNamespace(world=world)))
