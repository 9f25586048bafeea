"""The settings of the built-in plots."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Curves(BaseModel, defer_build=True):
    """Settings of ``curves``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    figures: tuple[str, ...] = Field((), description="Those drawn, such as loss and accuracy; without it all")
    x: Literal["auto", "epoch", "step"] = Field(
        "auto", description="What runs to the right; auto: epochs, and steps where an epoch has several evaluations"
    )
    log: bool = Field(False, description="Draw the loss on a logarithmic axis")
