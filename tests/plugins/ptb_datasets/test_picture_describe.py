import json
import shutil
import warnings

import cv2
import numpy as np
import pytest

from ptb_datasets.image_folder import image_folder
from ptb_datasets.image_masks import image_masks


@pytest.fixture
def top(tmp_path):
    random = np.random.RandomState(0)
    for name, shapes in {"a": [(4, 6, 3), (9, 9, 3)], "b": [(20, 10), (8, 8, 4)], "c": [(5, 5, 3)]}.items():
        (tmp_path / name).mkdir()
        for number, shape in enumerate(shapes):
            assert cv2.imwrite(str(tmp_path / name / f"{number}.png"), random.randint(0, 256, shape).astype(np.uint8))
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "b" / "copy.png")
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "a" / "again.png")
    (tmp_path / "b" / "bad.png").write_bytes(b"")
    return tmp_path


def described(top, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        options = {"val_fraction": 0, "test_fraction": 0, "on_bad_sample": "skip", "size": 8, **settings}
        return image_folder(root=str(top), **options).describe()


def test_sizes_channels_and_what_was_left_out(top):
    said = described(top)
    assert json.loads(json.dumps(said)) == said
    pictures = said["pictures"]
    assert pictures["files"] == 7
    assert pictures["sizes"] == {"smallest": [4, 6], "median": [5, 5], "largest": [20, 10]}
    assert pictures["channels"] == {"colour": 5, "grey": 1, "colour and opacity": 1}
    assert pictures["bits"] == {"8": 7}
    assert pictures["left_out"] == [{"file": "b/bad.png", "why": "empty"}]


def test_the_same_bytes_in_two_classes_are_told_and_in_one_not(top):
    said = described(top)
    assert said["pictures"]["same_bytes_in_two_classes"] == [["a/0.png", "a/again.png", "b/copy.png"]]
    assert any("1 pictures are in several classes with the same bytes" in warning for warning in said["warnings"])


def test_transformations_with_their_numbers(top):
    options = {"fit": "crop", "interpolation": "cubic", "value_range": (0.0, 200.0), "background": (1, 2, 3)}
    said = " | ".join(described(top, normalize="imagenet", **options)["transforms"])
    for part in (
        "from 0 to 200",
        "[1, 2, 3]",
        "scaled and cropped to 8 x 8",
        "cubic",
        "[0.485, 0.456, 0.406]",
        "0.229",
    ):
        assert part in said
    assert "read from 7 files of 4 x 6 to 20 x 10 pixels, the median 5 x 5 (height x width): 5 colour, 1 grey" in said


def test_changes_in_training_say_what_they_do(top):
    changes = {"flip": True, "pad_crop": 2, "rotate": 5.0, "colour_jitter": 0.1, "mixup": 0.2, "cutmix": 1.0}
    (top / "b" / "bad.png").unlink()
    bundle = image_folder(root=str(top), val_fraction=0, test_fraction=0, background=(0, 0, 0), **changes)
    for part in ("left to right", "2 pixels", "5.0 degrees", "0.1", "mixup", "cutmix"):
        assert part in repr(bundle.augment)


def test_the_numbers_of_the_data_are_those_of_numpy(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (6, 5, 7, 3)).astype(np.uint8)
    for number, picture in enumerate(pixels):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "ab"[number % 2] / f"{number}.png"), picture)
    bundle = image_folder(root=str(tmp_path), size=(5, 7), val_fraction=0, test_fraction=0, normalize="data")
    rgb = pixels[..., ::-1] / 255
    assert np.allclose(bundle.transform.mean, rgb.mean((0, 1, 2)))
    assert np.allclose(bundle.transform.std, rgb.std((0, 1, 2)))
    inputs = bundle.transform(bundle.train[:][0] if hasattr(bundle.train, "tensors") else bundle.train[0][0][None])
    assert inputs.shape[1:] == (3, 5, 7)


def test_masks_are_described_too(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for number in range(4):
            cv2.imwrite(
                str(tmp_path / kind / f"{number}.png"), np.eye(6, dtype=np.uint8) * (1 if kind == "masks" else 99)
            )
    bundle = image_masks(images=str(tmp_path / "images"), masks=str(tmp_path / "masks"), size=6, flip=True)
    said = bundle.describe()
    assert said["pictures"]["sizes"]["largest"] == [6, 6]
    assert "read from 4 files of 6 x 6 pixels (height x width): 4 grey; 8 bits a value" in said["transforms"]
