import os
import signal
import threading

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset, get_worker_info

from ptb import DataError, MisfitError
from ptb import tiers as module
from ptb.tiers import Held, place

CPU = torch.device("cpu")


class Read(Dataset):
    """Samples that tell who read them."""

    def __init__(self, size, fail_at=None):
        self.size = size
        self.fail_at = fail_at

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index == self.fail_at:
            raise DataError(f"sample {index} is broken")
        handler = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return torch.tensor([os.getpid(), handler]), index


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
    with pytest.raises(MisfitError, match=f"loader.tier={tier} .* val .*leave loader.tier out"):
        place({"train": tensors(), "val": Read(3)}, CPU, tier)


def test_a_subset_of_a_subset_is_cut_from_the_tensors_themselves():
    inner = Subset(tensors(), [5, 3, 1])
    held = Held.of(Subset(inner, [2, 0]))
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


def test_workers_live_for_all_epochs_and_serve_all_splits():
    sources = place({"train": Read(4), "val": Read(2)}, CPU, num_workers=2)
    pids = {int(x[0, 0]) for source in (sources["train"], sources["val"], sources["train"]) for x, _ in read(source)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_workers_leave_ctrl_c_to_the_run():
    source = place({"train": Read(2)}, CPU, num_workers=1)["train"]
    assert all(bool(x[0, 1]) for x, _ in read(source))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_comes_as_it_is(workers):
    source = place({"train": Read(4, fail_at=2)}, CPU, num_workers=workers)["train"]
    with pytest.raises(DataError) as caught:
        read(source)
    assert str(caught.value) == "sample 2 is broken"
    source.close()


def test_an_epoch_that_was_left_early_does_not_show_in_the_next():
    source = place({"train": Read(8)}, CPU, num_workers=2)["train"]
    left = source.batches(torch.arange(8), 1, 0)
    next(left)
    assert [y.tolist() for _, y in read(source)] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_processes_are_started_only_where_reading_is_slow(monkeypatch):
    monkeypatch.setattr(module, "_cores", lambda: 2)
    source = place({"train": Read(100)}, CPU)["train"]
    source.take(torch.arange(3))
    assert source.workers.num_workers == 0
    monkeypatch.setattr(module, "WORTH_WORKERS", 0.0)
    assert source.workers.num_workers == 2
    assert place({"train": Read(100)}, CPU, num_workers=1)["train"].workers.num_workers == 1


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


def test_reading_is_not_in_a_worker_without_workers():
    class Where(Read):
        def __getitem__(self, index):
            return torch.tensor(get_worker_info() is None), index

    assert all(bool(x.all()) for x, _ in read(place({"train": Where(3)}, CPU, num_workers=0)["train"]))


class Odd(Dataset):
    """Samples that are well but for one."""

    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.sample() if index == 4 else (torch.zeros(2), index)


def stops():
    return next(iter(()))


def raises():
    raise KeyError("width")


def leaves():
    raise SystemExit(3)


def of_another_type():
    return torch.zeros(2, dtype=torch.float64), 4


def of_another_shape():
    return torch.zeros(3), 4


def of_three():
    return torch.zeros(2), 4, 4


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (stops, "reading sample 4 of the train split failed: StopIteration"),
        (raises, "reading sample 4 of the train split failed: KeyError: 'width'"),
        (leaves, "reading sample 4 of the train split failed: SystemExit: 3"),
        (of_another_type, r"must be alike: sample 3 is \(float32 \[2\], int\), sample 4 is \(float64 \[2\], int\)"),
        (of_another_shape, r"must be alike: sample 3 is \(float32 \[2\], int\), sample 4 is \(float32 \[3\], int\)"),
        (of_three, "must be alike"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_sample_that_cannot_be_read_is_told_alike_in_any_process(sample, told, workers):
    source = place({"train": Odd(sample)}, CPU, num_workers=workers)["train"]
    order = torch.tensor([0, 1, 2, 3, 4, 5])
    with pytest.raises(DataError, match=told):
        list(source.batches(order.roll(3), 3, 0))
    source.close()


def test_closing_ends_the_workers_and_reading_starts_new_ones():
    source = place({"train": Read(2)}, CPU, num_workers=1)["train"]
    (first,) = {int(x[0, 0]) for x, _ in read(source)}
    source.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert {int(x[0, 0]) for x, _ in read(source)} != {first}
    source.close()


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
