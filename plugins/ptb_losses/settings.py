"""The settings of the built-in losses, with the names and defaults of ``torch.nn``."""

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

    pos_weight: Weight | Literal["balanced"] | None = Field(
        None,
        description="Factor of the samples that are 1; or balanced: training samples that are 0 / those that are 1",
    )


class CrossEntropy(Reduced):
    """Settings of ``cross-entropy``."""

    weight: list[Weight] | Literal["balanced"] | None = Field(
        None,
        description="A factor for each class; or balanced: n / (C * n_c), from the training samples n, of class c n_c",
    )
    ignore_index: int | None = Field(
        None, description="Samples of this class count neither in the loss nor in its mean; without it all count"
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
