"""The settings of the built-in data sets."""

import os
from math import prod
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

Fraction = Annotated[float, Field(gt=0, lt=0.5)]
FractionOrNone = Annotated[float, Field(ge=0, lt=0.5)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Side = Annotated[int, Field(ge=1, le=4096)]
# Made absolute, so that the recorded config of a run finds the files from any folder.
Location = Annotated[str, Field(min_length=1), AfterValidator(lambda path: os.path.abspath(os.path.expanduser(path)))]

_VAL = Field(0.15, description="Part of each class that is kept for validation")
_TEST = Field(0.15, description="Part of each class that is kept for the last test")
_SPLIT_SEED = Field(0, description="Chooses which samples go where; independent of the run's seed")
_DOWNLOAD = Field(
    False, description="Fetch the files that are missing, over https and checked, into root or the user's data folder"
)


class Digits(BaseModel, defer_build=True):
    """Settings of ``digits``."""

    size: int = Field(32, ge=8, le=256, description="Height and width to which the 8x8 pictures are resized")
    val_fraction: Fraction = _VAL
    test_fraction: Fraction = _TEST
    split_seed: Seed = _SPLIT_SEED
    target: Literal["class", "distribution"] = Field(
        "class", description="class, or distribution: smoothed one-hot rows for losses that compare distributions"
    )
    smoothing: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="With target=distribution: s in (1 - s) on the class plus s/10 everywhere; else 0.1",
    )

    @model_validator(mode="after")
    def _smoothing_is_used(self) -> "Digits":
        if self.target == "class" and self.smoothing is not None:
            raise ValueError("smoothing belongs to target=distribution; leave it out, or set target")
        return self


class DigitPairs(BaseModel, defer_build=True):
    """Settings of ``digit-pairs``."""

    size: int = Field(32, ge=8, le=64, description="Height and width to which the 8x8 pictures are resized")
    pairs: int = Field(
        1, ge=1, le=10, description="For each picture, pairs with the same digit, and as many with other digits"
    )
    embedding: int = Field(16, ge=1, le=4096, description="Values in the embedding: the model's output size")
    val_fraction: Fraction = _VAL
    test_fraction: Fraction = _TEST
    split_seed: Seed = Field(
        0, description="Chooses which digits go where, and their pairs; independent of the run's seed"
    )


class _IdxPictures(BaseModel, defer_build=True):
    root: Location | None = Field(
        None, description="Folder with the four IDX files, plain or .gz; without it the usual folders are searched"
    )
    download: bool = _DOWNLOAD
    val_size: int = Field(5000, ge=0, lt=60000, description="Training pictures that are kept for validation; 0: none")
    split_seed: Seed = Field(0, description="Chooses which these are; independent of the run's seed")

    @model_validator(mode="after")
    def _split_seed_is_used(self) -> Self:
        if self.split_seed and not self.val_size:
            raise ValueError("split_seed chooses the pictures for validation, and val_size is 0; leave it out")
        return self


class Mnist(_IdxPictures):
    """Settings of ``mnist``."""


class FashionMnist(_IdxPictures):
    """Settings of ``fashion-mnist``."""


class _ShippedTable(BaseModel, defer_build=True):
    val_fraction: Fraction = _VAL
    test_fraction: Fraction = _TEST
    split_seed: Seed = _SPLIT_SEED


class Iris(_ShippedTable):
    """Settings of ``iris``."""


class Wine(_ShippedTable):
    """Settings of ``wine``."""


class BreastCancer(_ShippedTable):
    """Settings of ``breast-cancer``."""


class Diabetes(_ShippedTable):
    """Settings of ``diabetes``."""

    standardize_target: bool = Field(
        True, description="Predict (progression - mean) / std of the training samples, else the progression"
    )


class Arrays(BaseModel, defer_build=True):
    """Settings of ``arrays``."""

    inputs: Location = Field(
        description="A .npy file: pictures uint8 [N, H, W] or [N, C, H, W] or floats [N, C, H, W], vectors floats "
        "[N, F], tokens whole numbers [N, L]",
        json_schema_extra={"synonyms": ["x", "features", "path", "file", "data"]},
    )
    targets: Location = Field(
        description="A .npy file: classes whole numbers [N] or one-hot rows, real targets floats [N] or [N, D], a "
        "binary target 0 or 1 [N], labels 0 or 1 [N, K]",
        json_schema_extra={"synonyms": ["y", "labels", "target"]},
    )
    kind: Literal["auto", "class", "binary", "multilabel", "real", "distribution"] = Field(
        "auto",
        description="What the targets are; auto: 0 and 1 binary, other whole numbers class, other floats real; what "
        "could be two things is asked about",
    )
    inputs_as: Literal["auto", "image", "vector", "tokens", "array"] = Field(
        "auto",
        description="What the inputs are where type and axes do not say it: whole numbers that are features are a "
        "vector; array is numbers of any shape",
    )
    layout: Literal["channels-first", "channels-last"] | None = Field(
        None, description="Of pictures with four axes, [N, C, H, W] (also without it) or [N, H, W, C]"
    )
    sample_weights: Location | None = Field(
        None, description="A .npy file: how much each sample counts in the loss, floats [N]"
    )
    class_names: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None, min_length=1, description="Names of the classes or labels in order, of real targets those of the columns"
    )
    standardize: bool = Field(
        False,
        description="Inputs of mean 0 and std 1 in the training samples, each feature, of pictures each channel",
    )
    standardize_target: bool = Field(
        False, description="The same for each real target; metrics and predictions stay in its own units"
    )
    missing: Literal["error", "drop", "mean"] = Field(
        "error",
        description="Samples with NaN: stop, leave them out, or use the mean of the feature in the training samples",
    )
    val_fraction: FractionOrNone = Field(0.15, description="Part of the samples that is kept for validation; 0: none")
    test_fraction: FractionOrNone = Field(
        0.15, description="Part of the samples that is kept for the last test; 0: none"
    )
    split_seed: Seed = _SPLIT_SEED

    @model_validator(mode="after")
    def _options_go_together(self) -> "Arrays":
        if self.split_seed and not self.val_fraction and not self.test_fraction:
            raise ValueError("split_seed chooses what val_fraction and test_fraction take, both 0; leave it out")
        if self.layout is not None and self.inputs_as not in ("auto", "image"):
            raise ValueError(f"layout belongs to pictures, and inputs_as is {self.inputs_as}; leave one out")
        if self.inputs_as == "tokens" and (self.standardize or self.missing == "mean"):
            what = "standardize" if self.standardize else "missing=mean"
            raise ValueError(f"{what} is for numbers, and inputs_as is tokens; leave one out")
        if self.standardize_target and self.kind not in ("auto", "real"):
            raise ValueError(f"standardize_target belongs to a real target, and kind is {self.kind}; leave one out")
        return self


class Idx(BaseModel, defer_build=True):
    """Settings of ``idx``."""

    images: Location = Field(description="An IDX file of pictures, uint8 of three dimensions, plain or .gz")
    labels: Location = Field(description="An IDX file of their labels, any whole numbers, plain or .gz")
    test_images: Location | None = Field(None, description="Pictures for the last test alone")
    test_labels: Location | None = Field(None, description="Labels of these")
    class_names: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None, min_length=2, description="Names of the classes in the order of their labels; without them the labels"
    )
    transposed: bool = Field(False, description="The pictures are stored column by column, as EMNIST's are")
    val_fraction: FractionOrNone = Field(0.15, description="Part of each class that is kept for validation; 0: none")
    test_fraction: FractionOrNone | None = Field(
        None, description="Part of each class for the last test; without it 0.15, or none where test_images is given"
    )
    split_seed: Seed = _SPLIT_SEED

    @model_validator(mode="after")
    def _files_go_together(self) -> "Idx":
        given = {"test_images": self.test_images, "test_labels": self.test_labels}
        for name, other in (("test_images", "test_labels"), ("test_labels", "test_images")):
            if given[name] is not None and given[other] is None:
                raise ValueError(f"{name} needs {other}; give both, or neither")
        if self.test_images is not None and self.test_fraction:
            raise ValueError("test_fraction takes from images, and test_images are the test; leave one out")
        if self.split_seed and not self.val_fraction and (self.test_images is not None or self.test_fraction == 0):
            raise ValueError("split_seed chooses what val_fraction and test_fraction take, both 0; leave it out")
        return self


class Random(BaseModel, defer_build=True):
    """Settings of ``random``."""

    inputs: Literal["image", "vector", "tokens", "array"] = Field("image", description="What the samples are")
    input_shape: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, min_length=1, max_length=8, description="Shape of a sample; without it [1, 28, 28], [16], [32] or [12, 4]"
    )
    target: Literal["class", "binary", "multilabel", "real", "distribution", "similarity", "none"] = Field(
        "class", description="What is predicted; none: the inputs themselves"
    )
    positions: bool = Field(
        False,
        description="A target at each pixel of images, token, or row of arrays; for class, where some are hidden, and "
        "real",
    )
    output_size: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Classes, labels, dimensions or embedding size; without it 10, 1 or 16, for none the values of a "
        "sample",
    )
    vocabulary: int | None = Field(
        None, ge=1, le=10_000_000, description="With tokens: different tokens; without it 100"
    )
    samples: int = Field(
        512, ge=1, le=10_000_000, description="Samples for training; a quarter of it for validation and for the test"
    )
    data_seed: int = Field(0, ge=0, lt=2**63, description="Of the samples; independent of the run's seed")

    @model_validator(mode="after")
    def _form_is_possible(self) -> "Random":
        if self.inputs == "image" and self.input_shape is not None and len(self.input_shape) != 3:
            raise ValueError("input_shape of images is [channels, height, width]")
        if self.inputs == "tokens" and self.input_shape is not None and len(self.input_shape) != 1:
            raise ValueError("input_shape of tokens is [length]")
        if self.inputs != "tokens" and self.vocabulary is not None:
            raise ValueError("vocabulary belongs to inputs=tokens")
        if self.target == "binary" and self.output_size not in (None, 1):
            raise ValueError("output_size is 1 for a binary target")
        if self.positions and (self.inputs == "vector" or self.target not in ("class", "real")):
            raise ValueError("positions belong to images, tokens and arrays, with target=class or target=real")
        if self.target == "none" and self.inputs == "tokens":
            raise ValueError("target none is for numbers, and tokens are none; choose other inputs")
        if self.target in ("class", "distribution") and self.output_size == 1:
            raise ValueError(f"output_size is at least 2 for target={self.target}: of one class nothing can be learnt")
        each = prod(self.input_shape or (1000,))
        width = (self.output_size or 1) * (each if self.positions and self.target == "real" else 1)
        values = self.samples * max(each, width)
        if values > 2**30:
            raise ValueError(
                f"samples times the values of each are {values:,}, more than {2**30:,}: give fewer samples, or smaller "
                "ones by input_shape and output_size"
            )
        return self
