"""The settings of the observer ``report``."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Report(BaseModel, defer_build=True):
    """Settings of ``report``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: Literal["en", "zh"] = Field("en", description="Language of the page: English or Chinese")
