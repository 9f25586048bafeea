"""The settings of the built-in losses."""

from pydantic import BaseModel, Field


class CrossEntropy(BaseModel):
    """Settings of ``cross-entropy``."""

    label_smoothing: float = Field(
        0.0, ge=0, le=1, description="Part of each target that is spread evenly over all classes"
    )
