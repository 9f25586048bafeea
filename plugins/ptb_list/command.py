"""``ptb list`` and ``ptb show``: the installed components and their settings. ``ptb plugins list``: the plugins."""

import json
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from ptb import PluginError, UnknownNameError, json_option, verbose_option
from ptb.internals import (
    KINDS,
    ComponentName,
    columns,
    did_you_mean,
    installed,
    listing,
    plugin_options,
    printable,
    stray_output_to_stderr,
)
from ptb_list.source import find_source

if TYPE_CHECKING:
    from ptb import Registry
    from ptb.internals import RegisteredComponent


def _kinds(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """What the shell completes to a kind; the registry refuses unknown ones."""
    return [kind for kind in KINDS if kind.startswith(incomplete)]


@click.command("list", epilog=f"The kinds are {', '.join(KINDS)}.")
@click.argument("kind", shell_complete=_kinds, required=False)
@click.argument("glob", required=False)
@click.option("--plugin", metavar="DISTRIBUTION", help="Only the components of this plugin.")
@plugin_options
@verbose_option
@json_option
def list_components(kind: str | None, glob: str | None, plugin: str | None, as_json: bool, verbose: bool) -> None:
    """List the installed components.

    KIND is one of the kinds below; without it all are listed. GLOB is a pattern of names, such as '*net'.

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
        click.echo("no component matches; `ptb list` without arguments lists all", err=True)
        return
    header = ("KIND", "NAME", "PLUGIN", "STATUS", "SUMMARY")
    table = [(e.kind, e.name, str(e.found), e.status, e.summary) for e in entries]
    click.echo(columns([header, *table]))


@click.command()
@click.argument("kind", shell_complete=_kinds)
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
    from ptb.internals import SHARED_SECTIONS
    from ptb_list.describe import SettingRow, describe, json_schema  # imports pydantic, which takes time

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
            click.echo(f"{_head(entry)}\n\nthe settings are read from the target, and {error}")
        return
    if as_schema:
        click.echo(json.dumps(schema, indent=2))
        return
    rows = own + (describe(SHARED_SECTIONS[kind]) if kind in SHARED_SECTIONS else [])
    if as_json:
        settings = [vars(row) for row in rows]
        click.echo(json.dumps({"schema": 1, **_facts(entry), "settings": settings}))
        return
    section = f"{KINDS[kind].section}.{entry.name}." if KINDS[kind].labelled else f"{KINDS[kind].section}."
    click.echo(_head(entry))
    note = f"\n\n{model.__doc__}" if entry.component.settings is None and model.__doc__ else ""
    if not rows:
        click.echo(f"\nno settings{note}")
        return
    names = [(section + row.name).removeprefix(".") for row in rows]
    header = SettingRow("SETTING", "TYPE", "BOUNDS", "DEFAULT", "DESCRIPTION")
    table = [(name, row.type, row.bounds, row.default, row.description) for name, row in zip(names, rows, strict=True)]
    click.echo("\n" + columns([tuple(vars(header).values()), *table]) + note)


@click.group()
def plugins() -> None:
    """See, check, write and diagnose plugins."""


@click.command("list")
@plugin_options
@verbose_option
@json_option
def list_plugins(as_json: bool, verbose: bool) -> None:
    """List every installed plugin.

    Those that are not used are listed too, with the reason.

    \b
    ok            in use
    conflict      in use, but another plugin gives one of its names too
    failed        raised, or broke the contract
    incompatible  needs another version of ptb
    disabled      not used, on request
    """  # noqa: D301  # click wants the backspace itself
    found = installed().plugins()
    if as_json:
        click.echo(json.dumps({"schema": 1, "plugins": [asdict(plugin) for plugin in found]}))
        return
    header = ("NAME", "VERSION", "STATUS", "COMPONENTS", "COMMANDS", "LOCATION", "REASON")
    table = [
        (
            *(p.name, p.version, p.status, str(p.components), str(p.commands)),
            f"{p.location}{' (editable)' * p.editable}",
            p.reason,
        )
        for p in found
    ]
    click.echo(columns([header, *table]))


def _known_plugin(registry: "Registry", name: str) -> str:
    from ptb.internals import normalize

    names = [plugin.name for plugin in registry.plugins()]
    if normalize(name) not in names:
        raise UnknownNameError(f"unknown plugin '{name}'{did_you_mean(name, names)}; installed are {listing(names)}")
    return normalize(name)


def _facts(entry: "RegisteredComponent") -> dict[str, Any]:
    record = entry.component
    plain = {
        fact: getattr(entry, fact)
        for fact in ("kind", "name", "id", "plugin", "version", "status", "summary", "target")
    }
    file, line = find_source(entry.target) or (None, None)
    plain |= {"file": file and str(file), "line": line}
    listed = ("aliases", "accepts", "needs", "requires", "default_for", "before", "after")
    plain |= {fact: list(getattr(record, fact)) for fact in listed}
    return plain | {"role": record.role, "better": record.better}


def _head(entry: "RegisteredComponent") -> str:
    title = f"{entry.kind} {entry.name}: {entry.summary}" if entry.summary else f"{entry.kind} {entry.name}"
    return printable(title) + "\n" + columns([(f"{label}:", text) for label, text in _shown(entry)], indent="  ")


def _shown(entry: "RegisteredComponent") -> list[tuple[str, str]]:
    facts = _facts(entry)
    lines = [("id", entry.id), ("plugin", str(entry.found)), ("target", entry.target)]
    if facts["file"]:
        lines.append(("source", f"{facts['file']}:{facts['line']}"))
    if entry.status != "ok":
        lines.append(("status", entry.status))
    labels = {"aliases": "also called", "accepts": "takes targets", "needs": "needs", "requires": "requires"}
    labels |= {"default_for": "default for", "role": "role", "before": "before", "after": "after", "better": "better"}
    return lines + [(label, _text(facts[fact])) for fact, label in labels.items() if facts[fact]]


def _text(value: str | list[str] | dict[str, str]) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{figure}: {better}" for figure, better in value.items())
    return value if isinstance(value, str) else ", ".join(value)
