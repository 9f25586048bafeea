import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from ptb import DataError
from ptb.data import samples as module
from ptb.data.samples import BatchReader, remedy
from ptb.data.sources import make_sources
from ptb.device import cpu_threads


class Odd(Dataset):
    """Samples that are well but for one."""

    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.sample() if index == 4 else (torch.zeros(2), index)


def read_from(split, samples, **options):
    return BatchReader({"train": split}).read("train", 0, samples, **options)


def read(sample, samples=(3, 4, 5)):
    return read_from(Odd(sample), list(samples))


def well():
    return torch.zeros(2), 4


def test_samples_become_a_batch():
    inputs, targets, weights = read(well)
    assert (inputs.shape, targets.tolist(), weights) == ((3, 2), [3, 4, 5], None)


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (lambda: 3, r"alike: sample 3 is \(float32 \[2\], int\), sample 4 is int"),
        (lambda: (torch.zeros(2), 4.0), r"sample 4 is \(float32 \[2\], float\)"),
        (lambda: (np.zeros(2), 4), r"sample 4 is \(float64 \[2\], int\)"),
        (lambda: ([torch.zeros(2)], 4), r"sample 4 is \(\(float32 \[2\]\), int\)"),
    ],
    ids=["no tuple", "another number", "an array", "nested"],
)
def test_samples_that_are_not_alike_are_told_with_their_forms(sample, told):
    with pytest.raises(DataError, match=told):
        read(sample)


def test_what_no_batch_can_be_made_of_is_told():
    class Strange(Odd):
        def __getitem__(self, index):
            return object(), index

    with pytest.raises(DataError, match="samples 3 to 5 of the train split cannot be put into one batch: TypeError"):
        read_from(Strange(None), [3, 4, 5])


def lacks_memory():
    raise MemoryError("no room")


def lacks_memory_of_torch():
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("lacking", [lacks_memory, lacks_memory_of_torch])
@pytest.mark.parametrize("while_collating", [False, True])
def test_running_out_of_memory_is_no_fault_of_the_data(monkeypatch, lacking, while_collating):
    if while_collating:
        monkeypatch.setattr(module, "default_collate", lambda read: lacking())
    with pytest.raises((MemoryError, RuntimeError), match=r"no room|can't allocate"):
        read(well if while_collating else lacking)


def test_each_sample_is_noted_before_it_is_read():
    noted = []

    def fails():
        raise KeyError(str(noted))

    with pytest.raises(DataError, match=r"reading sample 4 .*\[3, 4\]"):
        read_from(Odd(fails), [3, 4, 5], before_each=noted.append)


@pytest.mark.parametrize(
    ("told", "advice"),
    [
        ("SIGKILL", "fewer loader.num_workers"),
        ("SIGBUS", "shared memory"),
        ("unable to allocate shared memory(shm) for file", "shared memory"),
        ("SIGSEGV", ""),
        ("", ""),
    ],
)
def test_what_the_system_tells_has_a_remedy(told, advice):
    assert advice in remedy(told)
    assert bool(advice) == bool(remedy(told))


def test_a_sample_is_read_with_one_thread_whatever_the_run_has():
    class Threads(Odd):
        def __getitem__(self, index):
            return torch.get_num_threads(), index

    with cpu_threads(3):
        assert read_from(Threads(None), [0, 1])[0].tolist() == [1, 1]
        with pytest.raises(DataError):
            read(lambda: 3)
        assert torch.get_num_threads() == 3


# With a collate of the data set.


class Lengths(Dataset):
    """Tokens of different lengths, the longer the later."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.arange(1, index + 2), index


def padded(samples):
    tokens = nn.utils.rnn.pad_sequence([tokens for tokens, _ in samples], batch_first=True)
    return {"inputs": tokens, "lengths": (tokens > 0).sum(1)}, torch.tensor([target for _, target in samples])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_samples_of_different_lengths_are_padded_in_any_process(workers):
    source = make_sources({"train": Lengths()}, torch.device("cpu"), num_workers=workers, collate=padded)["train"]
    batches = list(source.batches(torch.tensor([5, 0, 2, 3, 1]).split(2), 0))
    source.close()
    assert [batch.inputs["inputs"].tolist() for batch in batches] == [
        [[1, 2, 3, 4, 5, 6], [1, 0, 0, 0, 0, 0]],
        [[1, 2, 3, 0], [1, 2, 3, 4]],
        [[1, 2]],
    ]
    assert [batch.inputs["lengths"].tolist() for batch in batches] == [[6, 1], [3, 4], [2]]
    assert [batch.targets.tolist() for batch in batches] == [[5, 0], [2, 3], [1]]
    assert source.take(torch.tensor([1, 4])).inputs["lengths"].tolist() == [2, 5]


def fails(samples):
    raise KeyError("mask")


def exits(samples):
    raise SystemExit(3)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("collate", "told"),
    [
        (fails, r"samples 4 to 2 of the train split cannot be put into one batch: KeyError: 'mask'$"),
        (exits, r"samples 4 to 2 of the train split cannot be put into one batch: SystemExit: 3$"),
        (lambda samples: samples, r"a sample must be .*; got \(tuple, tuple\)"),
        (lambda samples: (torch.zeros(2), torch.zeros(1)), "must be tensors of one length"),
    ],
    ids=["raises", "exits", "no tensors", "lengths"],
)
def test_what_goes_wrong_in_a_collate_is_blamed_on_it(workers, collate, told):
    source = make_sources({"train": Lengths()}, torch.device("cpu"), num_workers=workers, collate=collate)["train"]
    with pytest.raises(DataError, match=told):
        list(source.batches([torch.tensor([4, 2])], 0))
    source.close()


def test_lengths_without_a_collate_are_refused():
    with pytest.raises(DataError, match=r"must be alike: sample 3 is \(int64 \[4\], int\), sample 4 is \(int64 \[5\]"):
        read_from(Lengths(), [3, 4])
