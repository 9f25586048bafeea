import json
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from ptb import DataSpec
from ptb.config.sections import LoaderSettings
from ptb.data.balance import balanced, classes_of
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources
from ptb.errors import IncompatibleError
from ptb.seeding import generator
from ptb_datasets.image_folder import image_folder

CPU = torch.device("cpu")
RARE = torch.tensor([0] * 90 + [2] * 9 + [5])  # 1 and 3 and 4 do not occur
SPEC = DataSpec((1,), "vector", "class", 6)


class Listed(Dataset):
    """Read one by one; what torchvision calls targets are its classes."""

    def __init__(self, classes):
        self.targets = classes.tolist()

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, sample):
        return torch.tensor([float(sample)]), self.targets[sample]


class Unknown(Listed):
    def __init__(self, classes):
        self.classes = classes

    def __len__(self):
        return len(self.classes)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())

    def __len__(self):
        return 3


def held(classes):
    return TensorDataset(torch.arange(len(classes), dtype=torch.float32)[:, None], classes)


def loader(split, placement="auto", num_workers=None, **options):
    source = make_sources({"train": split}, CPU, placement, num_workers)["train"]
    options = {"batch_size": 7, "seed": 3, "shuffle": True, "classes": classes_of(split, SPEC)} | options
    return BatchLoader(source, **options)


def epoch(batches, number=1, start=0):
    return [(inputs[:, 0].tolist(), targets.tolist()) for inputs, targets, _ in batches.epoch(number, start)]


def test_each_class_that_occurs_is_equally_likely_and_so_is_each_of_its_samples():
    order = torch.cat([balanced(RARE, generator(0, "balance", number)) % 100 for number in range(300)])
    counts = torch.bincount(RARE[order], minlength=6)
    assert counts[[1, 3, 4]].sum() == 0
    assert (counts[[0, 2, 5]] / 30_000 - 1 / 3).abs().max() < 4 * (2 / 9 / 30_000) ** 0.5  # four standard errors
    within = torch.bincount(order, minlength=100)[90:99]
    assert (within / within.sum() - 1 / 9).abs().max() < 4 * (8 / 81 / 10_000) ** 0.5


def test_the_order_depends_on_seed_and_epoch_alone():
    first, again, later, other = (
        epoch(loader(held(RARE), seed=seed), number) for seed, number in ((3, 1), (3, 1), (3, 2), (4, 1))
    )
    assert first == again
    assert first != later
    assert first != other


@pytest.mark.parametrize(
    ("split", "options"),
    [
        (held(RARE), {"placement": "host"}),
        (held(RARE), {"placement": "workers", "num_workers": 2}),
        (Subset(held(RARE), range(100)), {}),
        (Listed(RARE), {"num_workers": 0}),
        (Listed(RARE), {"num_workers": 2}),
        (Subset(Listed(RARE), range(100)), {"num_workers": 0}),
    ],
)
def test_every_placement_and_number_of_workers_gives_the_same_batches(split, options):
    assert epoch(loader(split, **options)) == epoch(loader(held(RARE)))


def test_an_epoch_that_begins_later_goes_on_as_the_whole_one():
    batches = loader(held(RARE), augment=lambda inputs, targets, rng: (inputs + rng.uniform(1), targets))
    assert epoch(batches, start=4) == epoch(batches)[4:]
    assert batches.sample_indices(1, 4, 2).tolist() == [
        int(number) for inputs, _ in epoch(loader(held(RARE)))[4:6] for number in inputs
    ]


def test_a_sample_that_comes_again_is_augmented_anew():
    batches = loader(held(RARE), augment=lambda inputs, targets, rng: (rng.uniform(1), targets))
    drawn = [number for inputs, _ in epoch(batches) for number in inputs]
    assert len(set(drawn)) == len(drawn) == 100


def test_without_it_the_order_is_a_permutation_as_before():
    plain = epoch(loader(held(RARE), classes=None))
    wanted = torch.randperm(100, generator=generator(3, "order", 1))
    assert [number for inputs, _ in plain for number in inputs] == wanted.tolist()


@pytest.mark.parametrize("kind", ["class", "binary"])
def test_classes_are_the_targets_of_the_samples(kind):
    targets = torch.tensor([[1.0], [0.0], [1.0]]) if kind == "binary" else torch.tensor([1, 0, 1])
    split = TensorDataset(torch.zeros(3, 1), targets)
    spec = DataSpec((1,), "vector", kind, 1 if kind == "binary" else 2)
    assert classes_of(split, spec).tolist() == [1, 0, 1]
    assert classes_of(Subset(Subset(split, [2, 1]), [-1]), spec).tolist() == [0]


real = partial(DataSpec, (1,), "vector")
REFUSED = {
    "real": (held(RARE), real("real", 1), "these targets are real"),
    "labels": (held(RARE), real("multilabel", 3), "these targets are multilabel"),
    "positions": (held(RARE), DataSpec((1, 2, 2), "image", "class", 3, positions=(2, 2)), r"targets are class\+pos"),
    "unknown": (Unknown(RARE), SPEC, "Unknown has neither tensors nor an attribute targets; weigh the classes"),
    "stream": (Stream(), SPEC, "Stream has neither"),
}


@pytest.mark.parametrize(("split", "spec", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_classes_to_balance_is_refused(split, spec, message):
    with pytest.raises(IncompatibleError, match=f"loader.balance needs .*{message}"):
        classes_of(split, spec)


def test_it_is_refused_without_shuffling():
    with pytest.raises(ValueError, match="balance chooses the samples at random, and shuffle is false"):
        LoaderSettings(balance=True, shuffle=False)
    assert LoaderSettings().balance is False


def test_pictures_that_are_read_one_by_one_have_classes(tmp_path):
    for label, count in (("common", 12), ("rare", 2)):
        (tmp_path / label).mkdir()
        for number in range(count):
            cv2.imwrite(str(tmp_path / label / f"{number}.png"), np.full((8, 8), number, np.uint8))
    bundle = image_folder(root=str(tmp_path), check="header", val_fraction=0, test_fraction=0)
    assert classes_of(bundle.train, bundle.spec).tolist() == [0] * 12 + [1] * 2


def test_a_balanced_run_continues_exactly_and_says_what_it_cannot_do(ptb, tmp_path):
    given = ("--model", "linear", "--dataset", "iris", "--epochs", 3, "loader.balance=true", "--device", "cpu")
    assert ptb("run", *given, "--output", "whole").returncode == 0
    assert ptb("run", *given, "--output", "parts", "--stop-after", 5).returncode == 0
    assert ptb("resume", "parts").returncode == 0
    whole, parts = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "parts"))
    assert whole["weights_sha256"] == parts["weights_sha256"]
    done = ptb("run", "--model", "linear", "--dataset", "diabetes", "loader.balance=true", "--output", "x")
    assert done.returncode == 3
    assert "loader.balance needs samples of one class each; these targets are real" in done.stderr
