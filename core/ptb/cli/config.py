"""``ptb config``: make, see and describe configurations."""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptb.cli.commands import OpenGroup
from ptb.cli.options import (
    UserPath,
    installed,
    json_option,
    plugin_options,
    run_options,
    stray_output_to_stderr,
    verbose_option,
)
from ptb.errors import ConfigError, listing
from ptb.kinds import KINDS, Kind

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from ptb.config.layers import RunConfig
    from ptb.config.resolve import PartialConfig
    from ptb.registry.registry import Registry

    # The path of a table in a config file, its values, and the fields that describe them and those that have none.
    Table = tuple[tuple[str, ...], dict[str, Any], dict[str, FieldInfo]]


@click.group(cls=OpenGroup)
def config() -> None:
    """Make, see and describe configurations."""


@config.command()
@click.option(
    "-o",
    "--output",
    "file",
    type=UserPath(),
    metavar="FILE",
    help="Write a new file, whose name ends in .toml.",
)
@run_options
@verbose_option
def init(config: "RunConfig", file: Path | None, verbose: bool) -> None:
    """Print a config file with every setting explained.

    Flags and KEY=VALUE, such as model.pool=avg, choose the components and the values. A setting without a value stands
    there as a comment; one that must be filled in is marked as required.

    \b
    ptb config init --model lenet -o run.toml
    ptb config init --model mlp --dataset csv -o run.toml
    """  # noqa: D301  # click wants the backspace itself
    from ptb.config.resolve import draft

    if file is not None:
        _check_new(file)
    registry = installed(config)
    with stray_output_to_stderr():
        partial = draft(config, registry)
        text, missing = commented(partial), required_keys(partial)
    if file is None:
        click.echo(text, nl=False)
        return
    from ptb.storage.atomic import write_atomically

    write_atomically(file, text)
    click.echo(f"wrote {file}; {f'fill in {listing(missing)}, then ' if missing else ''}run it with: ptb run -c {file}")


@config.command("show")
@run_options
@json_option
@verbose_option
def show_config(config: "RunConfig", as_json: bool, verbose: bool) -> None:
    """Print the checked configuration and its sources.

    A comment tells where each value that is no default came from: a line of a file, a flag, or KEY=VALUE.
    """
    from ptb.config.resolve import resolve

    registry = installed(config)
    with stray_output_to_stderr():
        partial = resolve(config, registry)
    if as_json:
        click.echo(json.dumps({"schema": 1, "config": partial.as_config()}))
        return
    click.echo(sourced(partial), nl=False)


@config.command()
@plugin_options
@verbose_option
def schema(verbose: bool) -> None:
    """Print the JSON Schema of config files.

    An editor that knows it completes and checks config files. It describes every installed component.
    """
    registry = installed()
    with stray_output_to_stderr():
        described = config_schema(registry)
    click.echo(json.dumps(described, indent=2))


def commented(partial: "PartialConfig") -> str:
    """What ``draft`` gave as a config file in which a comment explains each key."""
    text = "# A configuration of ptb. A key that is left out has its default; only the model must be named.\n"
    if required_keys(partial):
        text += "# The keys marked as required have no default: write a value for ..., and take the first # away.\n"
    text += _written(_tables(partial), lambda path, description: description, with_unset=True)
    if left_open := _left_open(partial):
        text += "\n# Unless it is chosen here, what fits the targets of the data set is taken:\n"
        text += "\n".join(
            f"# [{kind.section}.NAME]\n" if kind.labelled else f"# [{kind.section}]\n# name = ...\n"
            for kind in left_open
        )
    return text


def sourced(partial: "PartialConfig") -> str:
    """The configuration as a file in which a comment tells the source of each value that is no default."""
    asked = partial.asked
    text = _written(_tables(partial), lambda path, _: asked.source(*path) if _is_chosen(asked.values, path) else "")
    if left_open := [kind.section for kind in _left_open(partial)]:
        text += f"\n# not chosen, so what fits the targets of the data set is taken: {listing(left_open)}\n"
    return text


def required_keys(partial: "PartialConfig") -> list[str]:
    """The keys of required settings that have no value, such as ``dataset.path``."""
    tables = _tables(partial)
    return [
        ".".join((*path, key))
        for path, values, described in tables
        for key, field in described.items()
        if field.is_required() and key not in values
    ]


def config_schema(registry: "Registry") -> dict[str, Any]:
    """The JSON Schema of a config file: for each section one shape for each component that may be named there."""
    from ptb.config.sections import CORE_SECTIONS, RunSettings

    properties = RunSettings.model_json_schema()["properties"]
    for kind in KINDS.values():
        described = _section_schema(registry, kind)
        labels = {"type": "object", "additionalProperties": described}
        properties[kind.section] = labels if kind.labelled else described
    for name, model in CORE_SECTIONS.items():
        properties[name] = {**model.model_json_schema(), "additionalProperties": False}
    owner = {"type": "object", "additionalProperties": {"type": "string", "pattern": ":"}}
    resolve = {"type": "object", "properties": dict.fromkeys(KINDS, owner), "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A configuration of ptb",
        "type": "object",
        "properties": {**properties, "resolve": resolve},
        "additionalProperties": False,
    }


def _section_schema(registry: "Registry", kind: Kind) -> dict[str, Any]:
    from ptb.config.sections import SHARED_SECTIONS

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


def _tables(partial: "PartialConfig") -> "Iterator[Table]":
    from ptb.config.sections import CORE_SECTIONS, SHARED_SECTIONS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draft may hold values that were not validated, which pydantic warns of
        written = partial.as_config()
    yield (), partial.run.model_dump(), type(partial.run).model_fields
    for section, component in partial.components().items():
        path = tuple(section.split(".", 1))
        values = written[path[0]] if len(path) == 1 else written[path[0]][path[1]]
        shared = SHARED_SECTIONS[section].model_fields if section in SHARED_SECTIONS else {}
        yield path, values, type(component.settings).model_fields | shared
    if partial.metrics == {}:  # turned off, which is not the same as left open
        yield ("metrics",), {}, {}
    for name, model in CORE_SECTIONS.items():
        if name in written:
            yield (name,), written[name], model.model_fields


def _written(
    tables: "Iterable[Table]", comment: Callable[[tuple[str, ...], str], str], with_unset: bool = False
) -> str:
    import tomlkit

    document = tomlkit.document()
    for path, values, fields in tables:
        table = document if not path else tomlkit.table()
        for key in ("name", *fields):
            field = fields.get(key)
            description = " ".join((field.description or "").split()) if field else ""
            if key in values:
                item = _inline(values[key])
                if text := comment((*path, key), description):
                    item.comment(text)
                table.add(key, item)
            elif field and with_unset:
                described = ": ".join(filter(None, ("required" * field.is_required(), description))) or "not set"
                table.add(tomlkit.comment(f"{key} = ... # {described}"))
        if len(path) == 1:
            document.add(tomlkit.nl())
            document.add(path[0], table)
        elif path:
            parent = document.setdefault(path[0], tomlkit.table(is_super_table=True))
            parent.add(path[1], table)
    return tomlkit.dumps(document)


def _inline(value: Any) -> Any:
    """The value on one line: as a table of its own it would end the one in which it stands."""
    import tomlkit

    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update({key: _inline(inner) for key, inner in value.items()})
        return inline
    if isinstance(value, list):
        array = tomlkit.array()
        array.extend(map(_inline, value))
        return array
    return tomlkit.item(value)


def _left_open(partial: "PartialConfig") -> list[Kind]:
    return [kind for kind in KINDS.values() if getattr(partial, kind.section) is None]


def _is_chosen(values: Any, path: tuple[str, ...]) -> bool:
    """Whether the value is no default; a label is the name of its component too."""
    for part in path[:-1] if len(path) == 3 and path[-1] == "name" else path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _check_new(file: Path) -> None:
    if file.suffix.lower() != ".toml":
        raise ConfigError(f"config init writes TOML with comments: the file's name must end in .toml, got '{file}'")
    if os.path.lexists(file):
        raise ConfigError(f"{file} is there already; name a new file")
