"""A component's options as a pydantic model: named by the component, or read off its target's parameters.

Values are checked the way JSON is, and strictly: ``"5"`` is no integer, ``true`` is no integer, an integer is a number,
a list may fill a tuple. Unknown keys are forbidden whatever the model itself says.
"""

import inspect
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails, PydanticUndefined

from ptb.errors import PluginError, Problem, did_you_mean, listing

# How many positional arguments the core fills before a component's settings begin.
RUNTIME_ARGUMENTS = {
    "dataset": 0,
    "model": 1,  # spec
    "initializer": 1,  # module
    "loss": 1,  # spec
    "optimizer": 1,  # params
    "scheduler": 2,  # optimizer, total_steps
    "metric": 1,  # spec
}


@dataclass(frozen=True)
class SettingRow:
    """One setting, described for people."""

    name: str
    type: str
    bounds: str
    default: str
    description: str


class SettingsError(Exception):
    """The values do not fit the model; ``problems`` holds all of them, keys relative to the section."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def derive_model(kind: str, label: str, target: Callable[..., Any]) -> type[BaseModel]:
    """The settings of a target that names no model: its parameters after the runtime ones, with their annotations.

    A parameter that no config file could fill (a tensor, a callable) is left to its default.

    Raises:
        PluginError: such a parameter has no default, or a parameter is called ``name``, which chooses the component.
    """
    try:
        parameters = list(inspect.signature(target).parameters.values())[RUNTIME_ARGUMENTS[kind] :]
    except (TypeError, ValueError):  # some classes written in C show no signature: they have nothing to set
        parameters = []
    parameters = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    hints = _hints(target, parameters)
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name == "name":
            raise PluginError(f"{kind} {label}: a setting cannot be called 'name': that key chooses the component")
        required = parameter.default is parameter.empty
        annotation = _plain(hints[parameter.name])
        if annotation is not None:
            fields[parameter.name] = (annotation, ... if required else parameter.default)
        elif required:
            raise PluginError(
                f"{kind} {label}: parameter '{parameter.name}' has no default and its type "
                f"{hints[parameter.name]} cannot be written in a config file"
            )
    config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), arbitrary_types_allowed=True)
    return create_model("Settings", __config__=config, **fields)


def validate(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """``values`` as an instance of ``model``, defaults filled in.

    Raises:
        SettingsError: with every fault that was found.
    """
    unwritable = [key for key, value in values.items() if not _is_json(value)]
    if unwritable:
        raise SettingsError(
            [Problem(key, f"cannot be written in a config file: {values[key]!r}") for key in unwritable]
        )
    try:
        return model.model_validate_json(json.dumps(dict(values)), strict=True, extra="forbid")
    except ValidationError as error:
        raise SettingsError(list(_problems(error, model, values))) from None


def arguments(settings: BaseModel) -> dict[str, Any]:
    """The settings as keyword arguments of the target."""
    return {name: getattr(settings, name) for name in type(settings).model_fields}


def plain_values(settings: BaseModel) -> dict[str, Any]:
    """The settings as a config file holds them; what is or holds None is left out, because TOML has no null."""
    written = settings.model_dump(mode="json", exclude_none=True)
    return {name: value for name, value in written.items() if not _has_null(value)}


def describe(model: type[BaseModel]) -> list[SettingRow]:
    """One row for each setting, in the model's order."""
    schema = model.model_json_schema()
    rows = []
    for name, field in model.model_fields.items():
        part = schema["properties"][name]
        default = (
            "required" if field.is_required() else _default_text(part, field.get_default(call_default_factory=True))
        )
        rows.append(SettingRow(name, _type_text(part, schema), _bounds_text(part), default, field.description or ""))
    return rows


def _hints(target: Callable[..., Any], parameters: list[inspect.Parameter]) -> dict[str, Any]:
    """The annotations of these parameters only: others may name types that exist for the type checker alone."""
    function: Any = getattr(target, "__init__") if isinstance(target, type) else inspect.unwrap(target)  # noqa: B009
    untyped = {p.name: Any if p.default in (p.empty, None) else type(p.default) for p in parameters}
    written = {p.name: untyped[p.name] if p.annotation is p.empty else p.annotation for p in parameters}
    holder = types.SimpleNamespace(__annotations__=written)
    return typing.get_type_hints(holder, globalns=getattr(function, "__globals__", {}), include_extras=True)


def _plain(annotation: Any) -> Any:
    """The part of ``annotation`` that a config file can fill, or None: ``float | Tensor`` becomes ``float``."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        arms = [arm for arm in map(_plain, parts) if arm is not None]
        return Union[tuple(arms)] if any(arm is not types.NoneType for arm in arms) else None  # noqa: UP007
    if origin is Annotated:
        inner = _plain(parts[0])
        return None if inner is None else Annotated[(inner, *parts[1:])]
    if origin is tuple:
        inner_parts = [part if part is Ellipsis else _plain(part) for part in parts]
        return None if None in inner_parts else types.GenericAlias(tuple, tuple(inner_parts))
    if annotation in (None, types.NoneType):
        return types.NoneType
    try:
        TypeAdapter(annotation, config=_config_for(annotation)).json_schema()
    except (PydanticUserError, TypeError):  # no JSON form, or no schema at all
        return None
    return annotation


def _config_for(annotation: Any) -> ConfigDict | None:
    is_model = isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or hasattr(annotation, "__dataclass_fields__")
    )
    return None if is_model else ConfigDict(arbitrary_types_allowed=True)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return not _has_null(value)


def _has_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_null, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_null, value))
    return value is None


def _problems(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any]) -> Iterator[Problem]:
    """Pydantic's faults in our words; the faults of a union's arms are told as one."""
    told: dict[str, dict[str, str]] = {}
    for fault in error.errors(include_url=False):
        key, value = _locate(fault["loc"], values)
        if fault["type"] == "missing" and isinstance(fault["loc"][-1], str):
            key = _key(fault["loc"])
        message, shown = _message(fault, model, value)
        told.setdefault(key, {})[message] = shown
    for key, messages in told.items():
        arms = list(messages)
        text = " or ".join([arms[0], *(arm.removeprefix("must be ") for arm in arms[1:])])
        yield Problem(key, text + list(messages.values())[-1])


def _locate(location: tuple[int | str, ...], values: Any) -> tuple[str, Any]:
    """The key as far as the location leads into ``values`` (the rest names arms of a union), and the value there."""
    value = values
    for depth, part in enumerate(location, start=1):
        try:
            value = value[part]
        except (TypeError, KeyError, IndexError):
            return _key(location[: max(depth - 1, 1)]), value
    return _key(location), value


def _key(location: tuple[int | str, ...]) -> str:
    """``groups[0].lr`` of ``("groups", 0, "lr")``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _message(fault: ErrorDetails, model: type[BaseModel], value: Any) -> tuple[str, str]:
    """What is wrong, and what was got."""
    got = f", got {_shown(value)}"
    if fault["type"] == "missing":
        return (
            ("has too few items", got) if isinstance(fault["loc"][-1], int) else ("is required and has no default", "")
        )
    if fault["type"] == "extra_forbidden":
        at_top = len(fault["loc"]) == 1
        valid = list(model.model_fields) if at_top else []
        known = f"; valid are {listing(valid)}" if valid else "; there are no settings" if at_top else ""
        return f"unknown key{did_you_mean(str(fault['loc'][-1]), valid)}{known}", ""
    text = fault["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text.replace("Input should", "must", 1), got


def _shown(value: Any) -> str:
    text = json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _type_text(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in part:
        return _type_text(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    if "enum" in part:
        return " | ".join(json.dumps(value) for value in part["enum"])
    if "const" in part:
        return json.dumps(part["const"])
    if "anyOf" in part:
        return " | ".join(_type_text(arm, schema) for arm in part["anyOf"])
    if part.get("type") == "array":
        items = part.get("items") or {}
        fixed = part.get("prefixItems")
        inside = ", ".join(_type_text(item, schema) for item in fixed) if fixed else _type_text(items, schema)
        return f"[{inside}]" if fixed else f"list of {inside}"
    name = str(part.get("type", "any"))
    return {"object": "table", "null": "none"}.get(name, name)


def _bounds_text(part: Mapping[str, Any]) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    signs |= {"minItems": "at least", "maxItems": "at most", "minLength": "length >=", "maxLength": "length <="}
    own = [f"{sign} {part[key]}" for key, sign in signs.items() if key in part]
    if part.get("type") == "array" and part.get("prefixItems"):
        own = []
    if items := part.get("items"):
        own += [f"each {inner}" for inner in [_bounds_text(items)] if inner]
    own += [" or ".join(inner for arm in part.get("anyOf", ()) if (inner := _bounds_text(arm)))]
    return ", ".join(filter(None, own))


def _default_text(part: Mapping[str, Any], default: Any) -> str:
    value = part.get("default", default)
    if value is None or value is PydanticUndefined:
        return "none"
    return json.dumps(value, default=str)
