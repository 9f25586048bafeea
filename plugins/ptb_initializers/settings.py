"""The settings of the built-in initializers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, ValidationError, model_validator

Nonlinearity = Literal[
    "linear", "identity", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"
]
Mode = Literal["fan_in", "fan_out"]
SLOPE = 0.01


class Default(BaseModel):
    """``default`` has no settings."""


class Uniform(BaseModel):
    """Settings of ``uniform``."""

    a: FiniteFloat = Field(0.0, description="Lower end of the interval")
    b: FiniteFloat = Field(1.0, description="Upper end of the interval")

    @model_validator(mode="after")
    def _check_interval(self) -> "Uniform":
        if self.a > self.b:
            raise ValueError(f"a must not be above b, they are {self.a} and {self.b}")
        return self


class Normal(BaseModel):
    """Settings of ``normal``."""

    mean: FiniteFloat = Field(0.0, description="Mean of the distribution")
    std: FiniteFloat = Field(1.0, ge=0, description="Standard deviation of the distribution")


class TruncNormal(BaseModel):
    """Settings of ``trunc-normal``."""

    mean: FiniteFloat = Field(0.0, description="Mean of the distribution before it is cut")
    std: FiniteFloat = Field(1.0, gt=0, description="Standard deviation of the distribution before it is cut")
    a: FiniteFloat = Field(-2.0, description="Lower cut, a value of the weights and no multiple of std")
    b: FiniteFloat = Field(2.0, description="Upper cut, likewise")

    @model_validator(mode="after")
    def _check_cuts(self) -> "TruncNormal":
        if self.a >= self.b:
            raise ValueError(f"a must be below b, they are {self.a} and {self.b}")
        if not self.a - 2 * self.std <= self.mean <= self.b + 2 * self.std:
            raise ValueError(
                f"mean {self.mean} is more than 2 std from [a, b] = [{self.a}, {self.b}], where it cannot be "
                "drawn well: move mean or the cuts"
            )
        return self


class Constant(BaseModel):
    """Settings of ``constant``."""

    value: FiniteFloat = Field(0.01, description="What every weight becomes")


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
    std: FiniteFloat = Field(0.01, ge=0, description="Standard deviation of the other weights")


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

    gain: FiniteFloat = Field(1.0, gt=0, description="Factor of the weights, beside that of nonlinearity")
    nonlinearity: Nonlinearity = Field(
        "linear", description="The function after the layers; the weights are multiplied by its gain"
    )
    negative_slope: FiniteFloat = Field(SLOPE, ge=0, description="Slope of leaky_relu below zero; for it alone")


class Kaiming(_Slope):
    """Settings of ``kaiming-uniform`` and ``kaiming-normal``."""

    mode: Mode = Field("fan_in", description="Keep the variance forward (fan_in) or backward (fan_out)")
    nonlinearity: Nonlinearity = Field(
        "relu", description="The function after the layers; its gain is torch.nn.init.calculate_gain's"
    )
    negative_slope: FiniteFloat = Field(SLOPE, ge=0, description="Slope of leaky_relu below zero; for it alone")


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


def rule(value: str | Mapping[str, Any]) -> dict[str, Any]:
    """``NAME`` or ``{"name": NAME, ...}`` as a table of the name and all of that initializer's settings.

    Raises:
        ValueError: the name is none of ``RULES``, or a setting is wrong.
    """
    values = {"name": value} if isinstance(value, str) else dict(value)
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in RULES:
        raise ValueError(f"must be one of {', '.join(RULES)}, or a table with such a name and its settings")
    try:
        settings = RULES[name].model_validate(values, strict=True, extra="forbid")
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip() for fault in error.errors()]
        raise ValueError(f"settings of {name}: {'; '.join(faults)}") from None
    return {"name": name, **settings.model_dump()}


Rule = Annotated[str | dict[str, Any], AfterValidator(rule)]


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
