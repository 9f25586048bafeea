"""The settings of the built-in schedulers."""

from pydantic import BaseModel, Field


class Constant(BaseModel):
    """``constant`` has no settings."""


class Cosine(BaseModel):
    """Settings of ``cosine``."""

    min_lr: float = Field(0.0, ge=0, description="The learning rate at the last step")
