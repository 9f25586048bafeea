"""``ptb plugins``: what is installed, from where, and whether it is used."""

import json
from dataclasses import asdict

import click

from ptb.cli.options import installed, json_option, plugin_options, refuse_plugin_options, verbose_option
from ptb.cli.text import columns, printable
from ptb_doctor.command import bisect, doctor
from ptb_testing.command import check, new


@click.group()
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
    disabled      left out on request
    """  # noqa: D301  # click wants the backspace itself
    found = installed().plugins()
    if as_json:
        click.echo(json.dumps({"schema": 1, "plugins": [asdict(plugin) for plugin in found]}))
        return
    header = ("NAME", "VERSION", "STATUS", "COMPONENTS", "LOCATION", "REASON")
    table = [
        (p.name, p.version, p.status, str(p.components), f"{p.location}{' (editable)' * p.editable}", p.reason)
        for p in found
    ]
    click.echo(columns([header, *table]))


@plugins.command()
def freeze() -> None:
    """Print the pip requirements of all plugins.

    Those that cannot be used are among them; one that pip cannot install by its metadata is a comment. Passwords in
    URLs are left out. Nothing is imported.

    \b
    ptb plugins freeze > plugins.txt
    python -m pip install -r plugins.txt
    """  # noqa: D301  # click wants the backspace itself
    refuse_plugin_options("freeze prints all plugins and loads none")
    from ptb.registry.discovery import find_plugins
    from ptb.runs.provenance import requirement

    for plugin in find_plugins():
        if not plugin.built_in:
            click.echo(printable(requirement(plugin)))


for command in (new, check, doctor, bisect):
    plugins.add_command(command)
