import numpy as np
import pytest
import torch

from ptb import ConfigError, DataError
from ptb.data.sources import InMemorySamples
from ptb_datasets.idx_files import idx_files
from sample_files import PICTURES, write_idx


def build(folder, labels, pictures=PICTURES, dtype="u1", suffix="", **settings):
    images = write_idx(folder, f"images{suffix}", pictures)
    return idx_files(images=images, labels=write_idx(folder, f"labels{suffix}", labels, dtype), **settings)


def tensors(split):
    held = InMemorySamples.of(split)
    return held.take(torch.arange(held.size))


LABELS = {
    "from-0": (np.arange(80) % 4, "u1", ("0", "1", "2", "3")),
    "letters": (1 + np.arange(80) % 26, "u1", tuple(map(str, range(1, 27)))),
    "gaps": (np.arange(80) % 3 * 5, "u1", ("0", "5", "10")),
    "negative": (np.arange(80) % 3 - 1, "i1", ("-1", "0", "1")),
    "two": (np.arange(80) % 2 + 7, "u1", ("7", "8")),
    "16-bits": (np.arange(80) % 3 * 300, ">i2", ("0", "300", "600")),
    "32-bits": (np.arange(80) % 3 * 70_000, ">i4", ("0", "70000", "140000")),
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("labels", "dtype", "names"), LABELS.values(), ids=LABELS)
def test_each_label_that_occurs_is_a_class_with_its_name(tmp_path, labels, dtype, names, suffix):
    bundle = build(tmp_path, labels, dtype=dtype, suffix=suffix, val_fraction=0.25, test_fraction=0)
    assert (bundle.spec.input_shape, bundle.spec.class_names) == ((1, 7, 5), names)
    inputs, targets, _ = tensors(bundle.train)
    rows = bundle.train.indices
    assert np.array_equal(inputs[:, 0], PICTURES[rows])
    assert bundle.preprocessor.decode_targets(targets) == [str(label) for label in labels[rows]]
    assert bundle.spec.class_counts == tuple(np.unique(labels[rows], return_counts=True)[1].tolist())


def test_pixels_have_mean_0_and_deviation_1_in_the_training_pictures(tmp_path):
    bundle = build(tmp_path, np.arange(80) % 4)
    prepared = bundle.transform(tensors(bundle.train)[0]).double()
    assert prepared.mean().item() == pytest.approx(0, abs=1e-5)
    assert prepared.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_pictures_that_are_stored_column_by_column_can_be_turned(tmp_path):
    bundle = build(tmp_path, np.arange(80) % 4, transposed=True)
    assert bundle.spec.input_shape == (1, 5, 7)
    assert np.array_equal(tensors(bundle.train)[0][:, 0], PICTURES[bundle.train.indices].transpose(0, 2, 1))


def test_test_files_are_the_test_alone_and_know_the_classes_of_training(tmp_path):
    others = {
        "test_images": write_idx(tmp_path, "more", PICTURES[:6]),
        "test_labels": write_idx(tmp_path, "more-labels", np.array([1, 9, 4] * 2)),
    }
    labels = np.array([1, 4, 9, 9] * 20)
    bundle = build(tmp_path, labels, **others, class_names=("one", "four", "nine"))
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 68, "val": 12, "test": 6}
    assert tensors(bundle.test)[1].tolist() == [0, 2, 1] * 2
    assert bundle.preprocessor.decode_targets(tensors(bundle.test)[1])[:3] == ["one", "nine", "four"]
    others["test_labels"] = write_idx(tmp_path, "wrong", np.array([1, 9, 5] * 2))
    with pytest.raises(
        DataError, match="wrong: label 2, counted from 0, is 5; valid are 1, 4, 9, those of the training"
    ):
        build(tmp_path, labels, **others)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": np.arange(79) % 4}, DataError, "do not belong together: pictures 80, labels 79"),
        ({"labels": np.full(80, 3)}, DataError, "every target is 3; of one class nothing can be learnt"),
        ({"labels": np.arange(80)}, DataError, "every label is another number"),
        ({"labels": np.arange(80) % 4, "dtype": ">f4"}, DataError, "not an IDX file of whole numbers in 1 dimension"),
        ({"labels": np.arange(80) % 4, "pictures": PICTURES[:, 0]}, DataError, "unsigned bytes in 3 dimensions"),
        (
            {"labels": np.arange(80) % 4, "class_names": ("a", "b")},
            ConfigError,
            "has 2 names, .*4 different labels: 0, 1",
        ),
        (
            {"labels": np.arange(4) % 2, "pictures": PICTURES[:4], "val_fraction": 0.1},
            DataError,
            "dataset.val_fraction=0.1",
        ),
    ],
)
def test_files_that_are_no_data_set_are_refused(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        build(tmp_path, **change)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_images": "x"}, "dataset.test_images: needs test_labels; give both"),
        ({"test_labels": "x"}, "dataset.test_labels: needs test_images; give both"),
        ({"test_images": "x", "test_labels": "y", "test_fraction": 0.1}, "leave one out"),
        ({"val_fraction": 0, "test_fraction": 0, "split_seed": 1}, "split_seed: chooses what"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(built_in, settings, message):
    with pytest.raises(ConfigError, match=message):
        built_in.build("dataset", "idx", images="x", labels="y", **settings)


def test_test_pictures_of_another_size_are_refused(tmp_path):
    others = {
        "test_images": write_idx(tmp_path, "more", PICTURES[:6, :5]),
        "test_labels": write_idx(tmp_path, "more-labels", np.arange(6) % 4),
    }
    with pytest.raises(DataError, match=r"more has pictures of \(1, 5, 5\), those for training are \(1, 7, 5\)"):
        build(tmp_path, np.arange(80) % 4, **others)
