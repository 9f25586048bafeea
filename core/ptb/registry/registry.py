"""Every component and command that the installed plugins provide, findable by name; nothing is global.

Listing, looking up and failing to find import no target.
"""

import importlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ptb.errors import ConfigError, Problem, UnknownNameError, did_you_mean, listing
from ptb.kinds import KINDS
from ptb.registry.discovery import FoundPlugin, LoadedPlugin, RejectedPlugin, normalize
from ptb.registry.entry import RegisteredCommand, RegisteredComponent
from ptb.registry.selection import PluginRequest, Selection


@dataclass(frozen=True)
class PluginInfo:
    """One installed plugin.

    Args:
        name: of its distribution.
        version: of its distribution.
        status: ``ok``; ``conflict`` (a name that it gives is not its alone); or it is not used at all: ``failed``,
            ``incompatible``, ``disabled``.
        reason: why, where the status is not ``ok``.
        location: the folder that it is imported from.
        editable: whether that is a source folder, used in place.
        components: how many it provides.
        commands: how many it provides.
    """

    name: str
    version: str
    status: str
    reason: str
    location: str
    editable: bool
    components: int
    commands: int


class Registry:
    """The components and commands of a set of plugins.

    Args:
        plugins: what ``Selection.load`` or ``discovery.load_plugin`` returned.
        find: lists the plugins again; called by ``refresh``.
    """

    def __init__(
        self,
        plugins: Iterable[LoadedPlugin | RejectedPlugin],
        find: Callable[[], Iterable[LoadedPlugin | RejectedPlugin]] | None = None,
    ) -> None:
        self._find = find
        self._index = _Index(plugins)

    def refresh(self) -> None:
        """Looks again at what is installed, for a notebook in which a plugin was installed just now.

        What has been imported stays as it is: a plugin of which another version is installed meanwhile is kept with
        the version that is loaded. A registry that was made of given plugins has nothing to look at, and stays as it
        is too.

        Warns:
            UserWarning: another version of a loaded plugin is installed: it takes a new process to use it.

        Raises:
            PtbError: as ``load_registry``; the registry is then as before.
        """
        if self._find is None:
            return
        importlib.invalidate_caches()
        loaded = {p.found.name: p for p in self._index.plugins if isinstance(p, LoadedPlugin)}
        plugins = list(self._find())
        for number, plugin in enumerate(plugins):
            before = loaded.get(plugin.found.name)
            if isinstance(plugin, LoadedPlugin) and before and before.found.version != plugin.found.version:
                plugins[number] = before
                now = f"is loaded, installed is now {plugin.found.version}"
                warnings.warn(
                    f"plugin '{before.found}' {now}: to use that, start Python (the kernel) again", stacklevel=2
                )
        self._index = _Index(plugins)

    def components(self, kind: str | None = None) -> list[RegisteredComponent]:
        """The components of one kind, or all, sorted by kind, name and plugin.

        Raises:
            UnknownNameError: there is no such kind.
        """
        if kind is not None:
            _check_kind(kind)
        return [entry for entry in self._index.entries if kind in (None, entry.kind)]

    def defaults(self, kind: str, target_kind: str | None = None) -> list[RegisteredComponent]:
        """The components that a run takes where none of the kind is named.

        Args:
            kind: ``"loss"``, for example.
            target_kind: of the data set; None gives those that are for every target kind.

        Returns:
            Those of the built-in plugin only: installing a plugin changes no run.
        """
        wanted = {"*", target_kind}
        entries = [entry for entry in self.components(kind) if entry.found.built_in]
        return [entry for entry in entries if wanted.intersection(entry.component.default_for)]

    def commands(self) -> list[RegisteredCommand]:
        """The commands, sorted by name and plugin, the built-in one of a name first."""
        return list(self._index.commands)

    def get(self, kind: str, name: str) -> RegisteredComponent:
        """The component of a short name, an alias or an id.

        Warns:
            UserWarning: the short name of a built-in component is given by another plugin too.

        Raises:
            UnknownNameError: nothing answers to it; the message suggests and lists, and has imported nothing.
            ConfigError: several plugins claim the short name; the message names their ids.
        """
        _check_kind(kind)
        distribution, colon, short = name.rpartition(":")
        if colon:
            name = f"{normalize(distribution)}:{short}"
            if (kind, name) in self._index.by_id:
                return self._index.by_id[kind, name]
            for plugin in self.rejected():
                if f"{plugin.found.name}:{short}" == name:
                    hint = "; to use it, leave that out" if plugin.status == "disabled" else ""
                    raise UnknownNameError(
                        f"{kind} '{name}' cannot be used: plugin '{plugin.found}' {plugin.why}{hint}"
                    )
        claims = self._index.by_name.get((kind, name), [])
        if not claims:
            raise UnknownNameError(self._unknown(kind, name))
        third_party = [entry for entry in claims if not entry.found.built_in]
        if third_party and len(claims) > 1:
            owners = ", ".join(f"'{entry.id}' ({entry.found})" for entry in third_party)
            settle = f'settle it in a config file: [resolve] {kind}.{name} = "{third_party[0].id}"'
            if not claims[0].found.built_in:
                message = f"{kind} '{name}' is provided by {len(claims)} plugins: {owners}"
                raise ConfigError(f"{message}; give the full id, or {settle}")
            message = f"{kind} '{name}' is the built-in one; the name is also that of {owners}"
            warnings.warn(f"{message}; to choose, give the full id, or {settle}", stacklevel=2)
        return claims[0]

    def build(self, kind: str, name: str, /, *runtime: Any, **settings: Any) -> Any:
        """Validates the settings and calls the target: ``target(*runtime, **settings)``.

        Raises:
            ConfigError: the settings do not fit.
            PluginError: the target cannot be imported.
        """
        from ptb.registry.settings import SettingsError, arguments, validate  # pydantic costs as much as `ptb list`

        entry = self.get(kind, name)
        try:
            checked = validate(entry.settings_model(), settings)
        except SettingsError as error:
            raise ConfigError(
                *(Problem(".".join(filter(None, (kind, p.key))), p.message) for p in error.problems)
            ) from None
        return entry.load()(*runtime, **arguments(checked))

    def plugins(self) -> list[PluginInfo]:
        """Every installed plugin, those that are not used too; the built-in one first, then by name."""
        return [self._index.info(plugin) for plugin in self._index.plugins]

    def found(self) -> list[FoundPlugin]:
        """Every installed plugin as it was found, in the order of ``plugins``."""
        return [plugin.found for plugin in self._index.plugins]

    def rejected(self) -> list[RejectedPlugin]:
        """The plugins that are not used, with what they raised."""
        return [plugin for plugin in self._index.plugins if isinstance(plugin, RejectedPlugin)]

    def _unknown(self, kind: str, name: str) -> Problem:
        names = [entry.key if entry.conflict else entry.name for entry in self.components(kind)]
        answers = [n for (k, n) in self._index.by_name if k == kind] + names
        message = f"unknown {kind} '{name}'{did_you_mean(name, answers)}"
        if others := [k for k in KINDS if (k, name) in self._index.by_name]:
            message += f"; '{name}' is a {' and a '.join(others)}"
        message += f"; available: {listing(names)}" if names else f"; no plugin provides a {kind}"
        rejected = [f"'{p.found}' ({'failed to load' if p.status == 'failed' else p.status})" for p in self.rejected()]
        if rejected:
            message += f"; perhaps a plugin that is not used provides it: {listing(rejected, 5)}"
        return Problem("", message)


class _Index:
    """What a registry knows, found and sorted once; a refresh replaces it whole, so threads see one or the other."""

    def __init__(self, plugins: Iterable[LoadedPlugin | RejectedPlugin]) -> None:
        self.plugins = tuple(plugins)
        loaded = [plugin for plugin in self.plugins if isinstance(plugin, LoadedPlugin)]
        owners: dict[tuple[str, str], list[FoundPlugin]] = {}
        for plugin in loaded:
            for kind, component in plugin.components:
                for name in dict.fromkeys((component.name, *component.aliases)):
                    owners.setdefault((kind, name), []).append(plugin.found)
            for command in plugin.commands:
                owners.setdefault(("command", command.name), []).append(plugin.found)

        def others(plugin: LoadedPlugin, kind: str, name: str) -> tuple[FoundPlugin, ...]:
            return tuple(found for found in owners[kind, name] if found is not plugin.found)

        self.entries = [
            RegisteredComponent(kind, component, plugin.found, others(plugin, kind, component.name))
            for plugin in loaded
            for kind, component in plugin.components
        ]
        self.commands = [
            RegisteredCommand(command, plugin.found, others(plugin, "command", command.name))
            for plugin in loaded
            for command in plugin.commands
        ]
        order = {kind: place for place, kind in enumerate(KINDS)}
        self.entries.sort(key=lambda entry: (order[entry.kind], entry.name, entry.plugin))
        self.commands.sort(key=lambda each: (each.command.name, not each.found.built_in, each.found.name))
        self.by_name: dict[tuple[str, str], list[RegisteredComponent]] = {}
        self.by_id: dict[tuple[str, str], RegisteredComponent] = {}
        for entry in sorted(self.entries, key=lambda entry: (not entry.found.built_in, entry.plugin)):
            for name in dict.fromkeys((entry.name, *entry.component.aliases)):
                self.by_name.setdefault((entry.kind, name), []).append(entry)
                self.by_id[entry.kind, f"{entry.plugin}:{name}"] = entry

        self.conflicts: dict[str, list[str]] = {}
        named: list[tuple[str, RegisteredComponent | RegisteredCommand]] = []
        named += [(f"{entry.kind} '{entry.name}'", entry) for entry in self.entries]
        named += [(f"command '{each.command.name}'", each) for each in self.commands]
        for what, each in named:
            if each.conflict:
                also = f"{what} is also given by {listing(list(map(str, each.conflicts)))}"
                self.conflicts.setdefault(each.found.name, []).append(also)

    def info(self, plugin: LoadedPlugin | RejectedPlugin) -> PluginInfo:
        found = plugin.found
        if isinstance(plugin, RejectedPlugin):
            status, reason, counts = plugin.status, plugin.reason, (0, 0)
        else:
            reason = "; ".join(self.conflicts.get(found.name, ()))
            status, counts = "conflict" if reason else "ok", (len(plugin.components), len(plugin.commands))
        return PluginInfo(found.name, found.version, status, reason, found.location, found.editable, *counts)


def load_registry(
    *, only: Sequence[str] | None = None, disable: Sequence[str] = (), require: Sequence[str] = (), strict: bool = False
) -> Registry:
    """A fresh registry of what is installed; plugins that cannot be used are listed by ``Registry.plugins``.

    The environment variables ``PTB_PLUGINS`` and ``PTB_STRICT_PLUGINS`` count too.

    Args:
        only: names of the plugins that may take part beside the built-in one; None is all.
        disable: names of those that may not; they are not imported.
        require: PEP 508 requirements of plugins, such as ``"ptb-acme>=1.2"``.
        strict: a plugin that cannot be loaded is an error.

    Raises:
        ConfigError: there is no plugin of such a name.
        PluginError: a required plugin is missing or has another version; or, if strict, one cannot be loaded.
        TypeError: names are given as something else than a sequence of strings.
    """
    for argument, names in (("only", only), ("disable", disable), ("require", require)):
        if isinstance(names, str) or not all(isinstance(name, str) for name in names or ()):
            raise TypeError(f"{argument} must be a list of strings, got {names!r}")
    wanted = Selection(
        None if only is None else tuple(map(PluginRequest, only)),
        tuple(map(PluginRequest, disable)),
        tuple(map(PluginRequest, require)),
        strict,
    )
    return load_selected(wanted)


def load_selected(selection: Selection) -> Registry:
    """The registry of the installed plugins that ``selection`` and the environment leave."""

    def find() -> list[LoadedPlugin | RejectedPlugin]:
        return (Selection.of_environment() + selection).load()

    return Registry(find(), find)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UnknownNameError(f"unknown kind '{kind}'{did_you_mean(kind, KINDS)}; kinds are {', '.join(KINDS)}")
