"""The samples of a step are the same list for every number of processes."""

from itertools import chain

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources

CPU = torch.device("cpu")


def loader(size, batch_size, drop_last, placement="device"):
    data = TensorDataset(torch.arange(size)[:, None].float(), torch.arange(size))
    source = make_sources({"train": data}, CPU, placement)["train"]
    return BatchLoader(source, batch_size=batch_size, seed=4, shuffle=True, drop_last=drop_last)


def steps(batches, pieces=1):
    """The samples of each batch, those of its pieces one after the other."""
    found = [[] if batch.size == 0 else batch.targets.tolist() for batch in batches]
    return [[*chain(*found[place : place + pieces])] for place in range(0, len(found), pieces)]


@given(st.sampled_from([1, 2, 3, 4, 7]), st.integers(1, 200), st.booleans(), st.integers(1, 64), st.integers(1, 3))
def test_the_pieces_of_all_processes_are_the_batches_of_one(world, size, drop_last, batch_size, epoch):
    whole = steps(loader(size, batch_size, drop_last).epoch(epoch))
    by_rank = []
    for rank in range(world):
        cut = loader(size, batch_size, drop_last)
        cut.pieces, cut.piece_count = range(rank, rank + 1), world
        by_rank.append(steps(cut.epoch(epoch)))
    assert all(len(each) == len(whole) for each in by_rank)
    assert [[*chain(*pieces)] for pieces in zip(*by_rank, strict=True)] == whole
    sizes = [[len(piece) for piece in pieces] for pieces in zip(*by_rank, strict=True)]
    assert all(max(each) - min(each) <= 1 for each in sizes)


@given(st.sampled_from([1, 2, 4]), st.integers(1, 60), st.integers(1, 20), st.data())
def test_shards_are_the_same_pieces_whoever_takes_them(world, size, batch_size, data):
    start = data.draw(st.integers(0, -(-size // batch_size)))
    by_rank = []
    for rank in range(world):
        cut = loader(size, batch_size, False)
        own = 4 // world
        cut.pieces, cut.piece_count = range(rank * own, (rank + 1) * own), 4
        by_rank.append(steps(cut.epoch(1, start), own))
    together = [[*chain(*pieces)] for pieces in zip(*by_rank, strict=True)]
    assert together == steps(loader(size, batch_size, False).epoch(1, start))


@given(st.integers(1, 7), st.integers(0, 60), st.integers(1, 20))
def test_whole_batches_are_taken_in_turn(world, size, batch_size):
    whole = steps(loader(size, batch_size, False).epoch())
    by_rank = []
    for rank in range(world):
        own = loader(size, batch_size, False)
        by_rank.append(steps(own.epoch(turn=(rank, world))))
    assert [[each for each in turn if each] for turn in zip(*by_rank, strict=True)] == [[each] for each in whole]


def test_a_piece_is_read_by_whoever_takes_it_only():
    class Read(torch.utils.data.Dataset):
        def __init__(self):
            self.read = []

        def __len__(self):
            return 10

        def __getitem__(self, index):
            self.read.append(index)
            return torch.zeros(1), index

    data = Read()
    own = BatchLoader(make_sources({"train": data}, CPU, num_workers=0)["train"], batch_size=4)
    own.pieces, own.piece_count = range(1, 2), 3
    sizes = [batch.size for batch in own.epoch()]
    data.read.clear()
    assert [batch.size for batch in own.epoch()] == sizes == [1, 1, 1]
    assert data.read == [2, 6, 9]
