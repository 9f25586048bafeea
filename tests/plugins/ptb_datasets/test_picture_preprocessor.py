import warnings

import cv2
import numpy as np
import pytest
import torch

from ptb import DataError, Sample
from ptb.storage.codec import decode, encode
from ptb_datasets import image_folder as module
from ptb_datasets.image_folder import image_folder
from ptb_datasets.image_masks import image_masks
from ptb_datasets.picture_preprocessor import PicturePreprocessor

FORMS = {
    "plain": {},
    "grey": {"colour": "grey"},
    "crop": {"fit": "crop", "interpolation": "cubic", "mean": (0.4, 0.5, 0.6), "std": (0.2,)},
    "letterbox": {"fit": "letterbox", "background": (9, 90, 200), "normalize": "imagenet"},
    "range": {"value_range": (0.0, 200.0), "normalize": "data"},
    "reduced": {"decode": "reduced"},
}


@pytest.fixture
def top(tmp_path):
    random = np.random.RandomState(0)
    for name in ("cat", "dog", "10", "9"):
        (tmp_path / "top" / name).mkdir(parents=True)
        for number, suffix in enumerate((".png", ".jpg", ".webp", ".png")):
            shape = (40 + 3 * number, 30, 4 if number == 3 else 3)
            assert cv2.imwrite(
                str(tmp_path / "top" / name / f"{number}{suffix}"), random.randint(0, 256, shape).astype(np.uint8)
            )
    return tmp_path / "top"


def build(top, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pictures with opacity
        return image_folder(root=str(top), **{"size": (9, 12), "val_fraction": 0, "test_fraction": 0, **settings})


def restored(bundle):
    """The preprocessor as predicting finds it: built without arguments, from the state in the run."""
    again = PicturePreprocessor()
    again.spec = bundle.spec
    again.load_state_dict(decode(encode(bundle.preprocessor.state_dict())))
    return again


@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("share", [0.25, 0], ids=["kept", "read"])
def test_training_files_give_the_training_samples_bit_for_bit(top, monkeypatch, settings, share):
    monkeypatch.setattr(module, "KEPT_SHARE", share)
    bundle = build(top, **settings)
    read = {sample.name.removeprefix(f"{top}/"): sample for sample in restored(bundle).read([top])}
    names = [f"{folder}/{path.name}" for folder in bundle.spec.class_names for path in sorted((top / folder).iterdir())]
    assert sorted(read) == sorted(names)
    for row, name in enumerate(names):
        inputs, target = bundle.train[row]
        assert torch.equal(read[name].inputs, inputs)
        assert int(read[name].targets) == int(target)
        assert read[name].error is None


@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)
def test_the_transform_comes_from_the_state(top, settings):
    bundle = build(top, **settings)
    batch = torch.stack([bundle.train[0][0], bundle.train[5][0]])
    assert torch.equal(restored(bundle).transform(batch), bundle.transform(batch))


def test_classes_are_decoded_to_their_names(top):
    bundle = build(top)
    assert bundle.spec.class_names == ("9", "10", "cat", "dog")
    preprocessor = restored(bundle)
    targets = torch.tensor([int(bundle.train[row][1]) for row in range(0, 16, 4)])
    assert list(preprocessor.decode_targets(targets)) == ["9", "10", "cat", "dog"]
    assert list(preprocessor.decode(torch.eye(4))["prediction"]) == ["9", "10", "cat", "dog"]


def test_single_files_arrays_and_folders_in_order(top):
    preprocessor = restored(build(top))
    rgb = cv2.imread(str(top / "cat" / "0.png"))[..., ::-1].copy()
    sources = [str(top / "cat" / "0.png"), rgb, top / "dog", np.stack([rgb, rgb]), rgb[..., 0], rgb[..., :1]]
    samples = list(preprocessor.read(sources))
    dogs = [str(top / "dog" / name) for name in ("0.png", "1.jpg", "2.webp", "3.png")]
    names = [str(top / "cat" / "0.png"), "[1]", *dogs, "[0]", "[1]", "[4]", "[5]"]
    assert [sample.name for sample in samples] == names
    assert [sample.targets if sample.targets is None else int(sample.targets) for sample in samples[:6]] == [
        2,
        None,
        *[3] * 4,
    ]
    same = samples[0].inputs
    assert all(torch.equal(same, samples[place].inputs) for place in (1, 6, 7))
    assert torch.equal(samples[8].inputs, samples[9].inputs)
    (whole,) = preprocessor.read([rgb.astype(np.float32)])
    assert torch.equal(whole.inputs, same)


def test_arrays_with_opacity_are_composed_like_files(tmp_path, top):
    preprocessor = restored(build(top, background=(255, 255, 255)))
    bgra = cv2.imread(str(top / "cat" / "3.png"), cv2.IMREAD_UNCHANGED)
    samples = list(preprocessor.read([top / "cat" / "3.png", bgra[..., [2, 1, 0, 3]]]))
    assert torch.equal(samples[0].inputs, samples[1].inputs)


WRONG = {
    "missing": ("nothing.png", "is not there"),
    "text": ("notes.txt", "not a picture by its name"),
    "empty": ("empty.png", "empty"),
    "float": (np.full((4, 4), 0.5), r"float64 \[4, 4\] is no picture; valid: uint8, uint16"),
    "vector": (np.zeros(4, np.uint8), "is no picture"),
    "channels": (np.zeros((4, 4, 7), np.uint8), "is no picture"),
    "no-rows": (np.zeros((0, 4, 3), np.uint8), "is no picture"),
    "row": ({"x": 1}, "is of type dict; valid is a file, a folder, or a NumPy array"),
}


@pytest.mark.parametrize(("source", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_gives_a_sample_with_the_reason_and_the_others_follow(tmp_path, top, source, message):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty.png").write_bytes(b"")
    given = tmp_path / source if isinstance(source, str) else source
    first, second = restored(build(top)).read([given, top / "cat" / "0.png"])
    assert isinstance(first, Sample)
    assert first.inputs is None
    assert __import__("re").search(message, first.error)
    assert second.error is None


def test_a_folder_with_litter_nesting_and_a_loop(top):
    preprocessor = restored(build(top))
    (top / "cat" / ".DS_Store").write_bytes(b"x")
    (top / "cat" / "deep").mkdir()
    (top / "cat" / "0.png").rename(top / "cat" / "deep" / "0.png")
    (top / "cat" / "deep" / "loop").symlink_to(top)
    (top / "cat" / "bad.png").write_bytes(b"x")
    samples = {sample.name.removeprefix(f"{top}/"): sample for sample in preprocessor.read([top])}
    assert int(samples["cat/deep/0.png"].targets) == 2
    assert "loop of links" in samples["cat/deep/loop"].error
    assert "no known kind" in samples["cat/bad.png"].error
    assert len(samples) == 18


def test_it_is_read_lazily(top):
    preprocessor = restored(build(top))
    assert next(preprocessor.read(source for source in (top / "cat" / "0.png", 1 / 1))).error is None


def test_masks_are_not_needed(tmp_path, top):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for number in range(4):
        pixels = np.random.RandomState(number).randint(0, 256, (9, 9, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), pixels)
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), pixels[..., 0] // 128)
    bundle = image_masks(
        images=str(tmp_path / "images"),
        masks=str(tmp_path / "masks"),
        size=6,
        val_fraction=0,
        test_fraction=0,
        fit="crop",
    )
    samples = list(restored(bundle).read([tmp_path / "images"]))
    assert [sample.targets for sample in samples] == [None] * 4
    assert all(torch.equal(sample.inputs, bundle.train[row][0]) for row, sample in enumerate(samples))


def test_an_unreadable_folder_is_a_data_error_in_training_and_a_reason_here(top, monkeypatch):
    preprocessor = restored(build(top))
    monkeypatch.setattr("os.scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    (sample,) = preprocessor.read([top])
    assert "Permission denied" in sample.error
    with pytest.raises(DataError, match="Permission denied"):
        build(top)
