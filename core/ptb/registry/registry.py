"""Every component and command that the installed plugins provide, findable by name; nothing is global.

Listing, looking up and failing to find import no target.
"""

import importlib
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ptb.errors import ConfigError, Problem, UnknownNameError, did_you_mean, listing, tidy
from ptb.kinds import KINDS
from ptb.registry.discovery import FoundPlugin, LoadedPlugin, RejectedPlugin, normalize
from ptb.registry.entry import RegisteredCommand, RegisteredComponent
from ptb.registry.local import found_locally, instead_of_code
from ptb.registry.selection import PluginRequest, Selection


@dataclass(frozen=True)
class PluginInfo:
    """One installed plugin.

    ``status`` is ``ok``, ``conflict`` (a name that it gives is not its alone), or why it is not used at all:
    ``failed``, ``incompatible``, ``disabled``.
    """

    name: str
    version: str
    status: str
    reason: str
    location: str  # the folder that it is imported from
    editable: bool  # that is a source folder, used in place
    components: int  # how many it provides
    commands: int


class Registry:
    """The components and commands of a set of plugins.

    Args:
        plugins: what ``load_plugin`` returned for each.
    """

    def __init__(self, plugins: Iterable[LoadedPlugin | RejectedPlugin]) -> None:
        self._plugins = tuple(plugins)
        loaded = [plugin for plugin in self._plugins if isinstance(plugin, LoadedPlugin)]
        components = [(kind, record, plugin.found) for plugin in loaded for kind, record in plugin.components]
        commands = [(record, plugin.found) for plugin in loaded for record in plugin.commands]
        owners: dict[tuple[str, str], list[FoundPlugin]] = defaultdict(list)
        for kind, component, found in components:
            for name in {component.name, *component.aliases}:
                owners[kind, name].append(found)
        for command, found in commands:
            owners["command", command.name].append(found)

        def others(found: FoundPlugin, kind: str, name: str) -> tuple[FoundPlugin, ...]:
            return tuple(owner for owner in owners[kind, name] if owner is not found)

        self._components = [
            RegisteredComponent(found, others(found, kind, record.name), kind, record)
            for kind, record, found in components
        ]
        self._commands = [
            RegisteredCommand(found, others(found, "command", record.name), record) for record, found in commands
        ]
        order = list(KINDS)
        self._components.sort(key=lambda entry: (order.index(entry.kind), entry.name, entry.plugin))
        self._commands.sort(key=lambda each: (each.command.name, not each.found.built_in, each.found.name))
        self._by_name: dict[tuple[str, str], list[RegisteredComponent]] = {}
        for entry in sorted(self._components, key=lambda entry: (not entry.found.built_in, entry.plugin)):
            for name in {entry.name, *entry.component.aliases}:
                self._by_name.setdefault((entry.kind, name), []).append(entry)

    def components(self, kind: str | None = None) -> list[RegisteredComponent]:
        """The components of one kind, or all, sorted by kind, name and plugin.

        Raises:
            UnknownNameError: there is no such kind.
        """
        if kind is not None:
            _check_kind(kind)
        return [entry for entry in self._components if kind in (None, entry.kind)]

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
        return list(self._commands)

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
        claims = self._by_name.get((kind, short), [])
        if colon:
            normal = normalize(distribution)  # the name of a file has one spelling
            claims = [entry for owner in (distribution, normal) for entry in claims if entry.plugin == owner][:1]
            unused = [plugin for plugin in self.rejected() if plugin.found.name == normal]
            if unused and not claims:
                why = f"plugin '{unused[0].found}' {unused[0].why}"
                raise UnknownNameError(f"{kind} '{normal}:{short}' cannot be used: {why}")
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
        from ptb.registry.settings import arguments, validate  # pydantic costs as much as `ptb list`

        entry = self.get(kind, name)
        try:
            checked = validate(entry.settings_model(), settings)
        except ConfigError as error:
            raise ConfigError(
                *(Problem(".".join(filter(None, (kind, p.key))), p.message) for p in error.problems)
            ) from None
        target = entry.load()
        return target(*runtime, **arguments(checked, target))

    def plugins(self) -> list[PluginInfo]:
        """Every installed plugin, those that are not used too; the built-in one first, then by name."""
        taken: dict[str, list[str]] = defaultdict(list)
        for each in (*self._components, *self._commands):
            if each.conflict:
                owners = listing(list(map(str, each.conflicts)))
                taken[each.found.name].append(f"{each.label} is also given by {owners}")
        return [_info(plugin, taken[plugin.found.name]) for plugin in self._plugins]

    def found(self) -> list[FoundPlugin]:
        """Every installed plugin as it was found, in the order of ``plugins``."""
        return [plugin.found for plugin in self._plugins]

    def rejected(self) -> list[RejectedPlugin]:
        """The plugins that are not used, with what they raised."""
        return [plugin for plugin in self._plugins if isinstance(plugin, RejectedPlugin)]

    def _unknown(self, kind: str, name: str) -> Problem:
        names = [entry.key if entry.conflict else entry.name for entry in self.components(kind)]
        answers = [n for (k, n) in self._by_name if k == kind] + names
        owner = name.rpartition(":")[0]
        absent = owner and owner not in [plugin.found.name for plugin in self._plugins]
        if (absent or not owner) and (hint := instead_of_code(kind, name)):
            return Problem("", f"'{tidy(name, 60)}' is no name of a {kind}{hint}")
        message = f"unknown {kind} '{name}'{did_you_mean(name, answers)}"
        if others := [k for k in KINDS if (k, name) in self._by_name]:
            message += f"; '{name}' is a {' and a '.join(others)}"
        message += f"; available: {listing(names)}" if names else f"; no plugin provides a {kind}"
        if absent:
            message += f"; there is no plugin '{owner}': install it, or give it to ptb.load_registry(plugins=[...])"
        rejected = [f"'{p.found}' ({'failed to load' if p.status == 'failed' else p.status})" for p in self.rejected()]
        if rejected:
            message += f"; perhaps a plugin that is not used provides it: {listing(rejected, 5)}"
        return Problem("", message)


def load_registry(
    *,
    only: Sequence[str] | None = None,
    disable: Sequence[str] = (),
    require: Sequence[str] = (),
    strict: bool = False,
    plugins: Sequence[object] = (),
) -> Registry:
    """A fresh registry of what is installed; plugins that cannot be used are listed by ``Registry.plugins``.

    Call it again in a notebook after a plugin was installed. The environment variables ``PTB_PLUGINS`` and
    ``PTB_STRICT_PLUGINS`` count too.

    Args:
        only: names of the plugins that may take part beside the built-in one; None is all.
        disable: names of those that may not; they are not imported.
        require: PEP 508 requirements of plugins, such as ``"ptb-acme>=1.2"``.
        strict: a plugin that cannot be loaded is an error.
        plugins: more that are not installed: paths of Python files, modules, and objects or classes whose methods are
            hooks. Their components name classes of a notebook as ``f"{__name__}:MyNet"``.

    Raises:
        ConfigError: there is no plugin of such a name, or no such file.
        PluginError: a required plugin is missing or has another version; one of ``plugins`` cannot be loaded, or, if
            strict, any other.
        TypeError: names are given as something else than a sequence of strings.
    """
    for argument, names in (("only", only), ("disable", disable), ("require", require)):
        if isinstance(names, str) or not all(isinstance(name, str) for name in names or ()):
            raise TypeError(f"{argument} must be a list of strings, got {names!r}")
    if isinstance(plugins, str):
        raise TypeError(f"plugins must be a list, got {plugins!r}")
    importlib.invalidate_caches()  # what was installed a moment ago is found too
    wanted = Selection(
        None if only is None else tuple(map(PluginRequest, only)),
        tuple(map(PluginRequest, disable)),
        tuple(map(PluginRequest, require)),
        strict,
        tuple(map(found_locally, plugins)),
    )
    return load_selected(wanted)


def load_selected(selection: Selection) -> Registry:
    """The registry of the installed plugins that ``selection`` and the environment leave."""
    return Registry((Selection.of_environment() + selection).load())


def _info(plugin: LoadedPlugin | RejectedPlugin, taken: list[str]) -> PluginInfo:
    found = plugin.found
    if isinstance(plugin, RejectedPlugin):
        status, reason, counts = plugin.status, plugin.reason, (0, 0)
    else:
        status, reason = "conflict" if taken else "ok", "; ".join(taken)
        counts = (len(plugin.components), len(plugin.commands))
    return PluginInfo(found.name, found.version, status, reason, found.location, found.editable, *counts)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UnknownNameError(f"unknown kind '{kind}'{did_you_mean(kind, KINDS)}; kinds are {', '.join(KINDS)}")
