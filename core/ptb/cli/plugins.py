"""``ptb plugins``: what is installed, from where, and whether it is used."""

import json
from dataclasses import asdict

import click

from ptb.cli.commands import OpenGroup
from ptb.cli.options import installed, json_option, plugin_options, verbose_option
from ptb.cli.text import columns


@click.group(cls=OpenGroup)
def plugins() -> None:
    """See, check, write and diagnose plugins."""


@plugins.command("list")
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
