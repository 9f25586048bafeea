"""The settings of the built-in metrics."""

from pydantic import BaseModel, Field


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
