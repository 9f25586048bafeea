"""Settings described for people: type, bounds and default of each, as texts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ptb.internals import naming_model

_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
_BOUNDS |= {"minItems": "at least", "maxItems": "at most", "minLength": "length >=", "maxLength": "length <="}


@dataclass(frozen=True)
class SettingRow:
    """One setting, described for people."""

    name: str
    type: str
    bounds: str
    default: str
    description: str


def describe(model: type[BaseModel]) -> list[SettingRow]:
    """One row for each setting, in the model's order."""
    schema = json_schema(model)
    rows = []
    for name, field in model.model_fields.items():
        part = schema["properties"][name]
        if field.default_factory_takes_validated_data:
            default = "follows from the others"
        elif field.is_required():
            default = "required"
        else:
            with naming_model(model):
                value = part.get("default", field.get_default(call_default_factory=True))
            default = "none" if value is None or value is PydanticUndefined else json.dumps(value, default=str)
        rows.append(SettingRow(name, _type_text(part, schema), _bounds_text(part), default, field.description or ""))
    return rows


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model; a ``PluginError`` where it has none."""
    with naming_model(model):
        return model.model_json_schema()


def _type_text(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in part:
        return _type_text(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    if options := part.get("enum", [part["const"]] if "const" in part else []):
        return " | ".join(map(json.dumps, options))
    if union := part.get("anyOf") or part.get("oneOf"):
        return " | ".join(dict.fromkeys(_type_text(arm, schema) for arm in union))
    if fixed := part.get("prefixItems"):
        return f"[{', '.join(_type_text(item, schema) for item in fixed)}]"
    if part.get("type") == "array":
        return f"list of {_type_text(part.get('items') or {}, schema)}"
    name = str(part.get("type", "any"))
    return {"object": "table", "null": "none"}.get(name, name)


def _bounds_text(part: Mapping[str, Any]) -> str:
    own = [f"{sign} {part[key]}" for key, sign in _BOUNDS.items() if key in part and "prefixItems" not in part]
    if (items := part.get("items")) and (inner := _bounds_text(items)):
        own.append(f"each {inner}")
    own.append(" or ".join(filter(None, map(_bounds_text, part.get("anyOf", ())))))
    return ", ".join(filter(None, own))
