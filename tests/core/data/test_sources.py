import threading

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from ptb import IncompatibleError
from ptb.data import sources as module
from ptb.data.sources import InMemorySamples, place

CPU = torch.device("cpu")


class Read(Dataset):
    """Samples that are not at hand."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.zeros(2), index


def tensors(size=6):
    return TensorDataset(torch.arange(size).view(-1, 1).float(), torch.arange(size))


def read(source, batch_size=2, seed=0):
    return list(source.batches(torch.arange(source.size), batch_size, seed))


def test_samples_at_hand_are_resident_and_others_are_read_by_workers():
    assert place({"train": tensors(), "val": Subset(tensors(), [1])}, CPU)["val"].tier == "resident"
    mixed = place({"train": tensors(), "val": Read(3)}, CPU)
    assert {source.tier for source in mixed.values()} == {"workers"}


def test_more_than_a_quarter_of_the_memory_is_gathered(monkeypatch):
    needed = sum(tensor.nbytes for tensor in tensors().tensors)
    monkeypatch.setattr(module, "_free_memory", lambda device: 4 * needed)
    assert place({"train": tensors()}, CPU)["train"].tier == "resident"
    monkeypatch.setattr(module, "_free_memory", lambda device: 4 * needed - 1)
    assert place({"train": tensors()}, CPU)["train"].tier == "gather"


def test_parts_of_one_tensor_need_its_memory_once(monkeypatch):
    data = tensors()
    needed = sum(tensor.nbytes for tensor in data.tensors)
    monkeypatch.setattr(module, "_free_memory", lambda device: 4 * needed)
    splits = {"train": Subset(data, [0, 1]), "val": Subset(data, [2, 3]), "test": data}
    assert place(splits, CPU)["train"].tier == "resident"


@pytest.mark.parametrize("tier", ["resident", "gather"])
def test_a_tier_that_cannot_be_is_refused(tier):
    with pytest.raises(IncompatibleError, match=f"loader.tier={tier} .* val .*leave loader.tier out"):
        place({"train": tensors(), "val": Read(3)}, CPU, tier)


def test_a_subset_of_a_subset_is_cut_from_the_tensors_themselves():
    inner = Subset(tensors(), [5, 3, 1])
    held = InMemorySamples.of(Subset(inner, [2, 0]))
    assert held.inputs is inner.dataset.tensors[0]
    assert held.take(torch.tensor([0, 1]))[1].tolist() == [1, 5]


class Doubled(TensorDataset):
    def __getitem__(self, index):
        inputs, target = super().__getitem__(index)
        return 2 * inputs, target


def test_a_tensor_dataset_that_changes_its_samples_is_asked_for_each():
    source = place({"train": Doubled(*tensors().tensors)}, CPU)["train"]
    assert source.tier == "workers"
    assert torch.cat([x for x, _ in read(source)]).flatten().tolist() == [0, 2, 4, 6, 8, 10]


def test_gathering_cuts_ahead_in_a_thread_of_its_own_and_ends_with_the_epoch():
    source = place({"train": tensors()}, CPU, "gather")["train"]
    batches = source.batches(torch.arange(6), 1, 0)
    next(batches)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("ptb-gather")]
    assert len(list(batches)) == 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ptb-gather")]


def test_nothing_is_read_of_nothing():
    for split, tier in ((tensors(0), "resident"), (tensors(0), "gather"), (Read(0), "workers")):
        assert read(place({"train": split}, CPU, tier)["train"]) == []


def test_negative_places_of_a_subset_count_from_the_end():
    source = place({"train": Subset(tensors(), [-1, 0])}, CPU)["train"]
    assert source.tier == "resident"
    assert torch.cat([y for _, y in read(source)]).tolist() == [5, 0]


class Short(TensorDataset):
    def __len__(self):
        return 2


def test_a_tensor_dataset_with_a_length_of_its_own_is_asked_for_each():
    source = place({"train": Short(*tensors().tensors)}, CPU)["train"]
    assert (source.tier, source.size) == ("workers", 2)


@pytest.mark.parametrize("tier", ["resident", "workers"])
def test_gradients_of_the_data_are_left_behind(tier):
    data = TensorDataset(torch.ones(2, 1, requires_grad=True), torch.arange(2))
    source = place({"train": data}, CPU, tier, num_workers=1 if tier == "workers" else None)["train"]
    assert not any(x.requires_grad for x, _ in read(source))
    source.close()
