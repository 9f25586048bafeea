"""The settings of the built-in callbacks."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

TAKEN_LABELS = ("best", "last")  # what the core itself calls checkpoints


class BestCheckpoint(BaseModel, defer_build=True):
    """Settings of ``best-checkpoint``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    monitor: str = Field(description="Figure that decides: val/accuracy, or val/report/recall of a metric with several")
    mode: Literal["min", "max"] = Field(description="Whether its smallest or its largest value is the best")
    label: str = Field(
        "",
        description="Name of the checkpoint, as in RUN@label; without it the figure's, val-accuracy for val/accuracy",
    )

    @field_validator("monitor")
    @classmethod
    def _is_a_figure(cls, monitor: str) -> str:
        split, _, figure = monitor.partition("/")
        if not split or not figure:
            raise ValueError("must be a split and a figure, such as val/loss or val/accuracy")
        if split in ("train", "test"):
            raise ValueError(f"must be a figure of the validation split, such as val/{figure}")
        return monitor

    @field_validator("label")
    @classmethod
    def _is_a_label(cls, label: str) -> str:
        if label and (not re.fullmatch(r"[A-Za-z0-9][\w.-]*", label, re.ASCII) or label.isdigit()):
            raise ValueError("must be made of letters, digits, '.', '_' and '-', and not of digits alone")
        if label in TAKEN_LABELS:
            raise ValueError("must be another label: every run has best and last")
        return label


class Ema(BaseModel, defer_build=True):
    """Settings of ``ema``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    decay: float = Field(0.999, gt=0, lt=1, description="How much of the average an update keeps, at most")
    warmup: bool = Field(
        True, description="Let the n-th update after the first keep (1 + n) / (10 + n) where that is less than decay"
    )
    every: int = Field(1, ge=1, description="Optimizer steps from one update to the next")
    buffers: bool = Field(True, description="Average floating-point buffers too, such as batch-norm statistics")


class Freeze(BaseModel, defer_build=True):
    """Settings of ``freeze``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: tuple[str, ...] = Field(
        min_length=1, description="Patterns of the names of parameters that stay as they are, such as features.*"
    )
    until_epoch: int | None = Field(
        None, ge=2, description="Epoch, counted from 1, from which on they are trained; without it never"
    )


class NonFiniteReport(BaseModel, defer_build=True):
    """Settings of ``non-finite-report``."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MicroBatchOnOom(BaseModel, defer_build=True):
    """Settings of ``micro-batch-on-oom``."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightHistograms(BaseModel, defer_build=True):
    """Settings of ``weight-histograms``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: int = Field(1, ge=1, description="Epochs from one record to the next")
