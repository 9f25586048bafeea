"""The settings of the built-in initializers."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import starmap
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    create_model,
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


class Default(BaseModel):
    """``default`` has no settings."""


class Uniform(BaseModel):
    """Settings of ``uniform``."""

    a: Number = Field(0.0, description="Lower end of the interval")
    b: Number = Field(1.0, description="Upper end of the interval")

    @model_validator(mode="after")
    def _check_interval(self) -> "Uniform":
        if self.a > self.b:
            raise ValueError(f"a must not be above b, got a={self.a} and b={self.b}")
        return self


class Normal(BaseModel):
    """Settings of ``normal``."""

    mean: Number = Field(0.0, description="Mean of the distribution")
    std: NonNegative = Field(1.0, description="Standard deviation of the distribution")


class TruncNormal(BaseModel):
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


class Constant(BaseModel):
    """Settings of ``constant``."""

    value: Number = Field(0.01, description="What every weight becomes")


class Ones(BaseModel):
    """``ones`` has no settings."""


class Zeros(BaseModel):
    """``zeros`` has no settings."""


class Eye(BaseModel):
    """``eye`` has no settings."""


class Dirac(BaseModel):
    """Settings of ``dirac``."""

    groups: int = Field(1, gt=0, description="Groups of output channels, each of which preserves the inputs")


class Sparse(BaseModel):
    """Settings of ``sparse``."""

    sparsity: FiniteFloat = Field(0.1, ge=0, lt=1, description="Part of each column, rounded up, that becomes 0")
    std: NonNegative = Field(0.01, description="Standard deviation of the other weights")


class _Slope(BaseModel):
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


RULES: dict[str, type[BaseModel]] = {
    "default": Default,
    "uniform": Uniform,
    "normal": Normal,
    "trunc-normal": TruncNormal,
    "constant": Constant,
    "ones": Ones,
    "zeros": Zeros,
    "eye": Eye,
    "dirac": Dirac,
    "orthogonal": Gain,
    "sparse": Sparse,
    "xavier-uniform": Gain,
    "xavier-normal": Gain,
    "kaiming-uniform": Kaiming,
    "kaiming-normal": Kaiming,
}


class _Named(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _with_name(name: str, settings: type[BaseModel]) -> type[BaseModel]:
    """The same settings after a key ``name`` that says whose they are."""
    only: Any = Literal[name]
    named = create_model("Named", __base__=_Named, name=(only, ...))
    return create_model(f"By {name}", __base__=(settings, named))


def _named(value: object) -> object:
    """``NAME`` as ``{"name": NAME}``, once it is known that such an initializer exists."""
    table = {"name": value} if isinstance(value, str) else value
    name: object = table.get("name") if isinstance(table, Mapping) else getattr(table, "name", None)
    if name not in list(RULES):
        near = get_close_matches(name, RULES, n=1, cutoff=0.5) if isinstance(name, str) else []
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ValueError(f"must be one of {', '.join(RULES)}{hint}, or a table with such a name and its settings")
    return table


if TYPE_CHECKING:
    Rule = str | Mapping[str, Any] | BaseModel
else:
    _Table = Annotated[Union[tuple(starmap(_with_name, RULES.items()))], Field(discriminator="name")]  # noqa: UP007
    Rule = Annotated[_Table, BeforeValidator(_named, json_schema_input_type=str | _Table)]
_RULE: TypeAdapter[Any] = TypeAdapter(Rule)


def rule(value: Rule) -> dict[str, Any]:
    """``NAME`` or ``{"name": NAME, ...}`` as a table of the name and all of that initializer's settings.

    Raises:
        ValueError: the name is none of ``RULES``, or a setting is wrong.
    """
    try:
        table: dict[str, Any] = _RULE.validate_python(value, strict=True).model_dump()
    except ValidationError as error:
        faults = [f"{' '.join(map(str, fault['loc']))} {fault['msg']}".strip() for fault in error.errors()]
        raise ValueError("; ".join(faults)) from None
    return table


class ByLayer(BaseModel):
    """Settings of ``by-layer``; each is the name of another initializer, or a table of that name and its settings."""

    conv: Rule = Field(
        "kaiming-normal",
        validate_default=True,
        description='Initializer of convolutions: a name, or a table such as {name = "normal", std = 0.02}',
    )
    linear: Rule = Field(
        "constant",
        validate_default=True,
        description="Initializer of linear layers, likewise. A constant keeps all units of a hidden layer equal, which "
        "suits a last layer alone: choose xavier-uniform or kaiming-normal for more than one",
    )
    embedding: Rule = Field("default", validate_default=True, description="Initializer of embeddings, likewise")
    norm: Rule = Field(
        "default",
        validate_default=True,
        description="Initializer of the scales of norm layers, likewise, of those that fit one dimension: uniform, "
        "normal, trunc-normal, constant, ones, zeros",
    )


class WeightsFile(BaseModel):
    """Settings of ``weights-file``."""

    path: Location = Field(description="A safetensors file: of `ptb import-torch`, or a checkpoint of a run")
    skip: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description='Names of the model that are left as they are, as in a shell: ["fc3.*"] for other classes'
    )
