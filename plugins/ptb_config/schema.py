"""The JSON Schema of config files, with which an editor completes and checks them."""

from typing import Any

from ptb import Registry
from ptb.internals import CORE_SECTIONS, RUN_KINDS, SHARED_SECTIONS, Kind, RunSettings


def config_schema(registry: Registry) -> dict[str, Any]:
    """The JSON Schema of a config file: for each section one shape for each component that may be named there."""
    properties = RunSettings.model_json_schema()["properties"]
    for kind in RUN_KINDS.values():
        described = _section_schema(registry, kind)
        labels = {"type": "object", "additionalProperties": described}
        properties[kind.section] = labels if kind.labelled else described
    for name, model in CORE_SECTIONS.items():
        properties[name] = {**model.model_json_schema(), "additionalProperties": False}
    owner = {"type": "object", "additionalProperties": {"type": "string", "pattern": ":"}}
    resolve = {"type": "object", "properties": dict.fromkeys(RUN_KINDS, owner), "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A configuration of ptb",
        "type": "object",
        "properties": {**properties, "resolve": resolve},
        "additionalProperties": False,
    }


def _section_schema(registry: Registry, kind: Kind) -> dict[str, Any]:
    shared = SHARED_SECTIONS[kind.section].model_json_schema() if kind.section in SHARED_SECTIONS else {}
    shapes = []
    for entry in registry.components(kind.name):
        names = [entry.id] if entry.conflict else [entry.name, entry.id, *entry.component.aliases]
        try:
            settings = entry.settings_model().model_json_schema()
        except Exception:  # settings of other packages may raise anything: then anything may stand there
            settings = {"type": "object", "additionalProperties": True}
        shape = {"additionalProperties": False, **settings, "title": entry.key, "description": entry.summary}
        if definitions := {**settings.get("$defs", {}), **shared.get("$defs", {})}:  # its references lead inside itself
            shape |= {"$defs": definitions, "$id": f"ptb:{kind.name}/{entry.id}"}
        own = settings.get("properties", {})
        shape["properties"] = {"name": {"enum": names}, **own, **shared.get("properties", {})}
        if not (kind.labelled or (entry.found.built_in and entry.component.default_for)):
            shape["required"] = ["name", *settings.get("required", [])]
        shapes.append(shape)
    return {"anyOf": shapes} if shapes else {"type": "object"}
