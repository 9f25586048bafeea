import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from ptb import DataError
from ptb.data import samples as module
from ptb.data.samples import read_batch, remedy
from ptb.device import cpu_threads


class Odd(Dataset):
    """Samples that are well but for one."""

    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.sample() if index == 4 else (torch.zeros(2), index)


def read(sample, samples=(3, 4, 5)):
    return read_batch(Odd(sample), "train", 0, list(samples))


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
        read_batch(Strange(None), "train", 0, [3, 4, 5])


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
        read_batch(Odd(fails), "train", 0, [3, 4, 5], before_each=noted.append)


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
        assert read_batch(Threads(None), "train", 0, [0, 1])[0].tolist() == [1, 1]
        with pytest.raises(DataError):
            read(lambda: 3)
        assert torch.get_num_threads() == 3
