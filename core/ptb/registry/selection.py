"""Which of the installed plugins are used. It is decided before any of them is imported.

What is asked for comes from the command line (``-p no:NAME``, ``--no-plugins``), the environment (``PTB_PLUGINS``,
``PTB_STRICT_PLUGINS``) and the section ``plugins`` of a config file; every request keeps its source for messages.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ptb.errors import ConfigError, PluginError, Problem, did_you_mean, listing, pip_install
from ptb.registry.discovery import (
    BUILT_IN,
    FoundPlugin,
    LoadedPlugin,
    RejectedPlugin,
    find_plugins,
    load_plugin,
    normalize,
)
from ptb.registry.local import explain

ONLY = "PTB_PLUGINS"
STRICT = "PTB_STRICT_PLUGINS"


@dataclass(frozen=True)
class PluginRequest:
    """A plugin's name or requirement, and who asked."""

    text: str
    source: str = ""

    @property
    def name(self) -> str:
        """The distribution that is meant; ptb itself also answers to its short name."""
        return BUILT_IN if self.text == "ptb" else normalize(self.text)


@dataclass(frozen=True)
class Selection:
    """What is asked of the plugins; the built-in one always takes part."""

    only: tuple[PluginRequest, ...] | None = None  # the plugins that may take part; None is all
    disable: tuple[PluginRequest, ...] = ()  # those that may not
    require: tuple[PluginRequest, ...] = ()  # PEP 508 requirements without which nothing runs
    strict: bool = False  # a plugin that cannot be loaded is an error, not a warning
    local: tuple[FoundPlugin, ...] = ()  # those that are not installed; one that cannot be loaded is always an error

    @classmethod
    def of_environment(cls) -> "Selection":
        """What the environment variables ask for."""
        only = None
        if ONLY in os.environ:
            names = (name.strip() for name in os.environ[ONLY].split(","))
            only = tuple(PluginRequest(name, ONLY) for name in names if name)
        strict = os.environ.get(STRICT, "").strip().lower() not in ("", "0", "false", "no", "off")
        return cls(only=only, strict=strict)

    def __add__(self, other: "Selection") -> "Selection":
        """Both at once: what either leaves out is left out."""
        only = self.only
        if other.only is not None:
            allowed = {request.name for request in other.only}
            only = other.only if only is None else tuple(request for request in only if request.name in allowed)
        both = self.disable + other.disable, self.require + other.require
        return Selection(only, *both, self.strict or other.strict, self.local + other.local)

    def load(self, found: Sequence[FoundPlugin] | None = None) -> list[LoadedPlugin | RejectedPlugin]:
        """Loads what is to be used, of the installed plugins or of ``found``; what is disabled is not imported."""
        found = find_plugins() if found is None else found
        disabled = self.left_out(found)
        plugins = [
            RejectedPlugin(plugin, "disabled", disabled[plugin.name])
            if plugin.name in disabled
            else load_plugin(plugin)
            for plugin in found
        ]
        plugins += map(load_plugin, self._check_local())
        self._check_required(plugins)
        for plugin in plugins:
            if isinstance(plugin, RejectedPlugin) and plugin.found.source is not None:
                raise PluginError(f"plugin '{plugin.found}' cannot be used: {explain(plugin)}") from plugin.cause
        broken = [p for p in plugins if isinstance(p, RejectedPlugin) and p.status != "disabled"]
        if self.strict and broken:
            lines = "\n".join(f"  plugin '{p.found}': {p.reason}" for p in broken)
            raise PluginError(
                f"plugins that cannot be loaded are an error here (--strict-plugins or {STRICT}):\n{lines}"
            )
        return plugins

    def left_out(self, found: Sequence[FoundPlugin]) -> dict[str, str]:
        """The plugins that are not to be loaded, with the reason; a name that no plugin has is an error."""
        installed = sorted(plugin.name for plugin in found if not plugin.built_in)
        problems = []
        for request in (*(self.only or ()), *self.disable):
            if request.name not in (BUILT_IN, *installed):
                meant = did_you_mean(request.text, installed)
                there = f"installed are {listing(installed)}" if installed else "none is installed"
                problems.append(Problem("", f"unknown plugin '{request.text}'{meant}; {there}", request.source))
        for request in self.disable:
            if request.name == BUILT_IN:
                message = f"the built-in plugin '{request.text}' cannot be disabled"
                problems.append(Problem("", message, request.source))
        if problems:
            raise ConfigError(*problems)
        reasons = {}
        if self.only is not None:
            why = "by --no-plugins or an empty PTB_PLUGINS"
            if self.only:
                names = listing([request.text for request in self.only])
                why = f"by {self.only[0].source or 'the caller'}, which names only {names}"
            reasons = dict.fromkeys(set(installed) - {request.name for request in self.only}, why)
        return reasons | {request.name: f"by {request.source or 'the caller'}" for request in self.disable}

    def _check_local(self) -> Iterable[FoundPlugin]:
        """Those that are not installed, each once; two of one name would have the same ids."""
        by_module: dict[str, FoundPlugin] = {}
        for plugin in self.local:
            known = by_module.setdefault(plugin.entry_points[0].module, plugin)
            if known is not plugin and not (plugin.source and known.location == plugin.location):
                places = f"{known.location}, {plugin.location}"
                raise ConfigError(f"two plugins have the name '{plugin}' ({places}): rename one")
        return by_module.values()

    def _check_required(self, plugins: Iterable[LoadedPlugin | RejectedPlugin]) -> None:
        if not self.require:
            return
        from packaging.requirements import InvalidRequirement, Requirement  # only who asks pays for it

        by_name = {plugin.found.name: plugin for plugin in plugins}
        problems, missing = [], []
        for request in self.require:
            try:
                wanted = Requirement(request.text)
            except InvalidRequirement:
                message = f"'{request.text}' is not a requirement; write one such as 'ptb-acme>=1.2'"
                raise ConfigError(Problem("plugins.require", message, request.source)) from None
            plugin = by_name.get(normalize(wanted.name))
            if plugin is None:
                problems.append(f"{request.text}: not installed as a plugin{did_you_mean(wanted.name, by_name)}")
                missing.append(request.text)
            elif not wanted.specifier.contains(plugin.found.version, prereleases=True):
                problems.append(f"{request.text}: installed is {plugin.found.version}")
                missing.append(request.text)
            elif isinstance(plugin, RejectedPlugin):
                problems.append(f"{request.text}: {plugin.status}, {plugin.reason}")
        if problems:
            lines = "".join(f"\n  {problem}" for problem in problems)
            remedy = f"\nrun\n  {pip_install(*missing)}" if missing else ""
            raise PluginError(f"required plugins are not there:{lines}{remedy}")
