"""The settings of the built-in initializers."""

import os
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    FiniteFloat,
    model_validator,
)

Nonlinearity = Literal[
    "linear", "identity", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"
]
Mode = Literal["fan_in", "fan_out"]
SLOPE = 0.01
# Beyond it, sums of products of weights would have no place in 32 bits.
LARGEST = 1e18
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
# Made absolute, so that the recorded config of a run finds the file from any folder.
Location = Annotated[str, Field(min_length=1), AfterValidator(lambda path: os.path.abspath(os.path.expanduser(path)))]


class Default(BaseModel, defer_build=True):
    """``default`` has no settings."""


class Uniform(BaseModel, defer_build=True):
    """Settings of ``uniform``."""

    a: Number = Field(0.0, description="Lower end of the interval")
    b: Number = Field(1.0, description="Upper end of the interval")

    @model_validator(mode="after")
    def _check_interval(self) -> "Uniform":
        if self.a > self.b:
            raise ValueError(f"a must not be above b, got a={self.a} and b={self.b}")
        return self


class Normal(BaseModel, defer_build=True):
    """Settings of ``normal``."""

    mean: Number = Field(0.0, description="Mean of the distribution")
    std: NonNegative = Field(1.0, description="Standard deviation of the distribution")


class TruncNormal(BaseModel, defer_build=True):
    """Settings of ``trunc-normal``."""

    mean: Number = Field(0.0, description="Mean of the distribution before it is cut")
    std: Positive = Field(1.0, description="Standard deviation of the distribution before it is cut")
    a: Number = Field(-2.0, description="Lower cut, a value of the weights and no multiple of std")
    b: Number = Field(2.0, description="Upper cut, likewise")

    @model_validator(mode="after")
    def _check_cuts(self) -> "TruncNormal":
        if self.a >= self.b:
            raise ValueError(f"a must be below b, got a={self.a} and b={self.b}")
        if not self.a - 2 * self.std <= self.mean <= self.b + 2 * self.std:
            raise ValueError(
                f"mean {self.mean} is more than 2 std from [a, b] = [{self.a}, {self.b}], where it cannot be "
                "drawn well: move mean or the cuts"
            )
        return self


class Constant(BaseModel, defer_build=True):
    """Settings of ``constant``."""

    value: Number = Field(0.01, description="What every weight becomes")


class Ones(BaseModel, defer_build=True):
    """``ones`` has no settings."""


class Zeros(BaseModel, defer_build=True):
    """``zeros`` has no settings."""


class Eye(BaseModel, defer_build=True):
    """``eye`` has no settings."""


class Dirac(BaseModel, defer_build=True):
    """Settings of ``dirac``."""

    groups: int = Field(1, gt=0, description="Groups of output channels, each of which preserves the inputs")


class Sparse(BaseModel, defer_build=True):
    """Settings of ``sparse``."""

    sparsity: FiniteFloat = Field(0.1, ge=0, lt=1, description="Part of each column, rounded up, that becomes 0")
    std: NonNegative = Field(0.01, description="Standard deviation of the other weights")


class _Slope(BaseModel, defer_build=True):
    """The check that all initializers with a gain share."""

    @model_validator(mode="after")
    def _check_slope(self) -> "_Slope":
        nonlinearity, slope = getattr(self, "nonlinearity"), getattr(self, "negative_slope")  # noqa: B009
        if nonlinearity != "leaky_relu" and slope != SLOPE:
            raise ValueError(f"negative_slope belongs to nonlinearity leaky_relu; nonlinearity is {nonlinearity}")
        return self


class Gain(_Slope):
    """Settings of ``xavier-uniform``, ``xavier-normal`` and ``orthogonal``."""

    gain: Positive = Field(1.0, description="Factor of the weights, beside that of nonlinearity")
    nonlinearity: Nonlinearity = Field(
        "linear", description="The function after the layers; the weights are multiplied by its gain"
    )
    negative_slope: NonNegative = Field(SLOPE, description="Slope of leaky_relu below zero; for it alone")


class Kaiming(_Slope):
    """Settings of ``kaiming-uniform`` and ``kaiming-normal``."""

    mode: Mode = Field("fan_in", description="Keep the variance forward (fan_in) or backward (fan_out)")
    nonlinearity: Nonlinearity = Field(
        "relu", description="The function after the layers; its gain is torch.nn.init.calculate_gain's"
    )
    negative_slope: NonNegative = Field(SLOPE, description="Slope of leaky_relu below zero; for it alone")


class WeightsFile(BaseModel, defer_build=True):
    """Settings of ``weights-file``."""

    path: Location = Field(
        description="A run, RUN or RUN@CHECKPOINT (best, last, a step or a label), or a safetensors file: of "
        "`ptb import-torch`, or a checkpoint of a run"
    )
    prefix: str = Field("", description="What is removed from the beginning of the file's names: model. of Lightning")
    ignore: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description='Names of the file, without the prefix, that are not used, as in a shell: ["loss.*"]'
    )
    skip: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description='Names of the model that are left as they are, as in a shell: ["fc3.*"] for other classes'
    )
    fitting: bool = Field(
        False, description="Take what fits by name and shape, and say what does not; else nothing may be left over"
    )
