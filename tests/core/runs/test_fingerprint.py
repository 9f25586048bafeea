import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, StackDataset, Subset, TensorDataset

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


TREE = {"picture": torch.zeros(9, 2), "table": torch.zeros(9, 3)}
PARTS = ("picture", "table", "targets", "weights")


def tree(changed=None):
    """Samples of two fields, targets and weights; the last value of one of them is another if it is ``changed``."""
    held = {**TREE, "targets": torch.zeros(9), "weights": torch.ones(9)}
    if changed:
        held[changed] = held[changed].clone()
        held[changed].view(-1)[-1] = 5
    fields = StackDataset(picture=held["picture"], table=held["table"])
    return StackDataset(fields, held["targets"], held["weights"])


@pytest.mark.parametrize("part", PARTS)
def test_the_fingerprint_of_a_tree_sees_every_part_in_memory_and_read(part):
    assert fingerprint({"train": tree()}) == fingerprint({"train": tree()})
    assert fingerprint({"train": tree()}) != fingerprint({"train": tree(part)})
    assert fingerprint({"train": Listed(tree())}) == fingerprint({"train": Listed(tree())})
    assert fingerprint({"train": Listed(tree())}) != fingerprint({"train": Listed(tree(part))})


def test_the_fingerprint_of_samples_without_targets_sees_them():
    alone = TensorDataset(torch.zeros(9, 2))
    before = fingerprint({"train": alone})
    alone.tensors[0][8, 1] = 1
    assert fingerprint({"train": alone}) != before


class Stream(IterableDataset):
    def __init__(self, size, last=0.0):
        self.size, self.last, self.epoch, self.given = size, last, None, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.size

    def __iter__(self):
        for number in range(self.size):
            self.given += 1
            yield torch.tensor([float(self.epoch), self.last if number == 63 else 0.0]), number


def test_the_fingerprint_of_a_stream_sees_its_first_samples_and_its_length():
    stream = Stream(200)
    before = fingerprint({"train": stream})
    assert stream.given == 64
    stream.set_epoch(7)  # wherever training has got to
    assert fingerprint({"train": stream}) == before
    assert fingerprint({"train": Stream(200, last=1.0)}) != before
    assert fingerprint({"train": Stream(199)}) != before
    assert fingerprint({"train": Stream(3)}) == fingerprint({"train": Stream(3)})


def test_the_fingerprint_sees_what_a_collate_makes():
    def longer(samples):
        inputs, targets = zip(*samples, strict=True)
        return torch.stack(inputs) + 1, torch.tensor(targets)

    data = numbered(9)
    assert fingerprint({"train": data}, longer) == fingerprint({"train": data}, longer)
    assert fingerprint({"train": data}, longer) != fingerprint({"train": data})
