"""The settings of the loss, apart from it so that they are known without torch."""

from pydantic import BaseModel, Field


class FocalLoss(BaseModel):
    """Settings of ``focal-loss``: the names and defaults of the class behind it."""

    gamma: float = Field(2.0, ge=0, description="How much less an easy sample counts; 0 makes it the cross-entropy")
