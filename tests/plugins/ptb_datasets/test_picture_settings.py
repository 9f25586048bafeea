import pytest
from pydantic import ValidationError

from ptb_datasets.picture_settings import ImageFolder, ImageMasks

WRONG = {
    "size": ({"size": 0}, "size"),
    "fit": ({"fit": "squeeze"}, "'stretch', 'crop' or 'letterbox'"),
    "interpolation": ({"interpolation": "bilinear"}, "interpolation"),
    "background-range": ({"background": (0, 0, 256)}, "less than 256"),
    "background-length": ({"background": (0, 0)}, "background"),
    "value-range-order": ({"value_range": (5, 5)}, r"value_range is \[lowest, highest\], got \[5, 5\]"),
    "value-range-nan": ({"value_range": (0, float("nan"))}, "finite"),
    "decode": ({"decode": "half"}, "'full' or 'reduced'"),
    "normalize": ({"normalize": "zscore"}, "normalize"),
    "mean-alone": ({"mean": (0.5,)}, "mean and std go together"),
    "mean-and-normalize": ({"mean": (0.5,), "std": (0.5,), "normalize": "imagenet"}, "leave one out"),
    "mean-length": ({"mean": (0.5, 0.5), "std": (0.5,)}, "mean has 2 values for 3 channels"),
    "grey-length": ({"mean": (0.5,), "std": (0.5, 0.5, 0.5), "colour": "grey"}, "std has 3 values for 1 channel "),
    "std-zero": ({"mean": (0.5,), "std": (0.0,)}, "greater than 0"),
    "grey-imagenet": ({"normalize": "imagenet", "colour": "grey"}, "three channels, and colour=grey has one"),
    "one-class": ({"classes": ("a",)}, "at least 2"),
    "class-twice": ({"classes": ("a", "a")}, "classes names one twice"),
    "column-alone": ({"label_column": "x"}, "label_column belongs to labels"),
    "labels-recursive": ({"labels": "x.csv", "recursive": True}, "recursive has no use"),
    "split-and-fraction": ({"labels": "x.csv", "split_column": "s", "val_fraction": 0.2}, "leave the fractions"),
    "cache-none": ({"cache": True, "check": "none"}, "cache decodes every picture, and check=none none"),
    "pad-crop": ({"pad_crop": 32}, "could shift a picture of 32 pixels out of sight"),
    "rotate": ({"rotate": 181}, "less than or equal to 180"),
    "jitter": ({"colour_jitter": 1.5}, "less than or equal to 1"),
    "mixup": ({"mixup": 0}, "greater than 0"),
    "cutmix": ({"cutmix": -1}, "greater than 0"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_option_is_told(given, message):
    with pytest.raises(ValidationError, match=message):
        ImageFolder(root="x", **given)


@pytest.mark.parametrize("name", ["fit", "background", "value_range", "normalize", "decode"])
def test_masks_share_what_pictures_are_made_into(name):
    given, _ = WRONG.get(name, WRONG["value-range-order" if name == "value_range" else "background-range"])
    with pytest.raises(ValidationError):
        ImageMasks(images="x", masks="y", **given)
    assert name in ImageMasks.model_fields


def test_the_place_of_the_pictures_comes_first():
    assert next(iter(ImageFolder.model_fields)) == "root"
    assert list(ImageMasks.model_fields)[:2] == ["images", "masks"]
    assert all(field.description for model in (ImageFolder, ImageMasks) for field in model.model_fields.values())
