import warnings

import cv2
import numpy as np
import pytest
import torch

from ptb import ConfigError, DataError, SampleGenerator
from ptb.data.sources import InMemorySamples
from ptb_datasets import image_masks as module
from ptb_datasets.image_masks import FlipTogether, image_masks

SIDE = 8
COLOURS = [[0, 0, 0], [128, 0, 0], [0, 128, 64]]


def mask_of(number):
    """Classes 0 to 2, of which the picture's number decides where they lie."""
    return (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) // (number % 5 + 3) % 3).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def folders(top, count=10, mask=mask_of, split="", first=0, suffix=""):
    """Pictures whose pixels are all their own number, and their masks."""
    for number in range(first, first + count):
        save(top / "images" / split / f"{number:02d}.png", np.full((SIDE, SIDE, 3), number, np.uint8))
        save(top / "masks" / split / f"{number:02d}{suffix}.png", mask(number))
    return top


def build(top, **settings):
    return image_masks(images=str(top / "images"), masks=str(top / "masks"), **{"size": SIDE, **settings})


def numbers(split):
    return [int(split[index][0][0, 0, 0]) for index in range(len(split))]


@pytest.fixture
def little_memory(monkeypatch):
    """None of the machine's memory may be used to keep pictures."""
    monkeypatch.setattr(module, "KEPT_SHARE", 0)


def test_every_picture_comes_with_its_mask_and_is_in_one_split(tmp_path):
    bundle = build(folders(tmp_path, 20))
    assert sorted(number for split in bundle.splits.values() for number in numbers(split)) == list(range(20))
    assert [len(split) for split in bundle.splits.values()] == [14, 3, 3]
    for split in bundle.splits.values():
        for place, number in enumerate(numbers(split)):
            picture, target = split[place]
            assert picture.dtype == torch.uint8
            assert picture.shape == (3, SIDE, SIDE)
            assert target.dtype == torch.int64
            assert torch.equal(target, torch.from_numpy(mask_of(number)).long())


def test_the_spec_says_what_is_there(tmp_path):
    bundle = build(folders(tmp_path), class_names=["sky", "road", "car"])
    spec = bundle.spec
    assert (spec.input_shape, spec.positions, spec.output_size) == ((3, SIDE, SIDE), (SIDE, SIDE), 3)
    assert spec.target_form == "class+positions"
    assert spec.class_names == ("sky", "road", "car")
    train = torch.stack([bundle.train[place][1] for place in range(len(bundle.train))])
    assert spec.class_counts == tuple(torch.bincount(train.flatten()).tolist())
    assert float(bundle.transform(torch.tensor([0, 255], dtype=torch.uint8)).sum()) == 0


@pytest.mark.parametrize("kept", [True, False])
def test_read_when_needed_they_are_the_same(tmp_path, monkeypatch, kept):
    folders(tmp_path)
    bundle = build(tmp_path, values=[0, 1, 2], unlabelled=7)
    monkeypatch.setattr(module, "KEPT_SHARE", 1 if kept else 0)
    other = build(tmp_path, values=[0, 1, 2], unlabelled=7)
    assert (InMemorySamples.of(other.train) is not None) == kept
    assert other.spec == bundle.spec
    for name, split in bundle.splits.items():
        for place in range(len(split)):
            for one, another in zip(split[place], other.splits[name][place], strict=True):
                assert torch.equal(one, another)
                assert one.dtype == another.dtype


@pytest.mark.usefixtures("little_memory")
def test_a_file_that_is_changed_later_is_named(tmp_path):
    bundle = build(folders(tmp_path))
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"\d\d.png: its mask \d\d.png: empty"):
        bundle.train[0]


def test_values_are_classes_in_their_order_and_others_may_be_unlabelled(tmp_path):
    folders(tmp_path, mask=lambda number: np.array([0, 255, 100], np.uint8)[mask_of(number)])
    bundle = build(tmp_path, values=[255, 0], unlabelled=100)
    number = numbers(bundle.train)[0]
    wanted = torch.tensor([1, 0, -100])[torch.from_numpy(mask_of(number)).long()]
    assert torch.equal(bundle.train[0][1], wanted)
    assert bundle.spec.output_size == 2
    assert sum(bundle.spec.class_counts) == sum(
        int((each[1] >= 0).sum()) for each in map(bundle.train.__getitem__, range(len(bundle.train)))
    )


@pytest.mark.parametrize("unlabelled", [None, 255])
def test_without_values_they_are_the_numbers(tmp_path, unlabelled):
    folders(tmp_path, mask=lambda number: np.where(mask_of(number) == 2, unlabelled or 2, mask_of(number)))
    bundle = build(tmp_path, unlabelled=unlabelled)
    assert bundle.spec.output_size == (2 if unlabelled else 3)
    assert (int(torch.stack([bundle.train[place][1] for place in range(len(bundle.train))]).min()) == -100) == bool(
        unlabelled
    )


@pytest.mark.parametrize("unlabelled", [None, (255, 255, 255)])
def test_colours_are_red_green_blue(tmp_path, unlabelled):
    def mask(number):
        colours = np.array(COLOURS if unlabelled is None else [*COLOURS[:2], unlabelled], np.uint8)
        return colours[mask_of(number)][..., ::-1]  # OpenCV writes blue, green, red

    folders(tmp_path, mask=mask)
    values = [tuple(colour) for colour in (COLOURS if unlabelled is None else COLOURS[:2])]
    bundle = build(tmp_path, values=values, unlabelled=unlabelled)
    number = numbers(bundle.train)[0]
    wanted = torch.tensor([0, 1, 2 if unlabelled is None else -100])[torch.from_numpy(mask_of(number)).long()]
    assert torch.equal(bundle.train[0][1], wanted)


def test_a_grey_mask_stored_with_three_or_four_channels_is_read_as_one(tmp_path):
    folders(tmp_path, mask=lambda number: np.repeat(mask_of(number)[..., None], 3 + number % 2, axis=2))
    bundle = build(tmp_path)
    for place, number in enumerate(numbers(bundle.train)):
        assert torch.equal(bundle.train[place][1], torch.from_numpy(mask_of(number)).long())


def test_values_of_16_bits_are_told_apart(tmp_path):
    folders(tmp_path, mask=lambda number: mask_of(number).astype(np.uint16) * 1000)
    assert build(tmp_path, values=[0, 1000, 2000]).spec.output_size == 3


def test_masks_are_stretched_by_the_nearest_pixel_and_pictures_smoothly(tmp_path):
    folders(tmp_path, mask=lambda number: mask_of(number) * 100)
    bundle = build(tmp_path, size=[12, 20], values=[0, 100, 200], colour="grey")
    picture, target = bundle.train[0]
    assert picture.shape == (1, 12, 20)
    assert target.shape == bundle.spec.positions == (12, 20)
    assert set(target.unique().tolist()) == {0, 1, 2}


def test_split_folders_are_the_splits(tmp_path):
    folders(tmp_path, 6, split="train")
    folders(tmp_path, 2, split="val", first=6)
    folders(tmp_path, 3, split="test", first=8)
    bundle = build(tmp_path)
    assert [numbers(split) for split in bundle.splits.values()] == [[0, 1, 2, 3, 4, 5], [6, 7], [8, 9, 10]]
    with pytest.raises(ConfigError, match=r"dataset\.val_fraction: .*val is that split"):
        build(tmp_path, val_fraction=0.2)


def test_a_split_without_masks_is_named(tmp_path):
    folders(tmp_path, 6, split="train")
    save(tmp_path / "images" / "val" / "9.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(DataError, match=r"images.val holds the pictures of a split, and .*masks.val is not there"):
        build(tmp_path)


def test_a_suffix_belongs_to_the_names_of_masks(tmp_path):
    assert len(build(folders(tmp_path, suffix="_mask"), mask_suffix="_mask").train) == 6


def test_the_seed_chooses_the_splits(tmp_path):
    folders(tmp_path, 20)
    assert (
        numbers(build(tmp_path).train) == numbers(build(tmp_path).train) != numbers(build(tmp_path, split_seed=1).train)
    )
    with pytest.raises(ConfigError, match="split_seed=1: no split is drawn"):
        build(tmp_path, split_seed=1, val_fraction=0, test_fraction=0)


def broken(top):
    """A folder in which every second pair has something wrong with it."""
    folders(top, 20)
    (top / "masks" / "01.png").unlink()
    (top / "images" / "03.png").unlink()
    (top / "masks" / "05.png").write_bytes(b"")
    save(top / "masks" / "07.png", np.zeros((4, 4), np.uint8))
    save(top / "masks" / "09.png", np.full((SIDE, SIDE, 3), (1, 2, 3), np.uint8))
    (top / "images" / "11.png").write_text("no picture")
    save(top / "images" / "13.jpg", np.zeros((SIDE, SIDE, 3), np.uint8))
    (top / "images" / "sub").mkdir()
    return top


REASONS = [
    r"01\.png: no mask 01\.\* in .*masks",
    r"03\.png: no picture 03\.\* in .*images",
    r"05\.png: its mask 05\.png: empty",
    r"07\.png: its mask 07\.png: mask and picture must have one size \(height x width\), they have 4x4 and 8x8",
    r"09\.png: its mask 09\.png: it has colours, such as \[3, 2, 1\] in row 0, column 0: list the colour of each class",
    r"11\.png: cannot be decoded",
    r"13\.png: has the name of 13\.jpg",
    "sub: a folder inside the folder of pictures",
]


@pytest.mark.parametrize("reason", REASONS)
def test_files_that_are_no_good_are_listed_with_the_reason(tmp_path, reason):
    with pytest.raises(DataError, match=reason) as error:
        build(broken(tmp_path))
    assert "dataset.on_bad_sample=skip" in str(error.value)


def test_or_left_out_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="left out 8 of 2"):
        bundle = build(broken(tmp_path), on_bad_sample="skip", val_fraction=0, test_fraction=0)
    assert numbers(bundle.train) == [0, 2, 4, 6, 8, 10, 12, 0, *range(14, 20)]  # 13.jpg, whose pixels are 0


def test_a_value_that_is_no_class_is_shown_with_its_place(tmp_path):
    folders(tmp_path)
    with pytest.raises(DataError, match=r"its mask 00.png: the pixel in row 0, column 6, .* is 2; valid are those of"):
        build(tmp_path, values=[0, 1])


@pytest.mark.parametrize(
    ("factor", "settings", "message"),
    [
        (0, {}, r"the masks hold 0; valid are 0 to C - 1 without gaps, C > 1"),
        (127, {}, r"the masks hold 0, 127, 254; .* dataset.values='\[0, 127, 254\]'; .* dataset.unlabelled=254"),
        (1, {"class_names": ["a", "b"]}, "the masks hold 0, 1, 2; valid are 0 to 1, as there are 2 class_names"),
    ],
    ids=["one-class", "gaps", "names"],
)
def test_values_that_are_no_numbers_of_classes_are_explained(tmp_path, factor, settings, message):
    folders(tmp_path, mask=lambda number: mask_of(number) * factor)
    with pytest.raises(DataError, match=message):
        build(tmp_path, **settings)


def test_a_named_class_need_not_be_in_any_mask(tmp_path):
    spec = build(folders(tmp_path), class_names=["a", "b", "c", "d"]).spec
    assert spec.output_size == 4
    assert spec.class_counts[3] == 0


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_pictures_are_refused(tmp_path, count):
    folders(tmp_path, count)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir(exist_ok=True)
    with pytest.raises(DataError, match=f"has too few pictures that can be used, {count} in all"):
        build(tmp_path)


@pytest.mark.parametrize("missing", ["images", "masks"])
def test_a_folder_that_is_not_there_is_named_by_its_setting(tmp_path, missing):
    folders(tmp_path)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"dataset\.{missing}=.* is not there"):
        build(tmp_path)


def test_half_of_the_samples_are_turned_with_their_masks():
    inputs, targets = torch.randn(64, 3, 4, 6), torch.randint(3, (64, 4, 6))
    generator = SampleGenerator(0, 1, torch.arange(64))
    pictures, masks = FlipTogether()(inputs, targets, generator)
    turned = (pictures == inputs.flip(-1)).flatten(1).all(1)
    assert 16 < int(turned.sum()) < 48
    assert torch.equal(pictures, torch.where(turned[:, None, None, None], inputs.flip(-1), inputs))
    assert torch.equal(masks, torch.where(turned[:, None, None], targets.flip(-1), targets))


def test_pictures_are_turned_only_if_that_is_wanted(tmp_path):
    folders(tmp_path)
    assert build(tmp_path).augment is None
    assert build(tmp_path, flip=True).augment == FlipTogether()


@pytest.mark.parametrize(
    "settings",
    [
        {"values": [0]},
        {"values": [1, 1]},
        {"values": [0, 1], "unlabelled": 1},
        {"values": [0, 1], "unlabelled": [0, 0, 1]},
        {"unlabelled": [0, 0, 1]},
        {"values": [0, 1], "class_names": ["a", "b", "c"]},
        {"values": [[0, 0, 256], [1, 1, 1]]},
        {"class_names": ["a"]},
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(built_in, tmp_path, settings):
    with pytest.raises(ConfigError, match="dataset"):
        built_in.build("dataset", "image-masks", images=str(tmp_path), masks=str(tmp_path), **settings)


def test_colours_are_given_as_lists(built_in, tmp_path):
    folders(tmp_path, mask=lambda number: np.array(COLOURS, np.uint8)[mask_of(number)][..., ::-1])
    paths = {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks")}
    with warnings.catch_warnings(action="error"):
        bundle = built_in.build("dataset", "image-masks", **paths, size=SIDE, values=COLOURS)
    assert bundle.spec.output_size == 3


@pytest.mark.parametrize("share", [0.25, 0], ids=["kept", "read"])
def test_masks_are_cropped_with_their_pictures(tmp_path, monkeypatch, share):
    monkeypatch.setattr(module, "KEPT_SHARE", share)
    for number in range(8):
        mask = np.zeros((8, 24), np.uint8)
        mask[:, 8:16] = number % 2
        save(tmp_path / "images" / f"{number}.png", np.dstack([mask * 255] * 3))
        save(tmp_path / "masks" / f"{number}.png", mask)
    split = build(tmp_path, fit="crop", val_fraction=0, test_fraction=0).train
    for row in range(8):
        picture, classes = split[row]
        assert (classes == row % 2).all()
        assert (picture == row % 2 * 255).all()


def test_nobody_labelled_the_space_around_a_letterbox(tmp_path):
    for number in range(4):
        mask = np.full((4, 8), number % 2, np.uint8)
        save(tmp_path / "images" / f"{number}.png", np.dstack([mask * 0 + 200] * 3))
        save(tmp_path / "masks" / f"{number}.png", mask)
    options = {"fit": "letterbox", "background": (7, 7, 7), "val_fraction": 0, "test_fraction": 0}
    picture, classes = build(tmp_path, **options).train[1]
    assert (classes[2:6] == 1).all()
    assert (classes[[0, 1, 6, 7]] == -100).all()
    assert (picture[:, 2:6] == 200).all()
    assert (picture[:, [0, 1, 6, 7]] == 7).all()


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
def test_reduced_decoding_goes_with_masks_of_the_full_size(tmp_path, fit):
    for number in range(4):
        mask = (np.arange(45 * 50).reshape(45, 50) > 500 * number).astype(np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / "images" / f"{number}.jpg"), np.dstack([mask * 200] * 3))
        save(tmp_path / "masks" / f"{number}.png", mask)
    options = {"fit": fit, "val_fraction": 0, "test_fraction": 0}
    full, reduced = (build(tmp_path, decode=each, **options).train for each in ("full", "reduced"))
    for row in range(4):
        assert torch.equal(full[row][1], reduced[row][1])
        assert full[row][0].shape == reduced[row][0].shape
    save(tmp_path / "masks" / "0.png", np.zeros((45, 59), np.uint8))
    with pytest.raises(DataError, match="mask and picture must have one size"):
        build(tmp_path, decode="reduced", **options)


def test_what_is_lost_of_transparent_and_of_12_bit_pictures_is_told(tmp_path):
    for number in range(8):
        random = np.random.RandomState(number)
        save(tmp_path / "alpha" / "images" / f"{number}.png", random.randint(0, 256, (8, 8, 4)).astype(np.uint8))
        save(tmp_path / "deep" / "images" / f"{number}.png", random.randint(500, 800, (8, 8)).astype(np.uint16))
        for folder in ("alpha", "deep"):
            save(tmp_path / folder / "masks" / f"{number}.png", mask_of(number))
    with pytest.warns(UserWarning, match=r"8 pictures are partly transparent.*dataset\.background="):
        build(tmp_path / "alpha")
    with pytest.warns(
        UserWarning, match=r"8 pictures are of 16 bits and hold values from 50\d .*dataset\.value_range="
    ):
        build(tmp_path / "deep")
    build(tmp_path / "alpha", background=(0, 0, 0))
    build(tmp_path / "deep", value_range=(500.0, 800.0))
