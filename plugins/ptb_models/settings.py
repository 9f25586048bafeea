"""The settings of the built-in models."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class LeNet(BaseModel):
    """Settings of ``lenet``."""

    pool: Literal["max", "avg"] = Field("max", description="How the 2x2 windows are pooled")


class MLP(BaseModel):
    """Settings of ``mlp``."""

    hidden: list[Annotated[int, Field(gt=0)]] = Field(
        [256], description="Sizes of the hidden layers; [] makes it linear"
    )
    activation: Literal["relu", "tanh", "sigmoid"] = Field("relu", description="Function between the layers")
