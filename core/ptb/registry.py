"""Every component that the installed plugins provide, findable by kind and name; nothing is global.

Listing, looking up and failing to find import no target. Only ``Entry.load`` does, and ``Entry.settings_model`` for a
component that names no settings model.
"""

import importlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ptb.component import KINDS, Component
from ptb.discovery import FailedPlugin, FoundPlugin, LoadedPlugin, find_plugins, load_plugin, normalize
from ptb.errors import ConfigError, PluginError, Problem, UnknownName, did_you_mean, listing, one_line

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class PluginInfo:
    """One installed plugin: ``status`` is ``ok`` or ``failed``, ``reason`` says why it failed."""

    name: str
    version: str
    status: str
    reason: str = ""


@dataclass(frozen=True)
class Entry:
    """One component together with the plugin it came from."""

    kind: str
    component: Component
    found: FoundPlugin
    conflict: bool = False

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
        """How a config file names it for good: a built-in keeps its short name, anyone else's gets its id."""
        return self.name if self.found.built_in else self.id

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

        from ptb.settings import derive_model

        if self.component.settings is None:
            return derive_model(self.kind, f"'{self.id}'", self.load())
        model = self._resolve(self.component.settings)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise PluginError(f"{self}: settings {self.component.settings!r} is not a pydantic model")
        if "name" in model.model_fields:
            raise PluginError(f"{self}: a setting cannot be called 'name': that key chooses the component")
        return model

    def load(self) -> Callable[..., Any]:
        """Imports the target.

        Raises:
            PluginError: a dependency is missing, or the import fails; the original exception is the cause.
        """
        if missing := self.missing():
            raise PluginError(
                f"{self} needs {', '.join(missing)}, which is not installed; run\n  {sys.executable} -m pip install "
                + self._install_arguments(missing)
            )
        target = self._resolve(self.component.target)
        if not callable(target):
            raise PluginError(f"{self}: target {self.component.target!r} cannot be called")
        return target  # type: ignore[no-any-return]  # a stranger's object: callable is all that is known

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
        plugins: what ``discovery.load_plugin`` returned, in order of precedence.
    """

    def __init__(self, plugins: Iterable[LoadedPlugin | FailedPlugin]) -> None:
        self._plugins = tuple(plugins)
        entries = [
            Entry(kind, component, plugin.found)
            for plugin in self._plugins
            if isinstance(plugin, LoadedPlugin)
            for kind, component in plugin.components
        ]
        self._by_name: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            for name in (entry.name, *entry.component.aliases):
                self._by_name.setdefault((entry.kind, name), []).append(entry)
        self._entries = sorted(map(self._marked, entries), key=lambda e: (KINDS.index(e.kind), e.name, e.plugin))
        self._by_id = {
            (entry.kind, f"{entry.plugin}:{name}"): entry
            for entry in self._entries
            for name in (*entry.component.aliases, entry.name)
        }

    def components(self, kind: str | None = None) -> list[Entry]:
        """The entries of one kind, or all, sorted by kind, name and plugin.

        Raises:
            UnknownName: there is no such kind.
        """
        if kind is None:
            return list(self._entries)
        _check_kind(kind)
        return [entry for entry in self._entries if entry.kind == kind]

    def get(self, kind: str, name: str) -> Entry:
        """The entry of a short name, an alias or an id.

        Raises:
            UnknownName: nothing answers to it; the message suggests and lists, and has imported nothing.
            ConfigError: several plugins claim the short name; the message names their ids.
        """
        _check_kind(kind)
        distribution, colon, short = name.rpartition(":")
        if colon:
            name = f"{normalize(distribution)}:{short}"
            if (kind, name) in self._by_id:
                return self._by_id[kind, name]
        claims = self._by_name.get((kind, name), [])
        built_in = [entry for entry in claims if entry.found.built_in]
        if len(claims) == 1 or built_in:
            return self._by_id[kind, (built_in or claims)[0].id]
        if claims:
            owners = ", ".join(f"'{entry.id}' ({entry.plugin} {entry.version})" for entry in claims)
            raise ConfigError(f"{kind} '{name}' is provided by {len(claims)} plugins: {owners}; use the full id")
        raise UnknownName(self._unknown(kind, name))

    def build(self, kind: str, name: str, *runtime: Any, **settings: Any) -> Any:
        """Validates the settings and calls the target: ``target(*runtime, **settings)``.

        Raises:
            ConfigError: the settings do not fit.
            PluginError: the target cannot be imported.
        """
        from ptb.settings import SettingsError, arguments, validate  # see Entry.settings_model

        entry = self.get(kind, name)
        try:
            checked = validate(entry.settings_model(), settings)
        except SettingsError as error:
            raise ConfigError(
                *(Problem(".".join(filter(None, (kind, p.key))), p.message) for p in error.problems)
            ) from None
        return entry.load()(*runtime, **arguments(checked))

    def plugins(self) -> list[PluginInfo]:
        """Every installed plugin, the failed ones too."""
        return [
            PluginInfo(plugin.found.name, plugin.found.version, "failed", plugin.reason)
            if isinstance(plugin, FailedPlugin)
            else PluginInfo(plugin.found.name, plugin.found.version, "ok")
            for plugin in self._plugins
        ]

    def _marked(self, entry: Entry) -> Entry:
        claims = self._by_name[entry.kind, entry.name]
        if len(claims) > 1 and not entry.found.built_in:
            return Entry(entry.kind, entry.component, entry.found, conflict=True)
        return entry

    def _unknown(self, kind: str, name: str) -> Problem:
        names = [entry.key if entry.conflict else entry.name for entry in self.components(kind)]
        answers = [n for (k, n) in self._by_name if k == kind] + names
        message = f"unknown {kind} '{name}'{did_you_mean(name, answers)}"
        others = [k for k in KINDS if (k, name) in self._by_name]
        if others:
            message += f"; '{name}' is a {' and a '.join(others)}"
        message += f"; available: {listing(names)}" if names else f"; no plugin provides a {kind}"
        failed = [f"'{p.found}'" for p in self._plugins if isinstance(p, FailedPlugin)]
        if failed:
            message += f"; {' and '.join(failed)} failed to load and may provide it"
        return Problem("", message)


def load_registry() -> Registry:
    """A fresh registry of everything that is installed; broken plugins are set aside, see ``Registry.plugins``."""
    return Registry([load_plugin(found) for found in find_plugins()])


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UnknownName(f"unknown kind '{kind}'{did_you_mean(kind, KINDS)}; kinds are {', '.join(KINDS)}")


def _is_met(requirement: str) -> bool:
    from packaging.requirements import Requirement  # only components with requirements pay for it

    parsed = Requirement(requirement)
    if parsed.marker is not None and not parsed.marker.evaluate():
        return True
    try:
        return parsed.specifier.contains(version(parsed.name), prereleases=True)
    except PackageNotFoundError:
        return False
