import threading
from contextlib import nullcontext

import pytest
import torch
from torch.utils.data import Dataset, StackDataset, Subset, TensorDataset, default_collate

from ptb import IncompatibleError
from ptb.data import sources as module
from ptb.data.batch import Batch
from ptb.data.sources import InMemorySamples, cut, make_sources

CPU = torch.device("cpu")


class Read(Dataset):
    """Samples that are read one by one."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.zeros(2), index


def tensors(size=6):
    return TensorDataset(torch.arange(size).view(-1, 1).float(), torch.arange(size))


def read(source, batch_size=2, seed=0):
    return list(source.batches(cut(torch.arange(source.size), batch_size), seed))


def test_samples_in_memory_go_to_the_device_and_others_are_read_by_workers():
    assert make_sources({"train": tensors(), "val": Subset(tensors(), [1])}, CPU)["val"].placement == "device"
    mixed = make_sources({"train": tensors(), "val": Read(3)}, CPU)
    assert {source.placement for source in mixed.values()} == {"workers"}


def test_more_than_a_quarter_of_the_memory_stays_on_the_host(monkeypatch):
    needed = sum(tensor.nbytes for tensor in tensors().tensors)
    monkeypatch.setattr(module, "_free_memory", lambda device: 4 * needed)
    assert make_sources({"train": tensors()}, CPU)["train"].placement == "device"
    monkeypatch.setattr(module, "_free_memory", lambda device: 4 * needed - 1)
    assert make_sources({"train": tensors()}, CPU)["train"].placement == "host"


def test_parts_of_one_tensor_need_its_memory_once(monkeypatch):
    data = tensors()
    needed = sum(tensor.nbytes for tensor in data.tensors)
    monkeypatch.setattr(module, "_free_memory", lambda device: 4 * needed)
    splits = {"train": Subset(data, [0, 1]), "val": Subset(data, [2, 3]), "test": data}
    assert make_sources(splits, CPU)["train"].placement == "device"


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_placement_that_is_not_possible_is_refused(placement):
    with pytest.raises(IncompatibleError, match=f"loader.placement={placement} .* val .*leave loader.placement out"):
        make_sources({"train": tensors(), "val": Read(3)}, CPU, placement)


def test_a_subset_of_a_subset_is_cut_from_the_tensors_themselves():
    inner = Subset(tensors(), [5, 3, 1])
    held = InMemorySamples.of(Subset(inner, [2, 0]))
    assert held.tensors.inputs is inner.dataset.tensors[0]
    assert held.take(torch.tensor([0, 1])).targets.tolist() == [1, 5]


class Doubled(TensorDataset):
    def __getitem__(self, index):
        inputs, target = super().__getitem__(index)
        return 2 * inputs, target


def test_a_tensor_dataset_that_changes_its_samples_is_asked_for_each():
    source = make_sources({"train": Doubled(*tensors().tensors)}, CPU)["train"]
    assert source.placement == "workers"
    assert torch.cat([x for x, _, _ in read(source)]).flatten().tolist() == [0, 2, 4, 6, 8, 10]


def test_the_host_cuts_ahead_in_a_thread_that_ends_with_the_epoch():
    source = make_sources({"train": tensors()}, CPU, "host")["train"]
    batches = source.batches(torch.arange(6).split(1), 0)
    next(batches)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("ptb-host")]
    assert len(list(batches)) == 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ptb-host")]


def test_nothing_is_read_of_nothing():
    for split, placement in ((tensors(0), "device"), (tensors(0), "host"), (Read(0), "workers")):
        assert read(make_sources({"train": split}, CPU, placement)["train"]) == []


def test_negative_places_of_a_subset_count_from_the_end():
    source = make_sources({"train": Subset(tensors(), [-1, 0])}, CPU)["train"]
    assert source.placement == "device"
    assert torch.cat([y for _, y, _ in read(source)]).tolist() == [5, 0]


class Short(TensorDataset):
    def __len__(self):
        return 2


def test_a_tensor_dataset_with_a_length_of_its_own_is_asked_for_each():
    source = make_sources({"train": Short(*tensors().tensors)}, CPU)["train"]
    assert (source.placement, source.size) == ("workers", 2)


@pytest.mark.parametrize("placement", ["device", "workers"])
def test_gradients_of_the_data_are_left_behind(placement):
    data = TensorDataset(torch.ones(2, 1, requires_grad=True), torch.arange(2))
    source = make_sources({"train": data}, CPU, placement, num_workers=1 if placement == "workers" else None)["train"]
    assert not any(x.requires_grad for x, _, _ in read(source))
    source.close()


def test_workers_get_all_their_settings_and_are_shared_by_the_splits():
    sources = make_sources(
        {"train": Read(4), "val": Read(2)},
        CPU,
        placement="workers",
        num_workers=2,
        prefetch_factor=3,
        pin_memory=True,
        persistent_workers=False,
        multiprocessing_context="spawn",
        timeout=7.5,
    )
    workers = sources["train"].workers
    assert workers is sources["val"].workers
    given = ("num_workers", "_prefetch_factor", "_pin_device", "_persistent", "_context", "_timeout")
    assert [getattr(workers, name) for name in given] == [2, 3, None, False, "spawn", 7.5]
    assert str(sources["train"]) == "workers (2 processes)"


def test_while_a_worker_reads_who_waits_is_asked_about_once_a_second(monkeypatch):
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    class Never(Read):
        def __getitem__(self, index):
            threading.Event().wait()

    monkeypatch.setattr("ptb.data.workers.SLICE", 0.1)
    for number, placement in ((1, "workers"), (None, "device"), (None, "host")):
        split = Never(2) if placement == "workers" else tensors()
        source = make_sources({"train": split}, CPU, placement, number)["train"]
        source.waiting = stop
        with pytest.raises(Stop) if placement == "workers" else nullcontext():
            read(source)


def test_samples_are_cut_into_batches_and_none_is_empty():
    assert cut(torch.arange(0), 2) == ()
    assert [part.tolist() for part in cut(torch.arange(3), 2)] == [[0, 1], [2]]


# Samples that are trees.

SIZE = 7
PICTURES = torch.arange(SIZE * 4, dtype=torch.uint8).view(SIZE, 1, 2, 2)
TABLE = torch.randn(SIZE, 3, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(SIZE) % 3
WEIGHTS = torch.linspace(0, 1, SIZE, dtype=torch.float64)
FIELDS = StackDataset(inputs=PICTURES, table=TABLE)
TREES = {
    "inputs alone": TensorDataset(PICTURES),
    "inputs and targets": StackDataset(PICTURES, CLASSES),
    "weights": TensorDataset(PICTURES, CLASSES, WEIGHTS),
    "fields alone": FIELDS,
    "fields": StackDataset(FIELDS, CLASSES),
    "fields and weights": StackDataset(FIELDS, CLASSES, WEIGHTS),
}


def same_bits(ours, theirs):
    ours, theirs = list(ours.tensors()), list(theirs.tensors())
    return [each.dtype for each in ours] == [each.dtype for each in theirs] and all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("rows", [None, [5, 1, -1, 0, 3]], ids=["whole", "part"])
@pytest.mark.parametrize("tree", TREES)
def test_trees_have_the_same_bits_from_every_placement(tree, rows):
    data = TREES[tree] if rows is None else Subset(Subset(TREES[tree], range(SIZE)), rows)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(2))
    wanted = [Batch.of(default_collate([data[n] for n in part])) for part in order.split(2)]
    assert wanted[0].weights is None or wanted[0].weights.dtype == torch.float32
    for placement, workers in (("device", None), ("host", None), ("workers", 0), ("workers", 2)):
        source = make_sources({"train": data}, CPU, placement, workers)["train"]
        batches = list(source.batches(order.split(2), 0))
        assert [type(batch.inputs) for batch in batches] == [type(batch.inputs) for batch in wanted]
        assert all(map(same_bits, batches, wanted))
        assert same_bits(source.take(order[:2]), wanted[0])
        source.close()
    assert make_sources({"train": data}, CPU)["train"].placement == "device"


@pytest.mark.parametrize(
    "data",
    [
        StackDataset(Read(SIZE), CLASSES),
        StackDataset(inputs=PICTURES, table=Read(SIZE)),
        StackDataset(TensorDataset(PICTURES), CLASSES),
        StackDataset(FIELDS, Subset(CLASSES, range(SIZE))),
        type("Own", (StackDataset,), {"__getitem__": lambda self, n: (PICTURES[n], 1)})(PICTURES, CLASSES),
    ],
    ids=["read", "a field that is read", "nested tuples", "a part", "computed"],
)
def test_what_is_not_all_tensors_is_read_one_by_one(data):
    assert InMemorySamples.of(data) is None


def test_the_memory_of_a_part_is_that_of_its_samples():
    data = TREES["fields and weights"]
    each = 4 + 3 * 4 + 8 + 4  # the picture, the table, the class and the weight, which has become float32
    assert InMemorySamples.of(data).nbytes == SIZE * each
    assert InMemorySamples.of(Subset(data, [1, 1, 2])).nbytes == 3 * each


def test_a_collate_takes_samples_one_by_one():
    def collate(samples):
        return torch.stack([picture for picture, _ in samples]) + 1, torch.tensor([label for _, label in samples])

    splits = {"train": TREES["inputs and targets"]}
    (source,) = make_sources(splits, CPU, collate=collate).values()
    assert (source.placement, source.collate) == ("workers", collate)
    assert torch.equal(torch.cat([batch.inputs for batch in read(source)]), PICTURES + 1)
    with pytest.raises(IncompatibleError, match=r"placement=device needs .* without a collate"):
        make_sources(splits, CPU, "device", collate=collate)
