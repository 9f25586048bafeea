"""The settings of the built-in schedulers. Lengths are optimizer steps, or parts of the run where a field says so."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# 0.25 is a quarter of the run, 250 is the optimizer step 250: below 1 and from 1 on, so none can be taken for the other
Part = Annotated[float, Field(gt=0, lt=1)]
# The product of such a factor and a learning rate still has a place in 32 bits.
LARGEST = 1e18
Steps = Annotated[int, Field(ge=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Gamma = Annotated[float, Field(gt=0, le=1, description="What the learning rate is multiplied by at each drop")]
WARMUP_START = 0.01
MOMENTA = (0.85, 0.95)


class Warmup(BaseModel, defer_build=True):
    """What every scheduler takes: a linear climb to the schedule's first value; the schedule fills the other steps."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    warmup_steps: int = Field(0, ge=0, description="Optimizer steps of a linear climb before the schedule begins")
    warmup_start: float = Field(
        WARMUP_START,
        gt=0,
        le=1,
        description="Where the climb begins, as a factor of the schedule's first learning rate",
    )

    @model_validator(mode="after")
    def _start_is_used(self) -> Self:
        if self.warmup_steps == 0 and self.warmup_start != WARMUP_START:
            raise ValueError(
                "warmup_start belongs to a climb, and warmup_steps is 0: set warmup_steps, or leave it out"
            )
        return self


class Constant(Warmup):
    """Settings of ``constant``."""


class Cosine(Warmup):
    """Settings of ``cosine``."""

    min_lr: float = Field(0.0, ge=0, le=LARGEST, description="The learning rate at the last step")


class Exponential(Warmup):
    """Settings of ``exponential``."""

    final_factor: float = Field(
        0.01, gt=0, le=LARGEST, description="What the learning rate has been multiplied by at the last step"
    )


class Step(Warmup):
    """Settings of ``step``."""

    every: Part | Steps = Field(
        0.3, description="From one drop to the next: a part of the run (0.3) or a number of optimizer steps (300)"
    )
    gamma: Gamma = 0.1


class MultiStep(Warmup):
    """Settings of ``multi-step``."""

    milestones: tuple[Part | Steps, ...] = Field(
        (0.5, 0.75),
        min_length=1,
        description="Where the drops are, increasing: all parts of the run (0.5) or all optimizer steps (500)",
    )
    gamma: Gamma = 0.1

    @field_validator("milestones")
    @classmethod
    def _check_milestones(cls, milestones: tuple[float | int, ...]) -> tuple[float | int, ...]:
        if len({type(milestone) for milestone in milestones}) > 1:
            raise ValueError("must be all parts of the run, below 1, or all optimizer steps, from 1 on")
        if any(later <= earlier for earlier, later in pairwise(milestones)):
            raise ValueError("must increase from each to the next")
        return milestones


class OneCycle(Warmup):
    """Settings of ``one-cycle``."""

    max_factor: float = Field(1.0, gt=0, le=LARGEST, description="The peak, as a factor of the optimizer's lr")
    pct_start: float = Field(0.3, ge=0, le=1, description="Part of the run in which the learning rate climbs")
    anneal: Literal["cos", "linear"] = Field("cos", description="Along half a cosine, or along a straight line")
    div_factor: float = Field(25.0, ge=1, le=LARGEST, description="The first learning rate is the peak divided by it")
    final_div_factor: float = Field(
        1e4, ge=1, le=LARGEST, description="The last learning rate is the first one divided by it"
    )
    cycle_momentum: bool = Field(
        True, description="Move momentum (or the first of betas) the other way; without effect where there is none"
    )
    base_momentum: Momentum = Field(MOMENTA[0], description="Momentum at the peak")
    max_momentum: Momentum = Field(MOMENTA[1], description="Momentum at the first and at the last step")

    @model_validator(mode="after")
    def _check_momentum(self) -> Self:
        if not self.cycle_momentum and (self.base_momentum, self.max_momentum) != MOMENTA:
            raise ValueError("base_momentum and max_momentum belong to cycle_momentum=true: leave them out")
        if self.base_momentum > self.max_momentum:
            raise ValueError(
                f"base_momentum must not be above max_momentum, got base_momentum={self.base_momentum} and "
                f"max_momentum={self.max_momentum}"
            )
        return self


class Plateau(Warmup):
    """Settings of ``plateau``."""

    factor: float = Field(0.1, gt=0, lt=1, description="What the learning rate is multiplied by when it falls")
    patience: int = Field(
        10, ge=0, description="Evaluations without a better figure that are let pass; the next one makes it fall"
    )
    threshold: float = Field(1e-4, ge=0, le=LARGEST, description="How much better a figure must be to count")
    threshold_mode: Literal["rel", "abs"] = Field(
        "rel", description="Whether threshold is a part of the best figure so far or a difference to it"
    )
    cooldown: int = Field(0, ge=0, description="Evaluations after a fall that do not count")
    min_lr: float = Field(0.0, ge=0, le=LARGEST, description="No learning rate falls below it")
    eps: float = Field(1e-8, ge=0, le=LARGEST, description="A fall by no more than this is left out")


class CosineRestarts(Warmup):
    """Settings of ``cosine-restarts``."""

    period: Part | Steps = Field(
        0.25, description="From the start to the first restart: a part of the run (0.25) or optimizer steps (500)"
    )
    period_factor: int = Field(1, ge=1, description="How many times as long each period is as the one before")
    min_lr: float = Field(0.0, ge=0, le=LARGEST, description="The learning rate at the end of each period")
