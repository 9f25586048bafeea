"""Which of the installed plugins are used. It is decided before any of them is imported.

What is asked for comes from the command line (``-p no:NAME``, ``--no-plugins``), the environment (``PTB_PLUGINS``,
``PTB_STRICT_PLUGINS``) and the section ``plugins`` of a config file; every request keeps its source for messages.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions

from ptb.errors import ConfigError, PluginError, Problem, did_you_mean, listing
from ptb.registry.discovery import (
    BUILT_IN,
    GROUP,
    FoundPlugin,
    LoadedPlugin,
    RejectedPlugin,
    find_plugins,
    load_plugin,
    normalize,
)

ONLY = "PTB_PLUGINS"
STRICT = "PTB_STRICT_PLUGINS"
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class PluginRequest:
    """A plugin's name or requirement, and who asked."""

    text: str
    source: str = ""


@dataclass(frozen=True)
class Selection:
    """What is asked of the plugins; the built-in one always takes part.

    Args:
        only: the plugins that may take part; None is all.
        disable: those that may not.
        require: PEP 508 requirements of plugins, such as ``"ptb-acme>=1.2"``, without which nothing runs.
        strict: a plugin that cannot be loaded is an error, not a warning.
    """

    only: tuple[PluginRequest, ...] | None = None
    disable: tuple[PluginRequest, ...] = ()
    require: tuple[PluginRequest, ...] = ()
    strict: bool = False

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> "Selection":
        """What the environment variables ask for.

        Raises:
            ConfigError: ``PTB_STRICT_PLUGINS`` is no truth value.
        """
        environment = os.environ if environment is None else environment
        only = None
        if ONLY in environment:
            names = (name.strip() for name in environment[ONLY].split(","))
            only = tuple(PluginRequest(name, ONLY) for name in names if name)
        strict = environment.get(STRICT, "").strip().lower() or "0"
        if strict not in _TRUTH:
            raise ConfigError(Problem("", f"{STRICT} is '{strict}'; valid are 1 and 0"))
        return cls(only=only, strict=_TRUTH[strict])

    def __add__(self, other: "Selection") -> "Selection":
        """Both at once: what either leaves out is left out."""
        only = self.only
        if other.only is not None:
            allowed = {normalize(request.text) for request in other.only}
            only = other.only if only is None else tuple(r for r in only if normalize(r.text) in allowed)
        return Selection(only, self.disable + other.disable, self.require + other.require, self.strict or other.strict)

    def load(self, found: Sequence[FoundPlugin] | None = None) -> list[LoadedPlugin | RejectedPlugin]:
        """Loads what is to be used; what is disabled is not imported.

        Args:
            found: the installed plugins; those of the running interpreter when left out.

        Raises:
            ConfigError: a name that no plugin has, or the built-in plugin is to be left out.
            PluginError: a required plugin is missing or has another version; or, if strict, one cannot be loaded.
        """
        found = find_plugins() if found is None else found
        disabled = self.left_out(found)
        plugins = [
            RejectedPlugin(plugin, "disabled", disabled[plugin.name])
            if plugin.name in disabled
            else load_plugin(plugin)
            for plugin in found
        ]
        self._check_required(plugins)
        broken = [p for p in plugins if isinstance(p, RejectedPlugin) and p.status != "disabled"]
        if self.strict and broken:
            lines = "\n".join(f"  plugin '{p.found}': {p.reason}" for p in broken)
            raise PluginError(
                f"plugins that cannot be loaded are an error here (--strict-plugins or {STRICT}):\n{lines}"
            )
        return plugins

    def left_out(self, found: Sequence[FoundPlugin]) -> dict[str, str]:
        """The plugins that are not to be loaded, with the reason.

        Raises:
            ConfigError: a name that no plugin has, or the built-in plugin is among them.
        """
        named: dict[str, set[str]] = {}
        for plugin in found:
            for point in plugin.entry_points if not plugin.built_in else ():
                named.setdefault(normalize(point.name), set()).add(plugin.name)
        named["ptb"] = {BUILT_IN}
        named |= {plugin.name: {plugin.name} for plugin in found}  # its own name counts before what others call theirs
        self._check_names(named, sorted(plugin.name for plugin in found if not plugin.built_in))
        reasons = {}
        if self.only is not None:
            allowed = {BUILT_IN}.union(*(named[normalize(request.text)] for request in self.only))
            why = f"by --no-plugins or an empty {ONLY}"
            if self.only:
                names = listing([request.text for request in self.only])
                why = f"by {self.only[0].source or 'the caller'}, which names only {names}"
            reasons = {plugin.name: why for plugin in found if plugin.name not in allowed}
        for request in self.disable:
            reasons |= dict.fromkeys(named[normalize(request.text)], f"by {request.source or 'the caller'}")
        return reasons

    def _check_names(self, named: Mapping[str, set[str]], installed: list[str]) -> None:
        problems = []
        there = f"installed are {listing(installed)}" if installed else "none is installed"
        for request in (*(self.only or ()), *self.disable):
            if normalize(request.text) not in named:
                meant = did_you_mean(request.text, installed)
                problems.append(Problem("", f"unknown plugin '{request.text}'{meant}; {there}", request.source))
        for request in self.disable:
            if BUILT_IN in named.get(normalize(request.text), ()):
                message = f"the built-in plugin '{request.text}' cannot be disabled"
                problems.append(Problem("", message, request.source))
        if problems:
            raise ConfigError(*problems)

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
            if plugin is None and next(iter(distributions(name=wanted.name)), None) is not None:
                problems.append(f"{request.text}: is installed, but is no plugin: it has no entry point '{GROUP}'")
            elif plugin is None:
                names = [name for name in by_name if name != BUILT_IN]
                problems.append(f"{request.text}: not installed{did_you_mean(wanted.name, names)}")
                missing.append(f"'{request.text}'")
            elif not wanted.specifier.contains(plugin.found.version, prereleases=True):
                problems.append(f"{request.text}: installed is {plugin.found.version}")
                missing.append(f"'{request.text}'")
            elif isinstance(plugin, RejectedPlugin):
                problems.append(f"{request.text}: {plugin.status}, {plugin.reason}")
        if problems:
            lines = "".join(f"\n  {problem}" for problem in problems)
            remedy = f"\nrun\n  {sys.executable} -m pip install {' '.join(missing)}" if missing else ""
            raise PluginError(f"required plugins are not there:{lines}{remedy}")
