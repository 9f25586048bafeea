import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from ptb.runs.fingerprint import fingerprint


class Listed(Dataset):
    """Samples that are read one by one."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def numbered(size):
    return TensorDataset(torch.arange(size, dtype=torch.uint8).view(-1, 1), torch.arange(size))


def test_the_fingerprint_sees_every_byte_in_memory_and_each_split():
    data = numbered(9)
    before = fingerprint({"train": data})
    assert fingerprint({"train": numbered(9)}) == before
    assert fingerprint({"val": data}) != before
    data.tensors[0][8] = 0
    assert fingerprint({"train": data}) != before


def test_the_fingerprint_of_a_part_is_that_of_its_samples():
    data = numbered(9)
    some = [1, 3, 8]
    assert fingerprint({"train": Subset(data, some)}) == fingerprint({"train": TensorDataset(*data[some])})


def test_the_fingerprint_of_what_is_too_large_sees_its_size_and_some_samples(monkeypatch):
    monkeypatch.setattr("ptb.runs.fingerprint.SCAN_BYTES", 0)
    assert fingerprint({"train": numbered(200)}) == fingerprint({"train": numbered(200)})
    assert fingerprint({"train": numbered(200)}) != fingerprint({"train": numbered(199)})


def test_the_fingerprint_of_another_dataset_sees_its_size_and_some_samples():
    assert fingerprint({"train": Listed(numbered(300))}) == fingerprint({"train": Listed(numbered(300))})
    assert fingerprint({"train": Listed(numbered(300))}) != fingerprint({"train": Listed(numbered(299))})
    assert fingerprint({"train": Listed([])}) != fingerprint({"train": Listed(numbered(1))})
