"""The settings of the built-in losses, with the names and defaults of ``torch.nn``."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from ptb_losses.reduction import Reduction, resolve_reduction

# Below and above, sums of such weights have no place in 32 bits.
SMALLEST, LARGEST = 1e-18, 1e18
Weight = Annotated[float, Field(ge=SMALLEST, le=LARGEST, allow_inf_nan=False)]


class Reduced(BaseModel, defer_build=True):
    """What all losses share. Once validated, ``reduction`` holds what is meant, and the deprecated settings nothing."""

    reduction: Reduction = Field(
        "mean", description="mean or sum of the values; none keeps them apart, one a sample or element of it"
    )
    size_average: bool | None = Field(
        None, description="Deprecated, use reduction: false means sum", json_schema_extra={"deprecated": True}
    )
    reduce: bool | None = Field(
        None, description="Deprecated, use reduction: false means none", json_schema_extra={"deprecated": True}
    )

    @model_validator(mode="after")
    def _say_it_in_one_way(self) -> Self:
        if self.size_average is not None or self.reduce is not None:
            meant = resolve_reduction(self.reduction, self.size_average, self.reduce)
            if "reduction" in self.model_fields_set and self.reduction != meant:
                raise ValueError(
                    f"reduction is contradicted by size_average or reduce, which mean '{meant}'; drop these"
                )
            self.reduction = meant
            self.size_average = self.reduce = None
        return self


class BCE(Reduced):
    """Settings of ``bce``."""

    weight: Weight | tuple[Weight, Weight] | None = Field(
        None, description="Factor of every sample's loss, or two: of the samples that are 0 and of those that are 1"
    )


class BCEWithLogits(Reduced):
    """Settings of ``bce-with-logits``."""

    pos_weight: Weight | list[Weight] | Literal["balanced"] | None = Field(
        None,
        description="Factor of the targets that are 1, or one for each label; or balanced: for binary training samples "
        "that are 0 / those that are 1, for multilabel n / (K * n_k), from n_k samples of label k and their sum n",
    )


class CrossEntropy(Reduced):
    """Settings of ``cross-entropy``."""

    weight: list[Weight] | Literal["balanced"] | None = Field(
        None,
        description="A factor for each class; or balanced: n / (C * n_c), from the training samples n, of class c n_c",
    )
    ignore_index: int | None = Field(
        None,
        description="Targets of this class count neither in the loss nor in its mean; without it all count, but for "
        "-100 where there is a class at each position",
    )
    label_smoothing: float = Field(
        0.0, ge=0, le=1, description="Part of each target that is spread evenly over all classes"
    )


class MSE(Reduced):
    """Settings of ``mse``."""


class L1(Reduced):
    """Settings of ``l1``."""


class SmoothL1(Reduced):
    """Settings of ``smooth-l1``."""

    beta: float = Field(
        1.0, ge=0, le=LARGEST, allow_inf_nan=False, description="Error from which on it is absolute; 0 makes it l1"
    )


class KLDiv(Reduced):
    """Settings of ``kl-div``."""

    reduction: Literal["none", "mean", "sum", "batchmean"] = Field(  # type: ignore[assignment]  # one mode more
        "mean",
        description="mean over samples and classes, or sum; batchmean: sum / samples, the divergence as defined; "
        "none keeps the values apart, one a sample and class",
    )
    log_target: bool = Field(False, description="Compute on the logarithm of the targets, which the loss takes itself")


class CosineEmbedding(Reduced):
    """Settings of ``cosine-embedding``."""

    margin: float = Field(
        0.0, ge=-1, le=1, description="Cosine up to which a pair that is not alike costs nothing; try 0 to 0.5"
    )


Part = Annotated[float, Field(gt=0, lt=1)]


class Focal(BaseModel, defer_build=True):
    """Settings of ``focal``."""

    reduction: Reduction = Field("mean", description="mean or sum of the values; none gives one for each target")
    gamma: float = Field(
        2.0, ge=0, le=100, description="How much less a target costs that is predicted well; 0 makes it cross-entropy"
    )
    alpha: Part | list[Weight] | Literal["balanced"] | None = Field(
        None,
        description="Weights: for binary and multilabel that of 1, where 0 has 1 - alpha; for class one a class, "
        "or balanced: n / (C * n_c), from the training samples n, of class c n_c",
    )


class Dice(BaseModel, defer_build=True):
    """Settings of ``dice``."""

    per_sample: bool = Field(
        False, description="Compare each sample by itself and take the mean, else all pixels of a batch together"
    )
    squared: bool = Field(
        True,
        description="Square the probabilities in the denominator, as in the paper; many others add them as they are",
    )
    smooth: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="Added above and below the line, so that classes that are not there count as right",
    )


class Quantile(BaseModel, defer_build=True):
    """Settings of ``quantile``."""

    reduction: Reduction = Field("mean", description="mean or sum of the values; none gives one for each score")
    quantiles: list[Part] = Field(
        [0.1, 0.5, 0.9],
        min_length=1,
        description="Those that are predicted, in ascending order, each above 0 and below 1",
    )

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if any(high <= low for low, high in pairwise(self.quantiles)):
            raise ValueError(f"quantiles must ascend, and are {self.quantiles}")
        return self


class GaussianNLL(BaseModel, defer_build=True):
    """Settings of ``gaussian-nll``."""

    reduction: Reduction = Field("mean", description="mean or sum of the values; none gives one for each target")
    full: bool = Field(False, description="Include the constant log(2 pi) / 2, which changes no gradient")
    eps: float = Field(
        1e-6, gt=0, le=1, description="The least variance, which bounds the gradients; in squared units of the targets"
    )
