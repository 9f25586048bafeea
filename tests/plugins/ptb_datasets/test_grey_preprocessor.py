import cv2
import numpy as np
import pytest
import torch

from ptb.data.sources import InMemorySamples
from ptb_datasets.digits import digits
from ptb_datasets.grey_preprocessor import GreyPreprocessor
from ptb_datasets.idx_files import idx_files
from sample_files import PICTURES, again, stacked, write_idx


@pytest.fixture
def files(tmp_path):
    return {
        "images": write_idx(tmp_path, "images", PICTURES),
        "labels": write_idx(tmp_path, "labels", 1 + np.arange(80) % 4),
    }


@pytest.mark.parametrize("transposed", [False, True])
def test_reading_the_training_files_gives_the_training_samples(files, transposed):
    bundle = idx_files(**files, transposed=transposed)
    samples = list(again(bundle.preprocessor).read([{"inputs": files["images"], "targets": files["labels"]}]))
    rows = bundle.train.indices
    wanted = InMemorySamples.of(bundle.train).take(torch.arange(len(rows)))
    assert torch.equal(torch.stack([samples[row].inputs for row in rows]), wanted.inputs)
    assert torch.equal(torch.stack([samples[row].targets for row in rows]), wanted.targets)
    assert samples[3].name == f"{files['images']}[3]"


def test_the_transform_is_that_of_the_data_set(files):
    bundle = idx_files(**files)
    inputs = torch.from_numpy(PICTURES[:, None])
    assert torch.equal(again(bundle.preprocessor).transform(inputs), bundle.transform(inputs))


def test_arrays_and_files_of_them_give_the_same_pictures(files, tmp_path):
    preprocessor = idx_files(**files).preprocessor
    np.save(tmp_path / "x.npy", PICTURES)
    wanted = torch.from_numpy(PICTURES[:, None])
    for source in (tmp_path / "x.npy", str(tmp_path / "x.npy"), PICTURES, PICTURES[:, None], files["images"], wanted):
        assert torch.equal(stacked(preprocessor.read([source])), wanted)
    assert torch.equal(stacked(preprocessor.read([PICTURES[3]])), wanted[3:4])
    np.savez(tmp_path / "x.npz", inputs=PICTURES[:3], targets=[1, 2, 4])
    samples = list(preprocessor.read([tmp_path / "x.npz"]))
    assert torch.equal(stacked(samples), wanted[:3])
    assert [int(sample.targets) for sample in samples] == [0, 1, 3]


def test_picture_files_are_read_grey_and_stretched_and_folders_give_the_class(tmp_path):
    bundle = digits()
    picture = bundle.train[0][0].numpy()[0]
    (tmp_path / "7").mkdir()
    cv2.imwrite(str(tmp_path / "7" / "a.png"), picture)
    cv2.imwrite(str(tmp_path / "b.png"), np.repeat(np.repeat(np.stack([picture] * 3, 2), 2, 0), 2, 1))
    (tmp_path / "broken.png").write_bytes(b"hello")
    (tmp_path / "notes.txt").write_text("no picture")
    named, large, broken = again(bundle.preprocessor).read([tmp_path])
    assert (named.name, int(named.targets)) == (str(tmp_path / "7" / "a.png"), 7)
    assert torch.equal(named.inputs[0], torch.from_numpy(picture))
    assert torch.equal(large.inputs, named.inputs)
    assert (large.targets, broken.inputs) == (None, None)
    assert "cannot be decoded" in broken.error


def test_bright_pictures_are_warned_of_and_not_inverted():
    preprocessor = digits().preprocessor
    bright = np.full((2, 32, 32), 250, np.uint8)
    with pytest.warns(UserWarning, match=r"\[0\] is mostly bright, .* nothing is inverted") as caught:
        assert torch.equal(stacked(preprocessor.read([bright])), torch.from_numpy(bright[:, None]))
    assert len(caught) == 1


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_labels_of_a_distribution_are_smoothed_as_in_training(smoothing):
    bundle = digits(target="distribution", smoothing=smoothing)
    label = int(bundle.train[5][1].argmax())
    (sample,) = again(bundle.preprocessor).read([{"inputs": bundle.train[5][0].numpy(), "targets": [label]}])
    assert torch.equal(sample.targets, bundle.train[5][1])


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (np.zeros((2, 8, 8)), "holds float64; pictures are uint8"),
        (np.zeros((2, 3, 8, 8), np.uint8), "holds [2, 3, 8, 8]; grey pictures are"),
        ("nothing.npy", "cannot be read: No such file"),
        ("nothing.png", "cannot be read: No such file"),
        ("nothing", "cannot read nothing: No such file"),
        ("~no-such-user-here/x", "home"),
        ({"inputs": np.zeros((2, 8, 8), np.uint8), "targets": [1]}, "holds 2 pictures and 1 labels"),
        ({"inputs": np.zeros((1, 8, 8), np.uint8), "targets": [11]}, "the label is 11; valid are 0 to 9"),
    ],
)
def test_a_source_that_cannot_be_used_is_said_and_ends_nothing(source, error):
    good = np.zeros((1, 32, 32), np.uint8)
    *_, bad, last = digits().preprocessor.read([source, good])
    assert last.error is None
    assert (bad.inputs is not None) == ("the label is" in error)  # then it can be predicted
    assert error in bad.error or pytest.fail(bad.error)


def test_what_is_done_to_the_pixels_is_said(files):
    bundle = idx_files(**files, transposed=True)
    turned, said = bundle.describe()["transforms"]
    mean, std = (f"{value:.4g}" for value in (bundle.transform.mean, bundle.transform.std))
    assert said == f"pixels: (value / 255 - {mean}) / {std}"
    assert "exchanged" in turned
    assert len(digits().describe()["transforms"]) == 1


def test_it_is_built_without_arguments():
    assert GreyPreprocessor().state_dict() == {
        "mean": 0.0,
        "std": 1.0,
        "transposed": False,
        "target": {},
        "smoothing": None,
    }
