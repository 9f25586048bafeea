"""``ptb config``: make, see and describe configurations."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptb.cli.options import config_options, installed, json_option, results_apart
from ptb.errors import ConfigError, PluginError, StorageError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from ptb.plan import Plan
    from ptb.registry import Registry
    from ptb.run_config import RunConfig


@click.group()
def config() -> None:
    """Make, see and describe configurations."""


@config.command()
@click.option(
    "-o", "--output", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write a new file instead."
)
@config_options
def init(config: "RunConfig", file: Path | None) -> None:
    """Print a config file with every setting of the chosen components explained."""
    from ptb.plan import resolve

    registry = installed()
    with results_apart():
        text = commented(resolve(config, registry))
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ConfigError(f"{file} is there already; name a new file") from None
    except OSError as error:
        with suppress(OSError):
            file.unlink()
        raise StorageError(f"cannot write {file}: {error.strerror}") from error
    click.echo(f"wrote {file}; run it with: ptb run -c {file}")


@config.command("show")
@config_options
@json_option
def show_config(config: "RunConfig", as_json: bool) -> None:
    """Print the checked configuration, and for each value that is no default, where it came from."""
    from ptb.plan import resolve

    registry = installed()
    with results_apart():
        plan = resolve(config, registry)
    if as_json:
        click.echo(json.dumps({"schema": 1, "config": plan.as_config()}))
        return
    click.echo(sourced(plan, config), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of config files, for editors; it describes every installed component."""
    registry = installed()
    with results_apart():
        described = config_schema(registry)
    click.echo(json.dumps(described, indent=2))


def commented(plan: "Plan") -> str:
    """The plan as a config file in which a comment explains each key."""
    text = "# A configuration of ptb. A key that is left out has its default; only the model must be named.\n"
    text += _written(plan, lambda path, description: description, with_unset=True)
    if plan.loss is None:
        text += "\n# The loss and the metrics follow from the data set's targets, unless they are chosen here:\n"
        text += '# [loss]\n# name = "cross-entropy"\n\n# [metrics.accuracy]\n'
    return text


def sourced(plan: "Plan", config: "RunConfig") -> str:
    """The plan as a config file in which a comment tells the source of each value that is no default."""
    text = _written(plan, lambda path, _description: config.sources.get(path, ""))
    if plan.loss is None:
        text += "\n# no loss is chosen: it will follow from the data set's targets, and so will the metrics\n"
    return text


def config_schema(registry: "Registry") -> dict[str, Any]:
    """The JSON Schema of a config file: for each section one shape for each component that may be named there."""
    from ptb.plan import COMPONENT_SECTIONS, DEFAULT_NAMES
    from ptb.sections import CORE_SECTIONS, RunSettings

    top = RunSettings.model_json_schema()["properties"]
    cores = {
        name: {**model.model_json_schema(), "additionalProperties": False} for name, model in CORE_SECTIONS.items()
    }
    sections = {kind: _section_schema(registry, kind, DEFAULT_NAMES.get(kind)) for kind in COMPONENT_SECTIONS}
    metrics = {"type": "object", "additionalProperties": _section_schema(registry, "metric", None, named_by_key=True)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A configuration of ptb",
        "type": "object",
        "properties": {**top, **sections, "metrics": metrics, **cores},
        "additionalProperties": False,
    }


def _section_schema(registry: "Registry", kind: str, default: str | None, named_by_key: bool = False) -> dict[str, Any]:
    from ptb.sections import SHARED_SECTIONS

    shared = SHARED_SECTIONS[kind].model_json_schema() if kind in SHARED_SECTIONS else {}
    shapes = []
    for entry in registry.components(kind):
        names = [entry.id] if entry.conflict else [entry.name, entry.id, *entry.component.aliases]
        try:
            settings = entry.settings_model().model_json_schema()
        except PluginError:  # its settings cannot be had here: anything may stand there
            settings = {"type": "object", "additionalProperties": True}
        shape = {"additionalProperties": False, **settings, "title": entry.key, "description": entry.summary}
        if definitions := {**settings.get("$defs", {}), **shared.get("$defs", {})}:  # its references lead inside itself
            shape |= {"$defs": definitions, "$id": f"ptb:{kind}/{entry.id}"}
        own = settings.get("properties", {})
        shape["properties"] = {"name": {"enum": names}, **own, **shared.get("properties", {})}
        if entry.name != default and not named_by_key:
            shape["required"] = ["name", *settings.get("required", [])]
        shapes.append(shape)
    return {"anyOf": shapes}


def _written(plan: "Plan", comment: Callable[[tuple[str, ...], str], str], with_unset: bool = False) -> str:
    import tomlkit

    document = tomlkit.document()
    for path, values, fields in _tables(plan):
        table = document if not path else tomlkit.table()
        for key, value in values.items():
            field = fields.get(key)
            item = tomlkit.item(value)
            if text := comment((*path, key), (field.description or "") if field else ""):
                item.comment(text)
            table.add(key, item)
        for key in fields if with_unset else ():
            if key in values:
                continue
            table.add(tomlkit.comment(f"{key} =  # {fields[key].description or 'not set'}"))
        if len(path) == 1:
            document.add(tomlkit.nl())
            document.add(path[0], table)
        elif path:
            parent = document.setdefault(path[0], tomlkit.table(is_super_table=True))
            parent.add(path[1], table)
    return tomlkit.dumps(document)


def _tables(plan: "Plan") -> "Iterator[tuple[tuple[str, ...], dict[str, Any], dict[str, FieldInfo]]]":
    yield (), plan.run.model_dump(), type(plan.run).model_fields
    for section, choice in plan.choices().items():
        shared = type(choice.shared).model_fields if choice.shared else {}
        yield tuple(section.split(".", 1)), choice.as_config(), type(choice.settings).model_fields | shared
    yield ("loader",), plan.loader.model_dump(), type(plan.loader).model_fields
    yield ("trainer",), plan.trainer.model_dump(exclude_none=True), type(plan.trainer).model_fields
