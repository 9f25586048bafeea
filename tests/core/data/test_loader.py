import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, StackDataset, Subset, TensorDataset

from ptb import DataError
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources

CPU = torch.device("cpu")


class Listed(Dataset):
    """The same samples, one by one, as a data set that knows nothing of ptb gives them."""

    def __init__(self, tensors):
        self.tensors = tensors

    def __len__(self):
        return len(self.tensors)

    def __getitem__(self, index):
        return self.tensors[index]


def numbered(size):
    return TensorDataset(torch.arange(size, dtype=torch.uint8).view(-1, 1), torch.arange(size))


def batches_of(split, placement="auto", num_workers=None, **options):
    return BatchLoader(make_sources({"train": split}, CPU, placement, num_workers)["train"], **options)


def listed(batches, epoch=1):
    return [targets.tolist() for _, targets, _ in batches.epoch(epoch)]


@given(size=st.integers(1, 40), batch_size=st.integers(1, 12), drop_last=st.booleans(), shuffle=st.booleans())
def test_an_epoch_has_every_sample_once_less_what_is_dropped(size, batch_size, drop_last, shuffle):
    batches = batches_of(numbered(size), batch_size=batch_size, seed=3, shuffle=shuffle, drop_last=drop_last)
    epoch = listed(batches)
    seen = [number for batch in epoch for number in batch]
    assert len(epoch) == len(batches)
    assert len(seen) == batches.samples == (size // batch_size * batch_size if drop_last else size)
    assert len(set(seen)) == len(seen)
    assert all(len(batch) == batch_size for batch in epoch[:-1])
    if not shuffle:
        assert seen == list(range(len(seen)))


WAYS = {
    "device": lambda data: {"split": data, "placement": "device"},
    "host": lambda data: {"split": data, "placement": "host"},
    "workers of tensors": lambda data: {"split": data, "placement": "workers", "num_workers": 2},
    "a subset": lambda data: {"split": Subset(data, range(len(data)))},
    "a subset of a subset": lambda data: {"split": Subset(Subset(data, range(10, -1, -1)), range(10, -1, -1))},
    "a subset of those in a worker": lambda data: {
        "split": Subset(Subset(Listed(data), range(10, -1, -1)), range(10, -1, -1)),
        "num_workers": 1,
    },
    "no worker": lambda data: {"split": Listed(data), "num_workers": 0},
    "one worker": lambda data: {"split": Listed(data), "num_workers": 1},
    "two workers": lambda data: {"split": Listed(data), "num_workers": 2},
    "three workers": lambda data: {"split": Listed(data), "num_workers": 3},
}


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_every_placement_and_number_of_workers_gives_the_same_batches(way, drop_last):
    data = numbered(11)
    options = {"batch_size": 4, "seed": 5, "shuffle": True, "drop_last": drop_last}
    options |= {
        "transform": lambda inputs: inputs / 255,
        "augment": lambda inputs, targets, generator: (inputs + generator.uniform(1), targets),
    }
    expected = BatchLoader(make_sources({"train": data}, CPU)["train"], **options)
    chosen = batches_of(**WAYS[way](data), **options)
    for epoch in (1, 2):
        for (x1, y1, _), (x2, y2, _) in zip(expected.epoch(epoch), chosen.epoch(epoch), strict=True):
            assert x1.dtype == x2.dtype
            assert torch.equal(x1, x2)
            assert torch.equal(y1, y2)
    chosen.source.close()


def test_the_order_is_a_function_of_seed_and_epoch():
    batches = batches_of(numbered(50), batch_size=7, seed=1, shuffle=True)
    first = listed(batches, 1)
    assert listed(batches, 2) != first
    torch.manual_seed(99)
    assert listed(batches, 1) == first
    assert listed(batches_of(numbered(50), batch_size=7, seed=2, shuffle=True), 1) != first


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_drawn_from_the_global_generators(workers):
    batches = batches_of(Listed(numbered(8)), batch_size=2, seed=1, shuffle=True, num_workers=workers)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    listed(batches)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_inputs_are_transformed_then_augmented_with_numbers_of_the_epoch():
    def augment(inputs, targets, generator):
        assert inputs.dtype == torch.float32
        return inputs + generator.uniform(1), targets

    batches = batches_of(
        numbered(6), batch_size=2, seed=1, shuffle=True, transform=lambda inputs: inputs.float(), augment=augment
    )
    epochs = [torch.cat([x for x, _, _ in batches.epoch(number)]) for number in (1, 1, 2)]
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])
    assert len((epochs[0] % 1).unique()) == 6


def test_augmentation_belongs_to_the_sample_not_to_its_batch_or_its_place():
    def noise(**options):
        batches = batches_of(numbered(12), seed=3, augment=lambda x, y, generator: (generator.uniform(1), y), **options)
        drawn = {}
        for values, targets, _ in batches.epoch(2):
            drawn |= dict(zip(targets.tolist(), values.flatten().tolist(), strict=True))
        return drawn

    assert noise(batch_size=5, shuffle=True) == noise(batch_size=3, shuffle=False) == noise(batch_size=12)


class Noisy(Listed):
    def __getitem__(self, index):
        return torch.tensor([torch.rand(1).item(), random.random(), np.random.rand()]), torch.tensor(index)


@given(
    size=st.integers(1, 30),
    batch_size=st.integers(1, 9),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    placement=st.sampled_from(["device", "host", "workers"]),
    changed=st.booleans(),
    data=st.data(),
)
@settings(deadline=None)  # it starts threads
def test_an_epoch_from_a_batch_on_is_the_rest_of_the_whole_one(
    size, batch_size, drop_last, shuffle, placement, changed, data
):
    options = {"batch_size": batch_size, "seed": 3, "shuffle": shuffle, "drop_last": drop_last}
    if changed:
        options |= {
            "transform": lambda inputs: inputs / 255,
            "augment": lambda x, y, generator: (x + generator.uniform(1), y),
        }
    split = Noisy(numbered(size)) if placement == "workers" else numbered(size)
    batches = batches_of(split, placement, 0 if placement == "workers" else None, **options)
    start = data.draw(st.integers(0, len(batches)))
    rest = list(batches.epoch(2, start))
    for (x1, y1, _), (x2, y2, _) in zip(list(batches.epoch(2))[start:], rest, strict=True):
        assert torch.equal(x1, x2)
        assert torch.equal(y1, y2)


@given(size=st.integers(0, 30), batch_size=st.integers(1, 9), drop_last=st.booleans(), data=st.data())
def test_sample_indices_name_the_samples_of_any_batches_of_an_epoch(size, batch_size, drop_last, data):
    batches = batches_of(numbered(size), batch_size=batch_size, seed=3, shuffle=True, drop_last=drop_last)
    start = data.draw(st.integers(0, len(batches)))
    count = data.draw(st.integers(0, len(batches) + 1))
    chosen = batches.sample_indices(2, start, count)
    assert chosen.dtype == torch.int64
    assert chosen.tolist() == [number for batch in listed(batches, 2)[start : start + count] for number in batch]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_epoch_that_goes_on_does_not_depend_on_the_number_of_processes(workers):
    options = {
        "batch_size": 2,
        "seed": 7,
        "shuffle": True,
        "augment": lambda x, y, generator: (x + generator.uniform(1), y),
    }
    whole = batches_of(Noisy(numbered(9)), num_workers=0, **options)
    batches = batches_of(Noisy(numbered(9)), num_workers=workers, **options)
    for start in (0, 1, 4, 5):
        for (x1, y1, _), (x2, y2, _) in zip(list(whole.epoch(3))[start:], batches.epoch(3, start), strict=True):
            assert torch.equal(x1, x2)
            assert torch.equal(y1, y2)
    batches.source.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_has_been_trained_already_is_not_read_again(tmp_path, workers):
    class Noted(Listed):
        def __getitem__(self, index):
            (tmp_path / str(index)).touch()
            return super().__getitem__(index)

    batches = batches_of(Noted(numbered(10)), batch_size=2, seed=7, shuffle=True, num_workers=workers)
    list(batches.epoch(1, 3))
    batches.source.close()
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == sorted(batches.sample_indices(1, 3, 2).tolist())


@pytest.mark.parametrize("start", [-1, 4])
def test_an_epoch_cannot_begin_where_it_has_no_batch(start):
    batches = batches_of(numbered(6), batch_size=2)
    for asked in (batches.epoch, batches.sample_indices):
        with pytest.raises(ValueError, match=f"an epoch of 3 batches cannot begin with batch {start}"):
            asked(1, start)


def test_what_a_data_set_draws_while_it_is_read_differs_by_epoch_and_by_seed():
    def drawn(seed, epoch):
        batches = batches_of(Noisy(numbered(4)), batch_size=2, seed=seed, num_workers=1)
        return torch.cat([x for x, _, _ in batches.epoch(epoch)]).flatten().tolist()

    assert drawn(1, 1) == drawn(1, 1)
    assert len({str(drawn(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


def test_what_a_data_set_draws_belongs_to_the_sample_whatever_the_workers_and_the_batches():
    def drawn(**options):
        batches = batches_of(Noisy(numbered(9)), seed=1, **options)
        return [str(x.tolist()) for x in sorted((row for x, _, _ in batches.epoch(1) for row in x), key=str)]

    alone = drawn(num_workers=0, batch_size=2)
    assert len(set(alone)) == 9
    assert drawn(num_workers=2, batch_size=2, shuffle=True) == drawn(num_workers=1, batch_size=4) == alone


def test_a_data_set_that_draws_late_gets_the_same_numbers_in_any_process():
    class Late(Noisy):
        def __getitem__(self, index):
            return super().__getitem__(index) if index > 5 else (torch.zeros(3), torch.tensor(index))

    def drawn(workers):
        batches = batches_of(Late(numbered(9)), seed=1, batch_size=2, num_workers=workers)
        numbers = torch.cat([x for x, _, _ in batches.epoch(1)])
        batches.source.close()
        return numbers

    alone = drawn(0)
    assert len(alone.unique(dim=0)) == 4
    assert torch.equal(alone, drawn(1))
    assert torch.equal(alone, drawn(2))


def test_augmentation_follows_the_seed_without_shuffling_too():
    def augmented(seed):
        batches = batches_of(
            numbered(4), batch_size=2, seed=seed, augment=lambda x, y, generator: (generator.uniform(1), y)
        )
        return torch.cat([x for x, _, _ in batches.epoch(1)]).flatten().tolist()

    assert augmented(1) == augmented(1) != augmented(2)


def test_the_first_batch_is_transformed_but_neither_shuffled_nor_augmented():
    batches = batches_of(numbered(6), batch_size=2, seed=1, shuffle=True, augment=lambda x, y, generator: 1 / 0)
    assert batches.first_batch(2).targets.tolist() == [0, 1]
    assert batches_of(numbered(1), batch_size=2).first_batch(2).targets.tolist() == [0]


@pytest.mark.parametrize(
    "sample", ["text", (), ("text", 1), (1, {"x": 1}), (1, 2, 3, 4), ({"x": {"y": 1}}, 2)], ids=str
)
def test_what_is_no_sample_is_refused(sample):
    with pytest.raises(DataError, match="a sample must be"):
        batches_of(Listed([sample]), batch_size=1).first_batch()


def test_a_tensor_dataset_of_four_is_refused():
    with pytest.raises(DataError, match=r"a sample must be .*got \(Tensor, Tensor, Tensor, Tensor\)"):
        batches_of(TensorDataset(*[torch.zeros(1)] * 4), batch_size=1)


def test_where_samples_have_no_targets_the_inputs_before_augment_are_the_targets():
    options = {"transform": lambda x: {"inputs": x["inputs"] / 2, "table": x["table"]}, "batch_size": 3}
    options["augment"] = lambda x, y, generator: ({**x, "inputs": x["inputs"] + generator.uniform(1)}, y)
    split = StackDataset(inputs=torch.ones(5, 1), table=torch.arange(5))
    for placement in ("device", "host", "workers"):
        batches = batches_of(split, placement, **options, reconstructs=True)
        first, _ = batches.epoch(1)
        assert first.targets["inputs"].tolist() == [[0.5]] * 3
        assert first.targets["table"].tolist() == [0, 1, 2]
        assert (first.inputs["inputs"] > 0.5).all()
        assert batches.first_batch(2).targets["inputs"].tolist() == [[0.5]] * 2
    assert batches_of(split, batch_size=3).first_batch(2).targets == {}


def test_weights_belong_to_their_samples_whatever_is_done_to_these():
    split = TensorDataset(torch.arange(9.0), torch.arange(9), torch.arange(9) / 8)
    options = {"transform": lambda x: x + 1, "augment": lambda x, y, generator: (x + generator.uniform(), y % 2)}
    for placement in ("device", "workers"):
        batches = list(batches_of(split, placement, batch_size=4, shuffle=True, **options).epoch(1))
        inputs, targets, weights = (torch.cat(part) for part in zip(*batches, strict=True))
        assert inputs.floor().tolist() != list(range(1, 10))
        assert torch.equal(weights, (inputs.floor() - 1) / 8)
        assert torch.equal(targets, (inputs.floor().long() - 1) % 2)
