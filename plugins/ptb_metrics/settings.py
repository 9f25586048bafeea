"""The settings of the built-in metrics."""

from pydantic import BaseModel, Field


class Accuracy(BaseModel):
    """``accuracy`` has no settings."""


class TopK(BaseModel):
    """Settings of ``top-k``."""

    k: int = Field(5, ge=1, description="How many guesses a sample has; at most the number of classes")


class MAE(BaseModel):
    """``mae`` has no settings."""


class RMSE(BaseModel):
    """``rmse`` has no settings."""


class ClassReport(BaseModel):
    """``class-report`` has no settings."""
