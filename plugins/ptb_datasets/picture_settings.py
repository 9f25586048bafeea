"""The settings of the data sets of pictures."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from ptb_datasets.settings import FractionOrNone, Location, Seed, Side

Byte = Annotated[int, Field(ge=0, lt=2**8)]
Colour = tuple[Byte, Byte, Byte]
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Std = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Limit = Annotated[float, Field(allow_inf_nan=False)]
Value = Annotated[int, Field(ge=0, lt=2**16)]


class _Pictures(BaseModel, defer_build=True):
    """What all data sets of pictures share: what a picture is made into, and which are where."""

    size: Side | tuple[Side, Side] = Field(32, description="Height and width of the pictures; one number is both")
    colour: Literal["grey", "colour"] = Field("colour", description="Three channels (red, green, blue), or one")
    fit: Literal["stretch", "crop", "letterbox"] = Field(
        "stretch",
        description="How a picture gets that size: its proportions change, its centre is kept, or it is put into the "
        "middle of the background",
    )
    interpolation: Literal["auto", "nearest", "linear", "cubic", "area", "lanczos"] = Field(
        "auto", description="OpenCV's methods; auto: the mean of areas where a picture shrinks, else linear"
    )
    background: Colour | None = Field(
        None,
        description="Red, green and blue behind transparent pixels and around a letterbox, as [255, 255, 255]; without "
        "it opacity is ignored, with a warning, and a letterbox is black",
    )
    value_range: tuple[Limit, Limit] | None = Field(
        None,
        description="Stored values that become 0 and 255, as [0, 4095]; without it 16-bit values lose their lower 8 "
        "bits, with a warning where little is left",
    )
    decode: Literal["full", "reduced"] = Field(
        "full",
        description="reduced: JPEG files that are at least twice as large as needed are decoded at a half, a quarter "
        "or an eighth; much faster, other pixels by a little",
    )
    normalize: Literal["half", "imagenet", "data"] | None = Field(
        None,
        description="Mean and std by which inputs are normalised: 0.5 and 0.5 (also without it), those of "
        "ImageNet, or those of the training pictures for each channel",
    )
    mean: tuple[Share, ...] | None = Field(
        None, min_length=1, max_length=3, description="Of each channel, or of all, where values are from 0 to 1"
    )
    std: tuple[Std, ...] | None = Field(
        None, min_length=1, max_length=3, description="The standard deviation that goes with mean"
    )
    follow_links: bool = Field(False, description="Follow links that lead out of the folder")
    val_fraction: FractionOrNone | None = Field(
        None, description="Part of each class for validation, 0: none; without it 0.15, or none with split folders"
    )
    test_fraction: FractionOrNone | None = Field(
        None, description="Part of each class for the last test, 0: none; without it 0.15, or none with split folders"
    )
    split_seed: Seed = Field(0, description="Chooses which samples go where; independent of the run's seed")
    on_bad_sample: Literal["error", "skip"] = Field(
        "error", description="Stop and list the files that cannot be used, or train on the others"
    )
    max_pixels: int = Field(64_000_000, ge=1, le=2**30, description="A picture with more pixels is refused")

    @model_validator(mode="after")
    def _pixels_can_be_made(self) -> Self:
        channels = 3 if self.colour == "colour" else 1
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together; give both, or neither")
        if self.mean is not None and self.normalize is not None:
            raise ValueError(f"mean and std are given, and normalize={self.normalize} has others; leave one out")
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given is not None and len(given) not in (1, channels):
                raise ValueError(f"{name} has {len(given)} values for {channels} channel{'s' * (channels > 1)}")
        if self.normalize == "imagenet" and channels == 1:
            raise ValueError("normalize=imagenet is for three channels, and colour=grey has one; give mean and std")
        if self.value_range is not None and self.value_range[0] >= self.value_range[1]:
            low, high = self.value_range
            raise ValueError(f"value_range is [lowest, highest], got [{low:g}, {high:g}]")
        return self


class _Root(BaseModel, defer_build=True):
    root: Location = Field(
        description="The folder with a folder for each class, or with train, val and test folders",
        json_schema_extra={"synonyms": ["folder", "path", "dir", "directory", "images"]},
    )


class _Folders(BaseModel, defer_build=True):
    images: Location = Field(
        description="The folder of the pictures, or of the folders train, val and test of them",
        json_schema_extra={"synonyms": ["root", "folder", "path"]},
    )
    masks: Location = Field(description="The same for the masks, whose files have the names of their pictures")


# The fields of the last base come first.
class ImageFolder(_Pictures, _Root, defer_build=True):
    """Settings of ``image-folder``."""

    classes: tuple[Name, ...] | None = Field(
        None,
        min_length=2,
        description="The classes in the order of their numbers; others are left out. Without it all, as people count: "
        "1, 2, 10",
    )
    recursive: bool = Field(False, description="Folders inside the folder of a class belong to that class")
    labels: Location | None = Field(
        None,
        description="A CSV file with the name of each file below root and its label, instead of folders of classes",
    )
    file_column: Name | None = Field(None, description="With labels: the column of the names; without it file")
    label_column: Name | None = Field(None, description="With labels: the column of the labels; without it label")
    split_column: Name | None = Field(
        None, description="With labels: a column of train, val and test, instead of splits at random"
    )
    check: Literal["decode", "header", "none"] = Field(
        "decode",
        description="Decode every picture at the start, or only read its size, or only its name (for very many "
        "pictures)",
    )
    cache: bool = Field(
        False,
        description="Keep the decoded pictures on disk for later runs, in ptb/image-folder of the user's caches "
        "(Linux: ~/.cache); old ones stay there until you delete them",
    )
    flip: bool = Field(False, description="In training: turn half of the pictures left to right, anew in each epoch")
    pad_crop: int | None = Field(
        None, ge=1, le=512, description="In training: shift pictures at random by so many pixels at most, each way"
    )
    rotate: float | None = Field(
        None, gt=0, le=180, description="In training: rotate pictures at random by so many degrees at most, either way"
    )
    colour_jitter: float | None = Field(
        None, gt=0, le=1, description="In training: change brightness, contrast and saturation at random by this share"
    )
    mixup: float | None = Field(
        None,
        gt=0,
        le=32,
        description="In training: mix each picture with another one; the share is from Beta(a, a) of this a, often 0.2",
    )
    cutmix: float | None = Field(
        None,
        gt=0,
        le=32,
        description="In training: put a part of another picture into each; its area is from Beta(a, a) of this a, "
        "often 1. With mixup too, one of both at random",
    )

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        if self.cache and self.check != "decode":
            raise ValueError(f"cache decodes every picture, and check={self.check} none; leave one of them out")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes names one twice")
        if self.labels is None:
            for name in ("file_column", "label_column", "split_column"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} belongs to labels, a CSV file; leave it out, or name the file")
        elif self.recursive:
            raise ValueError("labels names every file, so recursive has no use; leave it out")
        if self.split_column is not None and (self.val_fraction or self.test_fraction or self.split_seed):
            raise ValueError("split_column says which pictures go where; leave the fractions and split_seed out")
        sides = (self.size, self.size) if isinstance(self.size, int) else self.size
        if self.pad_crop is not None and self.pad_crop >= min(sides):
            raise ValueError(f"pad_crop={self.pad_crop} could shift a picture of {min(sides)} pixels out of sight")
        return self


class ImageMasks(_Pictures, _Folders, defer_build=True):
    """Settings of ``image-masks``."""

    mask_suffix: str = Field("", description="What the name of a mask has after that of its picture, such as _mask")
    size: Side | tuple[Side, Side] = Field(128, description="Height and width of both; one number is both")
    values: list[Value] | list[Colour] | None = Field(
        None,
        description="The pixel value of each class in masks, as [0, 255], or its colour, as [[0, 0, 0], [255, 0, 0]]; "
        "without it the values are the numbers of the classes, from 0 without gaps",
    )
    unlabelled: Value | Colour | None = Field(
        None, description="Value or colour of pixels that nobody labelled, which count for nothing; often 255"
    )
    class_names: list[Name] | None = Field(
        None, min_length=2, description="Names of the classes in the order of their numbers"
    )
    flip: bool = Field(False, description="Turn half of the training samples left to right, anew in each epoch")
    val_fraction: FractionOrNone | None = Field(
        None, description="Part of the pictures for validation, 0: none; without it 0.15, or none with split folders"
    )
    test_fraction: FractionOrNone | None = Field(
        None, description="Part of the pictures for the last test, 0: none; without it 0.15, or none with split folders"
    )

    @model_validator(mode="after")
    def _values_go_together(self) -> Self:
        values = [] if self.values is None else list(self.values)
        if self.values is not None and len(values) < 2:
            raise ValueError(f"values must list at least 2 classes, got {len(values)}")
        if len({str(value) for value in values}) < len(values):
            raise ValueError("values names one twice; each class has its own")
        if self.unlabelled is not None and self.unlabelled in values:
            raise ValueError("unlabelled is one of values; a pixel has a class, or none")
        if values and self.unlabelled is not None and isinstance(values[0], int) != isinstance(self.unlabelled, int):
            raise ValueError("values and unlabelled must both be pixel values, or both colours")
        if not values and isinstance(self.unlabelled, tuple):
            raise ValueError("unlabelled is a colour, so the classes are colours too: list them in values")
        if values and self.class_names is not None and len(self.class_names) != len(values):
            raise ValueError(f"there are {len(self.class_names)} class_names for {len(values)} values")
        return self
