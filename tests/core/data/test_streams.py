import gc
import multiprocessing
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import IterableDataset, get_worker_info

from ptb import DataError
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources

CPU = torch.device("cpu")


class Stream(IterableDataset):
    """Numbers that depend on the epoch, each with a number that was drawn for it; processes take turns."""

    def __init__(self, size, says=None, shared=True, fails=-1):
        self.size, self.says, self.shared, self.fails = size, size if says is None else says, shared, fails
        self.epoch = None

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.says

    def share(self):
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info and self.shared else (0, 1)
        return range(worker, self.size, workers)

    def __iter__(self):
        for number in self.share():
            if number == self.fails:
                raise OSError("the line is dead")
            yield torch.tensor([random.random() + torch.rand(1).item()]), 1000 * self.epoch + number


class Uneven(Stream):
    """The first process has most of them, and the last perhaps none."""

    def share(self):
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        edges = [0, *(self.size - self.size // 3 ** (n + 1) for n in range(workers - 1)), self.size]
        return range(*edges[worker : worker + 2])


def loader_of(stream, workers=0, batch_size=4, persistent=True, **options):
    source = make_sources({"train": stream}, CPU, num_workers=workers, persistent_workers=persistent)["train"]
    return BatchLoader(source, batch_size=batch_size, seed=3, **options)


def numbers(batches):
    return [batch.targets.tolist() for batch in batches]


def same_bits(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(x.inputs, y.inputs) and torch.equal(x.targets, y.targets) for x, y in zip(ours, theirs, strict=True)
    )


@pytest.fixture(autouse=True)
def _leaves_no_process():
    yield
    if multiprocessing.active_children():  # of a loader that nobody holds any more
        gc.collect()
    assert multiprocessing.active_children() == []


MANY = pytest.param(3, marks=pytest.mark.matrix)


@pytest.mark.parametrize("workers", [0, 1, 2, MANY])
@pytest.mark.parametrize("kind", [Stream, Uneven])
@pytest.mark.parametrize("size", [13, 12, 3])
def test_an_epoch_has_every_sample_once_in_full_batches_but_the_last(kind, size, workers):
    batches = loader_of(kind(size), workers, shuffle=True)
    for epoch in (1, 2):
        found = numbers(batches.epoch(epoch))
        assert sorted(n for batch in found for n in batch) == [1000 * epoch + n for n in range(size)]
        assert len(found) == len(batches)
        assert [len(batch) for batch in found[:-1]] == [4] * (len(batches) - 1)
        if workers < 2:
            assert found[0] == [1000 * epoch + n for n in range(min(size, 4))]  # not shuffled here
    batches.source.close()


@given(size=st.integers(1, 30), batch_size=st.integers(1, 9), drop_last=st.booleans(), data=st.data())
@settings(deadline=None)
def test_what_a_stream_gives_from_a_batch_on_is_the_rest_of_the_epoch(size, batch_size, drop_last, data):
    batches = loader_of(Stream(size), batch_size=batch_size, drop_last=drop_last)
    whole = list(batches.epoch(2))
    full, rest = divmod(size, batch_size)
    assert [batch.size for batch in whole] == [batch_size] * full + [rest] * (rest > 0 and not drop_last)
    start = data.draw(st.integers(0, len(batches)))
    assert same_bits(list(batches.epoch(2, start)), whole[start:])


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 2, MANY])
def test_it_goes_on_from_any_batch_in_as_many_processes(workers, drop_last):
    batches = loader_of(Uneven(14), workers, drop_last=drop_last)
    whole = list(batches.epoch(5))
    assert len(whole) == (3 if drop_last else 4)
    for start in range(len(whole) + 1):
        assert same_bits(list(batches.epoch(5, start)), whole[start:])
    batches.source.close()
    again = loader_of(Uneven(14), workers, drop_last=drop_last)
    assert same_bits(list(again.epoch(5, 2)), whole[2:])
    again.source.close()


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_evaluation_between_two_batches_disturbs_nothing(workers, persistent):
    splits = {"train": Stream(22), "val": Stream(7)}
    sources = make_sources(splits, CPU, num_workers=workers, persistent_workers=persistent)
    train = BatchLoader(sources["train"], batch_size=4, seed=3)
    evaluated = BatchLoader(sources["val"], batch_size=4), BatchLoader(sources["train"], batch_size=4, seed=3)
    whole = list(train.epoch(2))
    between = []
    for place, batch in enumerate(train.epoch(2)):
        between.append(batch)
        if place in (0, 3):
            next(evaluated[0].epoch())  # and is left early
            assert sorted(n for batch in numbers(evaluated[0].epoch()) for n in batch) == [*range(7)]
            assert sorted(n for batch in numbers(evaluated[1].epoch()) for n in batch) == [*range(22)]
            next(evaluated[1].epoch())  # of the same split: another epoch is begun where the first one goes on
    assert same_bits(between, whole)
    sources["train"].close()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_stream_draws_depends_on_seed_and_epoch_alone(workers):
    def drawn(seed, epoch):
        batches = loader_of(Stream(9), workers)
        batches.seed = seed
        values = torch.cat([batch.inputs for batch in batches.epoch(epoch)]).flatten().tolist()
        batches.source.close()
        return values

    before = random.getstate(), torch.get_rng_state().tolist()
    assert drawn(1, 1) == drawn(1, 1)
    assert (random.getstate(), torch.get_rng_state().tolist()) == before
    values = [value for seed in (1, 2) for epoch in (1, 2) for value in drawn(seed, epoch)]
    assert len(set(values)) == 36


@pytest.mark.parametrize("size", [8, 10], ids=["full batches", "a rest"])
def test_processes_that_all_give_everything_are_found(size):
    batches = loader_of(Stream(size, shared=False), 2)
    with pytest.raises(
        DataError,
        match=rf"train split says that an epoch has {size} samples, and gives more than {size}; with "
        r"loader\.num_workers=2, each process must give its own share of them \(torch\.utils\.data\.get_worker_info\)",
    ):
        list(batches.epoch(1))
    batches.source.close()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.matrix), 2])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    ("size", "says", "given"), [(7, 8, "7"), (7, 12, "7"), (7, 6, "7"), (7, 4, "7"), (9, 5, "more than 5")]
)
def test_a_length_that_is_not_true_is_found(workers, drop_last, size, says, given):
    batches = loader_of(Stream(size, says), workers, drop_last=drop_last)
    remedy = "with loader.num_workers=2, .*get_worker_info" if workers > 1 else r"its len\(\) must be"
    with pytest.raises(DataError, match=f"says that an epoch has {says} samples, and gives {given}; {remedy}"):
        list(batches.epoch(1))
    batches.source.close()


@pytest.mark.parametrize("fails", [0, 6])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_that_fails_is_blamed_and_can_be_read_again(workers, fails):
    stream = Stream(9, fails=fails)
    batches = loader_of(stream, workers, batch_size=2)
    epoch = batches.epoch(1)
    if fails:
        next(epoch)
    with pytest.raises(DataError, match=rf"^reading sample {fails} of the train split failed: OSError: .*dead$"):
        list(epoch)
    assert multiprocessing.active_children() == []
    stream.fails = -1
    assert len(numbers(batches.epoch(1))) == 5
    batches.source.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_that_cannot_be_begun_is_blamed(workers):
    class Closed(Stream):
        def __iter__(self):
            raise OSError("no route")

    with pytest.raises(DataError, match=r"^reading sample 0 of the train split failed: OSError: no route$"):
        list(loader_of(Closed(3), workers).epoch(1))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_workers_that_are_not_persistent_end_with_the_epoch(workers, drop_last):
    batches = loader_of(Stream(11), workers, persistent=False, drop_last=drop_last)
    for _ in range(2):
        epoch = batches.epoch(1)
        next(epoch)
        assert len(multiprocessing.active_children()) == workers
        list(epoch)
        assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_transformed_then_augmented(workers):
    def augment(inputs, targets, generator):
        assert inputs.dtype == torch.float64
        return inputs + generator.uniform(1), -targets

    options = {"transform": lambda inputs: inputs.double(), "augment": augment}
    batches = loader_of(Stream(11), workers, **options)
    plain = loader_of(Stream(11), workers)
    whole, wanted = list(batches.epoch(1)), list(plain.epoch(1))
    assert numbers(whole) == [[-n for n in batch] for batch in numbers(wanted)]
    noise = torch.cat([x.inputs - y.inputs.double() for x, y in zip(whole, wanted, strict=True)])
    assert len(noise.unique()) == 11
    assert noise.min() >= 0
    assert noise.max() < 1
    assert same_bits(list(batches.epoch(1, 1)), whole[1:])
    batches.source.close()
    plain.source.close()


def test_a_stream_without_set_epoch_is_the_same_each_time():
    class Plain(IterableDataset):
        def __len__(self):
            return 5

        def __iter__(self):
            return iter([(torch.zeros(1), n) for n in range(5)])

    batches = loader_of(Plain(), batch_size=2)
    assert numbers(batches.epoch(1)) == numbers(batches.epoch(2)) == [[0, 1], [2, 3], [4]]
    assert batches.first_batch(3).targets.tolist() == [0, 1, 2]


def test_the_first_samples_are_those_of_epoch_0():
    batches = loader_of(Stream(9), 2)
    assert batches.first_batch(3).targets.tolist() == [0, 1, 2]
    assert batches.source.take(torch.tensor([6, 2])).targets.tolist() == [6, 2]
    assert multiprocessing.active_children() == []


def test_processes_that_cannot_be_started_are_an_error_where_they_decide_the_order():
    stream = Stream(9)
    stream.own = lambda: None  # cannot be pickled
    sources = make_sources({"train": stream}, CPU, num_workers=2, multiprocessing_context="spawn")
    with pytest.raises(DataError, match=r"workers cannot be started: .*; loader\.num_workers=0 needs none"):
        list(sources["train"].stream(4, 0, 0, 0))


def test_a_length_is_needed():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(DataError, match=r"len\(\) of the val split failed: TypeError.* a stream how many an epoch has"):
        make_sources({"val": Endless()}, CPU)
