import gzip
import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptb import ConfigError, DataError
from ptb_datasets import shipped
from ptb_datasets.digits import digits, read_digits


def rows(bundle):
    """Every sample of every split as one row of pixels and label, in sorted order."""
    parts = [
        torch.cat((x.flatten(1).long(), y[:, None]), dim=1) for x, y in (s.tensors for s in bundle.splits.values())
    ]
    return sorted(torch.cat(parts).tolist())


def same(first, second):
    return all(
        torch.equal(a, b)
        for name in first.splits
        for a, b in zip(first.splits[name].tensors, second.splits[name].tensors, strict=True)
    )


def test_samples_have_the_shapes_and_dtypes_of_the_spec():
    bundle = digits(size=12)
    assert bundle.spec.input_shape == (1, 12, 12)
    assert (bundle.spec.inputs, bundle.spec.target, bundle.spec.output_size) == ("image", "class", 10)
    assert bundle.spec.class_names == tuple("0123456789")
    for split in bundle.splits.values():
        inputs, targets = split.tensors
        assert inputs.dtype == torch.uint8
        assert inputs.shape == (len(split), 1, 12, 12)
        assert targets.dtype == torch.int64
        assert targets.shape == (len(split),)
        assert targets.unique().tolist() == list(range(10))


def test_the_spec_counts_the_training_samples_of_each_class():
    bundle = digits(size=8)
    assert bundle.spec.class_counts == tuple(bundle.train.tensors[1].bincount().tolist())


def test_the_default_data_never_changes():
    digest = hashlib.sha256()
    bundle = digits()
    for split in bundle.splits.values():
        for tensor in split.tensors:
            digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest() == "bebf0dc6112344ec63da336fba92ff2cb699ede25faef83d856aa2b6937513a7"
    assert (bundle.transform.mean, bundle.transform.std) == (0.3129998445510864, 0.35655641555786133)


@pytest.mark.parametrize("smoothing", [None, 0.02, 0.5])
def test_distributions_are_the_smoothed_classes(smoothing):
    classes, soft = digits(size=8), digits(size=8, target="distribution", smoothing=smoothing)
    s = 0.1 if smoothing is None else smoothing
    assert (soft.spec.target, soft.spec.output_size, soft.spec.class_counts) == ("distribution", 10, ())
    for name, split in soft.splits.items():
        inputs, targets = classes.splits[name].tensors
        assert torch.equal(split.tensors[0], inputs)
        assert split.tensors[1].dtype == torch.float32
        torch.testing.assert_close(split.tensors[1], F.one_hot(targets, 10) * (1 - s) + s / 10)
        torch.testing.assert_close(split.tensors[1].sum(1), torch.ones(len(split)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smoothing": 0.1}, "smoothing: belongs to target=distribution; .*, got 0.1"),
        ({"target": "distribution", "smoothing": 0.0}, "smoothing: must be above 0, got 0.0"),
        ({"target": "distribution", "smoothing": 1.0}, "smoothing: must be below 1, got 1.0"),
    ],
    ids=["class", "none", "all"],
)
def test_smoothing_that_would_be_ignored_or_senseless_is_refused(built_in, settings, message):
    with pytest.raises(ConfigError, match=message):
        built_in.build("dataset", "digits", **settings)


def test_without_resizing_they_are_the_digits_of_scikit_learn_each_once():
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = (data.images * (255 / 16)).round().astype(int).reshape(-1, 64)
    found = rows(digits(size=8))
    assert len(found) == 1797
    assert found == sorted(np.column_stack((pixels, data.target)).tolist())


def test_resizing_is_cubic_and_cut_to_the_range_of_grey():
    small, large = (digits(size=size).train.tensors[0].float() for size in (8, 32))
    wanted = F.interpolate(small, size=(32, 32), mode="bicubic")
    assert wanted.min() < -1  # a cubic swings over, and must not wrap around
    assert wanted.max() > 256
    assert (large - wanted.clamp(0, 255)).abs().max() < 2


def test_each_split_has_the_classes_of_the_whole_in_proportion():
    bundle = digits(size=8)
    counts = {name: split.tensors[1].bincount() for name, split in bundle.splits.items()}
    whole = sum(counts.values())
    off = {name: (taken - whole * taken.sum() / whole.sum()).abs().max() for name, taken in counts.items()}
    assert off["val"] < 1
    assert off["test"] < 1
    assert off["train"] < 1


def test_the_fractions_set_the_sizes():
    bundle = digits(size=8, val_fraction=0.1, test_fraction=0.3)
    assert (len(bundle.val), len(bundle.test)) == (180, 539)


def test_the_split_depends_on_its_seed_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    first = digits(size=8, split_seed=3)
    torch.manual_seed(2)
    np.random.seed(2)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert same(first, digits(size=8, split_seed=3))
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.random.get_state()[1].tolist() == state[1]


def test_another_seed_splits_otherwise():
    first, second = digits(size=8, split_seed=0), digits(size=8, split_seed=1)
    assert not same(first, second)
    assert rows(first) == rows(second)


def test_prepare_gives_training_inputs_mean_0_and_deviation_1():
    bundle = digits()
    prepared = bundle.transform(bundle.train.tensors[0])
    assert prepared.dtype == torch.float32
    assert prepared.mean().item() == pytest.approx(0, abs=1e-4)
    assert prepared.std().item() == pytest.approx(1, abs=1e-4)


def test_a_scikit_learn_without_the_file_is_a_data_error(monkeypatch, tmp_path):
    read_digits.cache_clear()
    monkeypatch.setattr(shipped, "distribution", lambda name: SimpleNamespace(locate_file=tmp_path.joinpath))
    with pytest.raises(DataError, match="reinstall scikit-learn"):
        digits()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        gzip.compress(b"1,2,3\n"),
        gzip.compress(b""),
        gzip.compress(b"a," * 65),
        gzip.compress(b"1" * 999)[:-9],
    ],
    ids=["empty", "not-gz", "narrow", "no-rows", "words", "cut"],
)
def test_a_damaged_file_of_digits_is_a_data_error(monkeypatch, tmp_path, content):
    read_digits.cache_clear()
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(content)

    class Installed:
        def locate_file(self, _):
            return path

    monkeypatch.setattr(shipped, "distribution", lambda _: Installed())
    with pytest.raises(DataError, match="reinstall scikit-learn"):
        digits()
