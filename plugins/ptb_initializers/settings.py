"""The settings of the built-in initializers."""

from typing import Literal

from pydantic import BaseModel, Field


class Default(BaseModel):
    """``default`` has no settings."""


class KaimingNormal(BaseModel):
    """Settings of ``kaiming-normal``."""

    mode: Literal["fan_in", "fan_out"] = Field(
        "fan_in", description="Keep the variance forward (fan_in) or backward (fan_out)"
    )
    nonlinearity: Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"] = Field(
        "relu", description="The function after the layers; its gain is torch.nn.init.calculate_gain's"
    )
    negative_slope: float = Field(0.01, ge=0, description="Slope of leaky_relu below zero; used with it alone")
