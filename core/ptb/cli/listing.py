"""``ptb list`` and ``ptb show``: what there is, and what each of it can be told."""

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from ptb.cli.options import (
    ComponentName,
    installed,
    json_option,
    plugin_options,
    stray_output_to_stderr,
    verbose_option,
)
from ptb.cli.text import columns, printable
from ptb.errors import PluginError, UnknownNameError, did_you_mean, listing
from ptb.kinds import KINDS

if TYPE_CHECKING:
    from ptb.registry.registry import RegisteredComponent, Registry


class Kind(click.ParamType[str]):
    """One of the seven kinds, completed by the shell; the registry refuses others."""

    name = "kind"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """The kinds that begin with ``incomplete``."""
        return click.Choice(KINDS).shell_complete(ctx, param, incomplete)


@click.command("list")
@click.argument("kind", type=Kind(), required=False)
@click.argument("glob", required=False)
@click.option("--plugin", metavar="DISTRIBUTION", help="Only what this plugin provides.")
@plugin_options
@verbose_option
@json_option
def list_components(kind: str | None, glob: str | None, plugin: str | None, as_json: bool, verbose: bool) -> None:
    """List the installed components.

    KIND is dataset, model, initializer, loss, optimizer, scheduler or metric; without it all are listed. GLOB is a
    pattern of names, such as '*net'.

    \b
    ptb list model
    ptb list '*entropy*'
    ptb list --plugin ptb-acme
    """  # noqa: D301  # click wants the backspace itself
    registry = installed()
    if kind is not None and glob is None and any(sign in kind for sign in "*?["):
        kind, glob = None, kind
    entries = registry.components(kind)
    if plugin is not None:
        name = _known_plugin(registry, plugin)
        entries = [entry for entry in entries if entry.plugin == name]
    if glob is not None:
        entries = [entry for entry in entries if fnmatchcase(entry.name, glob) or fnmatchcase(entry.id, glob)]
    if as_json:
        facts = ("kind", "name", "id", "plugin", "version", "status", "summary")
        rows = [{fact: getattr(entry, fact) for fact in facts} for entry in entries]
        click.echo(json.dumps({"schema": 1, "components": rows}))
        return
    if not entries:
        click.echo("nothing fits; `ptb list` without arguments lists everything", err=True)
        return
    header = ("KIND", "NAME", "PLUGIN", "STATUS", "SUMMARY")
    table = [(e.kind, e.name, f"{e.plugin} {e.version}", e.status, e.summary) for e in entries]
    click.echo(columns([header, *table]))


@click.command()
@click.argument("kind", type=Kind())
@click.argument("name", type=ComponentName())
@click.option("--schema", "as_schema", is_flag=True, help="Print the settings as JSON Schema.")
@plugin_options
@verbose_option
@json_option
def show(kind: str, name: str, as_schema: bool, as_json: bool, verbose: bool) -> None:
    """Show a component and its settings.

    \b
    ptb show model lenet
    """  # noqa: D301  # click wants the backspace itself
    entry = installed().get(kind, name)
    from ptb.config.sections import SHARED_SECTIONS
    from ptb.registry.settings import SettingRow, describe, json_schema  # an unknown name is told without pydantic

    try:
        with stray_output_to_stderr():  # a component without a settings model is imported for its signature
            model = entry.settings_model()
            own, schema = describe(model), json_schema(model)
    except PluginError as error:
        if as_schema or not entry.missing():
            raise
        if as_json:
            click.echo(json.dumps({"schema": 1, **_facts(entry), "settings": None}))
        else:
            click.echo(f"{_head(entry)}\n\nthe settings are those of the target, and {error}")
        return
    if as_schema:
        click.echo(json.dumps(schema, indent=2))
        return
    rows = own + (describe(SHARED_SECTIONS[kind]) if kind in SHARED_SECTIONS else [])
    if as_json:
        settings = [vars(row) for row in rows]
        click.echo(json.dumps({"schema": 1, **_facts(entry), "settings": settings}))
        return
    section = f"metrics.{entry.name}" if kind == "metric" else kind
    click.echo(_head(entry))
    if not rows:
        click.echo("\nno settings")
        return
    names = [f"{section}.{row.name}" for row in rows]
    header = SettingRow("SETTING", "TYPE", "BOUNDS", "DEFAULT", "DESCRIPTION")
    table = [(name, row.type, row.bounds, row.default, row.description) for name, row in zip(names, rows, strict=True)]
    click.echo("\n" + columns([tuple(vars(header).values()), *table]))


def _known_plugin(registry: "Registry", name: str) -> str:
    from ptb.registry.discovery import normalize

    names = [plugin.name for plugin in registry.plugins()]
    if normalize(name) not in names:
        raise UnknownNameError(f"unknown plugin '{name}'{did_you_mean(name, names)}; installed are {listing(names)}")
    return normalize(name)


def _facts(entry: "RegisteredComponent") -> dict[str, Any]:
    from ptb.runs.provenance import source_place

    record = entry.component
    plain = {
        fact: getattr(entry, fact)
        for fact in ("kind", "name", "id", "plugin", "version", "status", "summary", "target")
    }
    place = source_place(entry.target)
    plain |= {"file": None, "line": None} if place is None else {"file": str(place.file), "line": place.line}
    return plain | {fact: list(getattr(record, fact)) for fact in ("aliases", "accepts", "needs", "requires")}


def _head(entry: "RegisteredComponent") -> str:
    title = f"{entry.kind} {entry.name}: {entry.summary}" if entry.summary else f"{entry.kind} {entry.name}"
    return printable(title) + "\n" + columns([(f"{label}:", text) for label, text in _shown(entry)], indent="  ")


def _shown(entry: "RegisteredComponent") -> list[tuple[str, str]]:
    facts = _facts(entry)
    lines = [("id", entry.id), ("plugin", f"{entry.plugin} {entry.version}"), ("target", entry.target)]
    if facts["file"]:
        lines.append(("source", f"{facts['file']}:{facts['line']}"))
    if entry.status != "ok":
        lines.append(("status", entry.status))
    labels = {"aliases": "also called", "accepts": "takes targets", "needs": "needs", "requires": "requires"}
    return lines + [(label, ", ".join(facts[fact])) for fact, label in labels.items() if facts[fact]]
