"""The commands that plugins provide: listed from their records, imported when somebody uses them.

A name is looked for among the core's own commands, which loads no plugin; then among those of the built-in plugin,
which loads that one alone; then among those of all plugins. So a broken plugin cannot hide a command of ptb.
"""

import copy
from collections.abc import Container
from typing import TYPE_CHECKING, Any

import click

from ptb.cli.errors import COMMAND, warn
from ptb.cli.options import asked_selection, stray_output_to_stderr
from ptb.cli.text import printable
from ptb.errors import PluginError, PtbError, did_you_mean, listing

if TYPE_CHECKING:
    from ptb.registry.discovery import RejectedPlugin
    from ptb.registry.entry import RegisteredCommand
    from ptb.registry.registry import Registry

REGISTRY = "ptb.registry"
_BUILT_IN = "ptb.built-in"


class OpenGroup(click.Group):
    """A group into which plugins may put commands; its own come first."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; None where there is none."""
        return (
            super().get_command(ctx, cmd_name)
            or self._table(ctx, _built_in_commands(ctx)).get(cmd_name)
            or self._provided(ctx).get(cmd_name)
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, those of plugins too; imports no command of theirs."""
        return sorted({*super().list_commands(ctx), *self._provided(ctx, lenient=True)})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that ``args`` begin with; a ``UsageError`` where there is none of this name, or several."""
        word = args[0]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if word.startswith("-"):
                raise
        names = self.list_commands(ctx)
        if ids := [name for name in names if name.partition(":")[2] == word]:
            raise click.UsageError(f"'{word}' is a command of {len(ids)} plugins; type one of {listing(ids)}", ctx)
        message = f"No such command '{word}'{did_you_mean(word, names)}"
        if failed := [f"'{plugin.found}' {plugin.why}" for plugin in _unusable(ctx)]:
            message += f"; perhaps a plugin that cannot be used has it: {listing(failed, 5)}"
        raise click.UsageError(message, ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands, and the plugins that cannot be used with the reason."""
        super().format_commands(ctx, formatter)
        if unusable := _unusable(ctx):
            with formatter.section("Plugins that cannot be used"):
                formatter.write_dl([(str(plugin.found), printable(plugin.why)) for plugin in unusable])
        for typed, command in self._provided(ctx).items():
            if not isinstance(command, PluginCommand) or typed == command.record.word:
                continue
            record = command.record
            if not record.conflicts or any(found.built_in for found in record.conflicts):  # it was there before
                warn(
                    f"plugin '{record.found}' has a command '{record.command.name}', whose name is taken: the other "
                    f"one stays; to use that of the plugin, type: {ctx.command_path} {record.id}"
                )
        for record in _registry(ctx).commands() if ctx.parent is None else ():
            if (own := super().get_command(ctx, record.group)) and not isinstance(own, click.Group):
                warn(f"{record} cannot be used: '{record.group}' is a command, and no group")

    def _provided(self, ctx: click.Context, lenient: bool = False) -> dict[str, click.Command]:
        """What plugins put into this group, by what is typed for it."""
        key = f"{REGISTRY}.{ctx.command_path}"
        if key not in ctx.meta:
            ctx.meta[key] = self._table(ctx, _registry(ctx, lenient).commands())
        table: dict[str, click.Command] = ctx.meta[key]
        return table

    def _table(self, ctx: click.Context, records: "list[RegisteredCommand]") -> dict[str, click.Command]:
        if ctx.parent is not None and ctx.parent.parent is not None:  # a name has two words at most
            return {}
        group = ctx.info_name or "" if ctx.parent else ""
        return _commands_of(group, records, super().list_commands(ctx))


class PluginCommand(click.Command):
    """Stands for the command that a record names, until somebody uses it."""

    def __init__(self, record: "RegisteredCommand") -> None:
        text = record.command.summary if record.found.built_in else f"{record.command.summary} ({record.found})"
        super().__init__(record.word, short_help=printable(text.strip()))
        self.record = record

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Imports the command; the rest is its own."""
        try:
            command = self.load()
        except PtbError:
            if not extra.get("resilient_parsing"):
                raise
            return super().make_context(info_name, args, parent, **extra)  # the shell completes nothing for it
        if parent is not None:
            parent.meta[COMMAND] = self.record
        return command.make_context(info_name, args, parent, **extra)

    def load(self) -> click.Command:
        """The command itself; a group lets other plugins put commands into it."""
        with stray_output_to_stderr():
            target: object = self.record.load()
        if not isinstance(target, click.Command):
            what = f"target {self.record.command.target!r} must be a click.Command"
            raise PluginError(f"{self.record}: {what}, it is a {type(target).__name__}")
        if isinstance(target, click.Group) and not isinstance(target, OpenGroup):
            target = copy.copy(target)
            target.__class__ = type("OpenGroup", (OpenGroup, type(target)), {})
        return target


def _commands_of(group: str, records: "list[RegisteredCommand]", own: Container[str]) -> dict[str, click.Command]:
    """The commands in a group by what is typed for them: the name, or an id where the name is taken."""
    inner: dict[str, list[RegisteredCommand]] = {}
    for record in records if not group else ():
        inner.setdefault(record.group, []).append(record)
    inner.pop("", None)
    table: dict[str, click.Command] = {}
    for record in records:
        if record.group == group:
            reserved = record.word in own or any(other.found.built_in for other in inner.get(record.word, ()))
            free = record.found.built_in or not (record.conflict or reserved)
            table[record.word if free else record.id] = PluginCommand(record)
    for name, members in inner.items():  # a group that only plugins fill
        if name not in own and name not in table:
            words = sorted({member.word for member in members})
            table[name] = OpenGroup(name, help=f"Commands of plugins: {listing(words, 5)}.")
    return table


def _registry(ctx: click.Context, lenient: bool = False) -> "Registry":
    """The registry of all plugins, loaded once; ``lenient``: one that cannot be loaded is no error here."""
    if REGISTRY not in ctx.meta:
        from dataclasses import replace

        from ptb.registry.registry import Registry
        from ptb.registry.selection import Selection

        wanted = Selection.of_environment() + asked_selection(ctx)
        lenient = lenient or ctx.resilient_parsing
        with stray_output_to_stderr():
            ctx.meta[REGISTRY] = Registry(replace(wanted, strict=wanted.strict and not lenient).load())
    registry: Registry = ctx.meta[REGISTRY]
    return registry


def _unusable(ctx: click.Context) -> "list[RejectedPlugin]":
    """The plugins that would be used, and cannot be."""
    return [plugin for plugin in _registry(ctx).rejected() if plugin.status != "disabled"]


def _built_in_commands(ctx: click.Context) -> "list[RegisteredCommand]":
    """Those of the built-in plugin, for which no other one is loaded."""
    if REGISTRY in ctx.meta:
        return []
    if _BUILT_IN not in ctx.meta:
        from importlib.metadata import distributions

        from ptb.registry.discovery import BUILT_IN, find_plugins, load_plugin
        from ptb.registry.registry import Registry

        ctx.meta[_BUILT_IN] = Registry(map(load_plugin, find_plugins(distributions(name=BUILT_IN))[:1])).commands()
    records: list[RegisteredCommand] = ctx.meta[_BUILT_IN]
    return records
