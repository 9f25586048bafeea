"""The settings of the metrics, apart from them so that they are known without torch and without torchmetrics."""

from typing import Literal

from pydantic import BaseModel, Field

Average = Literal["macro", "micro", "weighted"]
CurveAverage = Literal["macro", "weighted"]
Norm = Literal["l1", "l2", "max"]
Weights = Literal["linear", "quadratic"]
Multioutput = Literal["uniform_average", "variance_weighted"]

AVERAGE = "How the figures of the classes become one; without it macro, and for a binary target that of class 1"


class ByClass(BaseModel):
    """Settings of ``f1``, ``precision``, ``recall``, ``specificity`` and ``jaccard``."""

    average: Average | None = Field(None, description=AVERAGE)


class Curve(BaseModel):
    """Settings of ``auroc`` and ``average-precision``."""

    average: CurveAverage | None = Field(None, description=AVERAGE)
    thresholds: int | None = Field(
        None, ge=2, description="Points of the curve, evenly spaced; without it all, which keeps every score in memory"
    )


class CalibrationError(BaseModel):
    """Settings of ``calibration-error``."""

    bins: int = Field(15, ge=1, description="Intervals of the probability, all of the same width")
    norm: Norm = Field("l1", description="l1: the mean gap; l2: the root of the mean squared gap; max: the largest gap")


class CohenKappa(BaseModel):
    """Settings of ``cohen-kappa``."""

    weights: Weights | None = Field(
        None, description="How a mistake grows with the distance of the classes; without it all count alike"
    )


class Outputs(BaseModel):
    """Settings of ``r2`` and ``explained-variance``."""

    multioutput: Multioutput = Field(
        "uniform_average", description="How the figures of several dimensions become one; weighted by their variance"
    )


class NoSettings(BaseModel):
    """Of the other metrics."""
