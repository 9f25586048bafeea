"""The settings of the built-in plots."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Settings(BaseModel, defer_build=True):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _one_or_several(value: Any) -> Any:
    """A single name stands for a list of it."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class _OfSplit(_Settings):
    split: str = Field("test", description="Whose predictions are drawn: train, val or test")


class Curves(_Settings):
    """Settings of ``curves``."""

    figures: tuple[str, ...] = Field((), description="Those drawn, such as loss and accuracy; without it all")
    x: Literal["auto", "epoch", "step"] = Field(
        "auto", description="What runs to the right; auto: epochs, and steps where an epoch has several evaluations"
    )
    log: bool = Field(False, description="Draw the loss on a logarithmic axis")

    _figures = field_validator("figures", mode="before")(_one_or_several)


class LearningRate(_Settings):
    """Settings of ``learning-rate``."""

    log: bool = Field(False, description="Draw it on a logarithmic axis")


class Samples(_OfSplit):
    """Settings of ``samples``."""

    count: int = Field(24, ge=1, le=100, description="How many, at most")


class WorstSamples(_OfSplit):
    """Settings of ``worst-samples``."""

    count: int = Field(24, ge=1, le=100, description="How many, at most")


class Filters(_Settings):
    """Settings of ``filters``."""

    count: int = Field(64, ge=1, le=64, description="How many, at most")


class Histograms(_Settings):
    """Settings of ``histograms``."""

    layers: tuple[str, ...] = Field((), description="Parameters that are drawn, such as fc1.weight; without it six")

    _layers = field_validator("layers", mode="before")(_one_or_several)


class Confusion(_OfSplit):
    """Settings of ``confusion``."""


class PerClass(_OfSplit):
    """Settings of ``per-class``."""


class ClassBalance(_Settings):
    """Settings of ``class-balance``."""

    splits: tuple[Literal["train", "val", "test"], ...] = Field(
        ("val", "test"), min_length=1, description="Whose samples are counted, beside those trained on"
    )

    _splits = field_validator("splits", mode="before")(_one_or_several)


class Features(_Settings):
    """Settings of ``features``."""


class Correlations(_Settings):
    """Settings of ``correlations``."""


class Residuals(_OfSplit):
    """Settings of ``residuals``."""


class Truth(_OfSplit):
    """Settings of ``truth``."""


class Calibration(_OfSplit):
    """Settings of ``calibration``."""

    bins: int = Field(10, ge=2, le=100, description="Ranges of probability, of equal width")


class Roc(_OfSplit):
    """Settings of ``roc``."""


class PrecisionRecall(_OfSplit):
    """Settings of ``precision-recall``."""


class Embedding(_Settings):
    """Settings of ``embedding``."""

    split: str = Field("test", description="Whose pairs are drawn: train, val or test")
    count: int = Field(300, ge=2, le=5000, description="Pairs, at most")


class Parallel(_Settings):
    """Settings of ``parallel``."""

    figure: str = Field("", description="Which colours the lines, such as val/accuracy; without it the first one")
