"""The settings of ``by-layer``, which hold those of the other initializers; building them all takes a while."""

from collections.abc import Mapping
from difflib import get_close_matches
from itertools import starmap
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from ptb_initializers.settings import (
    Constant,
    Default,
    Dirac,
    Eye,
    Gain,
    Kaiming,
    Normal,
    Ones,
    Sparse,
    TruncNormal,
    Uniform,
    Zeros,
)

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


class _Named(BaseModel, defer_build=True):
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


class ByLayer(BaseModel, defer_build=True):
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
