"""The settings of the built-in metrics."""

from typing import Literal

from pydantic import BaseModel, Field

Average = Literal["auto", "binary", "macro", "micro", "weighted"]


class Accuracy(BaseModel, defer_build=True):
    """``accuracy`` has no settings."""


class TopK(BaseModel, defer_build=True):
    """Settings of ``top-k``."""

    k: int = Field(5, ge=1, description="How many guesses a sample has; at most the number of classes")


class MAE(BaseModel, defer_build=True):
    """``mae`` has no settings."""


class RMSE(BaseModel, defer_build=True):
    """``rmse`` has no settings."""


class ClassReport(BaseModel, defer_build=True):
    """``class-report`` has no settings."""


class Averaged(BaseModel, defer_build=True):
    """What ``precision``, ``recall`` and ``f1`` share."""

    average: Average = Field(
        "auto",
        description="macro is the mean over labels, or over the classes that are true or predicted at least once; "
        "weighted is by their samples, micro the figure of all together, binary that of class 1 of two; auto is binary "
        "for a binary target, else macro",
    )


class Precision(Averaged):
    """Settings of ``precision``."""


class Recall(Averaged):
    """Settings of ``recall``."""


class F1(Averaged):
    """Settings of ``f1``."""


class RocAuc(BaseModel, defer_build=True):
    """``roc-auc`` has no settings."""


class R2(BaseModel, defer_build=True):
    """``r2`` has no settings."""


class MeanIoU(BaseModel, defer_build=True):
    """``mean-iou`` has no settings."""


class BalancedAccuracy(BaseModel, defer_build=True):
    """``balanced-accuracy`` has no settings."""
