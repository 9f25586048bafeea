"""Every component that the installed plugins provide, findable by kind and name; nothing is global.

Listing, looking up and failing to find import no target. Only ``Entry.load`` does, and ``Entry.settings_model`` for a
component that names no settings model.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ptb.errors import ConfigError, PluginError, Problem, UnknownNameError, did_you_mean, listing, one_line
from ptb.kinds import KINDS
from ptb.registry.component import Component
from ptb.registry.discovery import FoundPlugin, LoadedPlugin, RejectedPlugin, normalize
from ptb.registry.selection import PluginRequest, Selection

if TYPE_CHECKING:
    from pydantic import BaseModel


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
    """

    name: str
    version: str
    status: str
    reason: str
    location: str
    editable: bool
    components: int


@dataclass(frozen=True)
class RegisteredComponent:
    """One component together with the plugin it came from; ``conflicts`` are plugins that give the same name."""

    kind: str
    component: Component
    found: FoundPlugin
    conflicts: tuple[FoundPlugin, ...] = ()

    @property
    def name(self) -> str:
        """The short name."""
        return self.component.name

    @property
    def plugin(self) -> str:
        """The distribution that provides it."""
        return self.found.name

    @property
    def version(self) -> str:
        """The version of that distribution."""
        return self.found.version

    @property
    def id(self) -> str:
        """``DISTRIBUTION:NAME``, which is never ambiguous."""
        return f"{self.plugin}:{self.name}"

    @property
    def key(self) -> str:
        """How a config file names it for good: a built-in by its short name while that is its alone, else by id."""
        return self.name if self.found.built_in and not self.conflicts else self.id

    @property
    def conflict(self) -> bool:
        """Whether the short name does not lead here: another plugin gives it too, and this one is not built in."""
        return bool(self.conflicts) and not self.found.built_in

    @property
    def target(self) -> str:
        """``"package.module:attribute"``."""
        return self.component.target

    @property
    def summary(self) -> str:
        """One line about it."""
        return self.component.summary

    @property
    def status(self) -> str:
        """``ok``, ``conflict`` (the short name is not its alone) or ``needs X`` (a missing dependency)."""
        missing = self.missing()
        return "conflict" if self.conflict else f"needs {', '.join(missing)}" if missing else "ok"

    def missing(self) -> list[str]:
        """Those of the component's ``requires`` that this interpreter does not meet, read from metadata."""
        return [text for text in self.component.requires if not _is_met(text)]

    def settings_model(self) -> "type[BaseModel]":
        """The pydantic model of its settings.

        Raises:
            PluginError: the named model cannot be imported or is none, or the target's parameters make none.
        """
        from pydantic import BaseModel  # costs as much as all of ``ptb list``

        from ptb.registry.settings import check_names, derive_model

        if self.component.settings is None:
            target = self.load()
            try:
                return derive_model(self.kind, f"'{self.id}'", target)
            except PluginError:
                raise
            except Exception as error:  # a stranger's annotations may raise anything when they are read
                raise PluginError(f"{self}: its settings cannot be read off its target: {one_line(error)}") from error
        model = self._resolve(self.component.settings)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise PluginError(f"{self}: settings {self.component.settings!r} is not a pydantic model")
        check_names(str(self), [*model.model_fields, *model.__private_attributes__])
        if aliased := [name for name, field in model.model_fields.items() if field.validation_alias]:
            raise PluginError(f"{self}: a setting has one name only, take the alias away from {listing(aliased)}")
        return model

    def load(self) -> Callable[..., Any]:
        """Imports the target.

        Raises:
            PluginError: a dependency is missing, or the import fails; the original exception is the cause.
        """
        self.check_dependencies()
        target = self._resolve(self.component.target)
        if not callable(target):
            raise PluginError(f"{self}: target {self.component.target!r} cannot be called")
        return target  # type: ignore[no-any-return]  # a stranger's object: callable is all that is known

    def check_dependencies(self) -> None:
        """Looks at the metadata of what it requires.

        Raises:
            PluginError: something is missing; the message has the line that installs it.
        """
        if missing := self.missing():
            raise PluginError(
                f"{self} needs {', '.join(missing)}, which is not installed; run\n  {sys.executable} -m pip install "
                + self._install_arguments(missing)
            )

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' ({self.plugin} {self.version})"

    def _resolve(self, reference: str) -> Any:
        module, _, path = reference.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for attribute in path.split("."):
                found = getattr(found, attribute)
        except (Exception, SystemExit) as error:  # a stranger's module may raise anything
            raise PluginError(f"{self}: importing {reference} failed: {one_line(error)}") from error
        return found

    def _install_arguments(self, missing: list[str]) -> str:
        if self.component.extra:
            return f"'{self.plugin}[{self.component.extra}]'"
        return " ".join(f"'{text}'" for text in missing)


class Registry:
    """The components of a set of loaded plugins.

    Args:
        plugins: what ``Selection.load`` or ``discovery.load_plugin`` returned.
        find: gives them anew, for ``refresh``.
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
        """The entries of one kind, or all, sorted by kind, name and plugin.

        Raises:
            UnknownNameError: there is no such kind.
        """
        entries = self._index.entries
        if kind is None:
            return list(entries)
        _check_kind(kind)
        return [entry for entry in entries if entry.kind == kind]

    def get(self, kind: str, name: str) -> RegisteredComponent:
        """The entry of a short name, an alias or an id.

        Warns:
            UserWarning: the short name of a built-in component is given by another plugin too.

        Raises:
            UnknownNameError: nothing answers to it; the message suggests and lists, and has imported nothing.
            ConfigError: several plugins claim the short name; the message names their ids.
        """
        _check_kind(kind)
        index = self._index
        distribution, colon, short = name.rpartition(":")
        if colon:
            name = f"{normalize(distribution)}:{short}"
            if (kind, name) in index.by_id:
                return index.by_id[kind, name]
            if aside := [plugin for plugin in self.set_aside() if f"{plugin.found.name}:{short}" == name]:
                raise UnknownNameError(f"{kind} '{name}' cannot be used: {_why_not(aside[0])}")
        claims = index.by_name.get((kind, name), [])
        strangers = [entry for entry in claims if not entry.found.built_in]
        owners = ", ".join(f"'{entry.id}' ({entry.found})" for entry in strangers)
        if strangers and len(claims) > 1:
            choose = f'give the full id, or settle it in a config file: [resolve] {kind}.{name} = "{strangers[0].id}"'
            if claims[0].found.built_in:
                told = f"{kind} '{name}' is the built-in one; the name is also that of {owners}"
                warnings.warn(f"{told}; to choose, {choose}", stacklevel=2)
            else:
                raise ConfigError(f"{kind} '{name}' is provided by {len(claims)} plugins: {owners}; {choose}")
        if claims:
            return claims[0]
        raise UnknownNameError(self._unknown(kind, name))

    def build(self, kind: str, name: str, /, *runtime: Any, **settings: Any) -> Any:
        """Validates the settings and calls the target: ``target(*runtime, **settings)``.

        Raises:
            ConfigError: the settings do not fit.
            PluginError: the target cannot be imported.
        """
        from ptb.registry.settings import SettingsError, arguments, validate  # see RegisteredComponent.settings_model

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

    def set_aside(self) -> list[RejectedPlugin]:
        """The plugins that are not used, with what they raised."""
        return [plugin for plugin in self._index.plugins if isinstance(plugin, RejectedPlugin)]

    def _unknown(self, kind: str, name: str) -> Problem:
        index = self._index
        names = [entry.key if entry.conflict else entry.name for entry in self.components(kind)]
        answers = [n for (k, n) in index.by_name if k == kind] + names
        message = f"unknown {kind} '{name}'{did_you_mean(name, answers)}"
        others = [k for k in KINDS if (k, name) in index.by_name]
        if others:
            message += f"; '{name}' is a {' and a '.join(others)}"
        message += f"; available: {listing(names)}" if names else f"; no plugin provides a {kind}"
        aside = [f"'{p.found}' ({'failed to load' if p.status == 'failed' else p.status})" for p in self.set_aside()]
        if aside:
            message += f"; perhaps a plugin that is not used provides it: {listing(aside, 5)}"
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
        self.entries: list[RegisteredComponent] = []
        self.by_name: dict[tuple[str, str], list[RegisteredComponent]] = {}
        self.by_id: dict[tuple[str, str], RegisteredComponent] = {}
        for plugin in loaded:
            for kind, component in plugin.components:
                conflicts = owners[kind, component.name]
                others = tuple(found for found in conflicts if found is not plugin.found) if len(conflicts) > 1 else ()
                entry = RegisteredComponent(kind, component, plugin.found, others)
                self.entries.append(entry)
                for name in dict.fromkeys((component.name, *component.aliases)):
                    self.by_name.setdefault((kind, name), []).append(entry)
                    self.by_id[kind, f"{entry.plugin}:{name}"] = entry
        order = {kind: place for place, kind in enumerate(KINDS)}
        self.entries.sort(key=lambda entry: (order[entry.kind], entry.name, entry.plugin))
        for claims in self.by_name.values():
            claims.sort(key=lambda entry: (not entry.found.built_in, entry.plugin))
        self.conflicts: dict[str, list[RegisteredComponent]] = {}
        for entry in self.entries:
            if entry.conflict:
                self.conflicts.setdefault(entry.plugin, []).append(entry)

    def info(self, plugin: LoadedPlugin | RejectedPlugin) -> PluginInfo:
        found = plugin.found
        if isinstance(plugin, RejectedPlugin):
            status, reason, count = plugin.status, plugin.reason, 0
        else:
            count = len(plugin.components)
            mine = self.conflicts.get(found.name, [])
            status = "conflict" if mine else "ok"
            conflicts = (f"{e.kind} '{e.name}' is also given by {listing([str(r) for r in e.conflicts])}" for e in mine)
            reason = "; ".join(conflicts)
        return PluginInfo(found.name, found.version, status, reason, found.location, found.editable, count)


def load_registry(
    *, only: Sequence[str] | None = None, disable: Sequence[str] = (), require: Sequence[str] = (), strict: bool = False
) -> Registry:
    """A fresh registry of what is installed; broken plugins are set aside, see ``Registry.plugins``.

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


def _why_not(plugin: RejectedPlugin) -> str:
    """Why none of a plugin's components is there, and what would change that."""
    if plugin.status == "disabled":
        return f"plugin '{plugin.found}' is disabled {plugin.reason}; to use it, leave that out"
    how = "failed to load" if plugin.status == "failed" else f"is {plugin.status}"
    return f"plugin '{plugin.found}' {how}: {plugin.reason}"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UnknownNameError(f"unknown kind '{kind}'{did_you_mean(kind, KINDS)}; kinds are {', '.join(KINDS)}")


def _is_met(requirement: str) -> bool:
    from packaging.requirements import Requirement  # only components with requirements pay for it

    parsed = Requirement(requirement)
    if parsed.marker is not None and not parsed.marker.evaluate():
        return True
    try:
        return parsed.specifier.contains(version(parsed.name), prereleases=True)
    except PackageNotFoundError:
        return False
