"""``ptb config``: make, see and describe configurations."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptb.cli.options import (
    config_options,
    installed,
    json_option,
    plugin_options,
    stray_output_to_stderr,
    verbose_option,
)
from ptb.errors import ConfigError, PtbError, listing
from ptb.kinds import KINDS

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from ptb.config.layers import RunConfig
    from ptb.config.resolve import ResolvedConfig
    from ptb.registry.registry import Registry

    # The path of a table in a config file, its values, and the fields that describe them and those that have none.
    Table = tuple[tuple[str, ...], dict[str, Any], dict[str, FieldInfo]]

# Components that require no setting.
STAND_INS = {"dataset": "digits", "model": "linear", "initializer": "default", "loss": "mse", "optimizer": "adam"}
STAND_INS |= {"scheduler": "constant", "metric": "accuracy"}


@click.group()
def config() -> None:
    """Make, see and describe configurations."""


@config.command()
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a new file instead, whose name ends in .toml.",
)
@config_options
@verbose_option
def init(config: "RunConfig", file: Path | None, verbose: bool) -> None:
    """Print a config file with every setting explained.

    Flags and KEY=VALUE, such as model.pool=avg, choose the components and the values. A setting without a value stands
    there as a comment; one that must be filled in is marked as required.

    \b
    ptb config init --model lenet -o run.toml
    ptb config init --model mlp --dataset csv -o run.toml
    """  # noqa: D301  # click wants the backspace itself
    if file is not None:
        _check_new(file)
    registry = installed(config)
    with stray_output_to_stderr():
        plan, unfinished = draft(config, registry)
        text = commented(plan, unfinished)
    if file is None:
        click.echo(text, nl=False)
        return
    from ptb.storage.atomic import write_atomically

    write_atomically(file, text)
    keys = listing([key for table in unfinished.values() for key in required_keys(table)])
    click.echo(f"wrote {file}; {f'fill in {keys}, then ' if keys else ''}run it with: ptb run -c {file}")


@config.command("show")
@config_options
@json_option
@verbose_option
def show_config(config: "RunConfig", as_json: bool, verbose: bool) -> None:
    """Print the checked configuration and its sources.

    A comment tells where each value that is no default came from: a line of a file, a flag, or KEY=VALUE.
    """
    from ptb.config.resolve import resolve

    registry = installed(config)
    with stray_output_to_stderr():
        plan = resolve(config, registry)
    if as_json:
        click.echo(json.dumps({"schema": 1, "config": plan.as_config()}))
        return
    click.echo(sourced(plan, config), nl=False)


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


def commented(plan: "ResolvedConfig", unfinished: "Mapping[tuple[str, ...], Table]") -> str:
    """What ``draft`` gave as a config file in which a comment explains each key."""
    text = "# A configuration of ptb. A key that is left out has its default; only the model must be named.\n"
    if unfinished:
        text += "# The keys marked as required have no default: write a value for ..., and take the first # away.\n"
    tables = [unfinished.get(table[0], table) for table in _tables(plan)]
    text += _written(tables, lambda path, description: description, with_unset=True)
    examples = {"loss": '# [loss]\n# name = "cross-entropy"\n', "metrics": "# [metrics.accuracy]\n"}
    if left_open := _left_open(plan):
        text += "\n# Unless it is chosen here, what fits the targets of the data set is taken:\n"
        text += "\n".join(examples[section] for section in left_open)
    return text


def sourced(plan: "ResolvedConfig", config: "RunConfig") -> str:
    """The plan as a config file in which a comment tells the source of each value that is no default."""
    text = _written(_tables(plan), lambda path, _: config.source(*path) if _is_chosen(config.values, path) else "")
    if left_open := _left_open(plan):
        text += f"\n# not chosen, so what fits the targets of the data set is taken: {listing(left_open)}\n"
    return text


def draft(config: "RunConfig", registry: "Registry") -> "tuple[ResolvedConfig, dict[tuple[str, ...], Table]]":
    """The plan of a configuration that may lack required settings.

    Returns:
        The plan, with stand-ins for the components that lack some, and the tables of those components by their path.

    Raises:
        ConfigError: something else is wrong.
    """
    from ptb.config.resolve import resolve

    try:
        return resolve(config, registry), {}
    except ConfigError as error:
        unfinished = {table[0]: table for table in _component_tables(config, registry) if required_keys(table)}
        lacking = {key for table in unfinished.values() for key in required_keys(table)}
        if others := [problem for problem in error.problems if problem.key not in lacking]:
            raise ConfigError(*others) from None
    whole = copy(config)
    whole.values = dict(config.values)
    for section, *label in unfinished:
        stand_in = {"name": STAND_INS["metric" if label else section]}
        whole.values[section] = whole.values[section] | {label[0]: stand_in} if label else stand_in
    return resolve(whole, registry), unfinished


def required_keys(table: "Table") -> list[str]:
    """The keys of required settings that have no value, such as ``dataset.path``."""
    path, values, fields = table
    return [".".join((*path, key)) for key, field in fields.items() if field.is_required() and key not in values]


def config_schema(registry: "Registry") -> dict[str, Any]:
    """The JSON Schema of a config file: for each section one shape for each component that may be named there."""
    from ptb.config.resolve import COMPONENT_SECTIONS, DEFAULT_NAMES
    from ptb.config.sections import CORE_SECTIONS, PluginSettings, RunSettings

    top = RunSettings.model_json_schema()["properties"]
    cores = {
        name: {**model.model_json_schema(), "additionalProperties": False}
        for name, model in (CORE_SECTIONS | {"plugins": PluginSettings}).items()
    }
    owner = {"type": "object", "additionalProperties": {"type": "string", "pattern": ":"}}
    resolve = {"type": "object", "properties": dict.fromkeys(KINDS, owner), "additionalProperties": False}
    sections = {kind: _section_schema(registry, kind, DEFAULT_NAMES.get(kind)) for kind in COMPONENT_SECTIONS}
    metrics = {"type": "object", "additionalProperties": _section_schema(registry, "metric", None, named_by_key=True)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A configuration of ptb",
        "type": "object",
        "properties": {**top, **sections, "metrics": metrics, **cores, "resolve": resolve},
        "additionalProperties": False,
    }


def _section_schema(registry: "Registry", kind: str, default: str | None, named_by_key: bool = False) -> dict[str, Any]:
    from ptb.config.sections import SHARED_SECTIONS

    shared = SHARED_SECTIONS[kind].model_json_schema() if kind in SHARED_SECTIONS else {}
    shapes = []
    for entry in registry.components(kind):
        names = [entry.id] if entry.conflict else [entry.name, entry.id, *entry.component.aliases]
        try:
            settings = entry.settings_model().model_json_schema()
        except Exception:  # a stranger's settings cannot be had here: anything may stand there
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


def _tables(plan: "ResolvedConfig") -> "Iterator[Table]":
    yield (), plan.run.model_dump(), type(plan.run).model_fields
    for section, choice in plan.choices().items():
        shared = type(choice.shared).model_fields if choice.shared else {}
        yield tuple(section.split(".", 1)), choice.as_config(), type(choice.settings).model_fields | shared
    if plan.metrics == {}:  # turned off, which is not the same as left open
        yield ("metrics",), {}, {}
    yield ("loader",), plan.loader.model_dump(exclude_none=True), type(plan.loader).model_fields
    yield ("trainer",), plan.trainer.model_dump(exclude_none=True), type(plan.trainer).model_fields
    if plugins := plan.as_config().get("plugins"):
        yield ("plugins",), plugins, type(plan.plugins).model_fields


def _component_tables(config: "RunConfig", registry: "Registry") -> "Iterator[Table]":
    """What is set for each component of an unchecked configuration, over its defaults; faults are passed over."""
    from ptb.config.resolve import COMPONENT_SECTIONS, DEFAULT_NAMES
    from ptb.config.sections import SHARED_SECTIONS
    from ptb.registry.settings import plain_values

    chosen: dict[tuple[str, ...], Any] = {(kind,): config.values.get(kind, {}) for kind in COMPONENT_SECTIONS}
    metrics = config.values.get("metrics")
    chosen |= {("metrics", label): given for label, given in (metrics if isinstance(metrics, dict) else {}).items()}
    for path, given in chosen.items():
        kind = "metric" if len(path) > 1 else path[0]
        name = isinstance(given, dict) and given.get("name", path[-1] if kind == "metric" else DEFAULT_NAMES.get(kind))
        if not isinstance(name, str):
            continue
        try:
            entry = registry.get(kind, name)
            models = [entry.settings_model(), *([SHARED_SECTIONS[kind]] if kind in SHARED_SECTIONS else [])]
        except PtbError:
            continue
        defaults = [plain_values(model.model_construct()) for model in models]
        fields = [model.model_fields for model in models]
        yield path, {**_merged(defaults), **given, "name": entry.key}, _merged(fields)


def _merged(tables: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for table in tables for key, value in table.items()}


def _left_open(plan: "ResolvedConfig") -> list[str]:
    return [section for section in ("loss", "metrics") if getattr(plan, section) is None]


def _is_chosen(values: Any, path: tuple[str, ...]) -> bool:
    """Whether the value is no default; the label of a metric is its name too."""
    for part in path[:-1] if (path[0], path[-1]) == ("metrics", "name") else path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _check_new(file: Path) -> None:
    if file.suffix.lower() != ".toml":
        raise ConfigError(f"config init writes TOML with comments: the file's name must end in .toml, got '{file}'")
    if os.path.lexists(file):
        raise ConfigError(f"{file} is there already; name a new file")
