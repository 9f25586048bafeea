"""Finds the installed plugins and loads each of them on its own.

A plugin goes through three types: ``FoundPlugin`` (metadata only), then ``LoadedPlugin`` or ``SetAside``; none is half
one and half the other. pluggy checks and calls the hooks, but a manager holds one plugin at a time, and is thrown away
with one that fails: so a plugin that fails validation leaves no hook behind, and one that raises stops nobody else.
"""

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import Distribution, EntryPoint, distributions, version
from itertools import islice
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pluggy

from ptb import hookspecs
from ptb.component import Component
from ptb.errors import did_you_mean, one_line
from ptb.hookspecs import HOOKS, PROJECT

GROUP = "ptb"
BUILT_IN = "pytorch-basics"
MAX_COMPONENTS = 10_000  # of one hook: an iterable that does not end must not hang every command

_GROUP_HEADER = re.compile(rf"^\s*\[\s*{GROUP}\s*\]", re.MULTILINE)
_HEADER = re.compile(r"^(Name|Version|Requires-Dist)[ \t]*:(.*)$", re.MULTILINE | re.IGNORECASE)
_PROJECT_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class FoundPlugin:
    """An installed distribution with an entry point in the group ``ptb``; nothing of it has been imported.

    Args:
        name: of the distribution, in its one spelling.
        version: of the distribution.
        entry_points: those of the group, by name.
        dist: the distribution.
        needs: its requirements on ptb itself, as PEP 508 strings.
        fault: what is wrong with the metadata, so that nothing can be loaded.
    """

    name: str
    version: str
    entry_points: tuple[EntryPoint, ...]
    dist: Distribution
    needs: tuple[str, ...] = ()
    fault: str = ""

    @property
    def built_in(self) -> bool:
        """Whether it is ptb's own distribution."""
        return self.name == BUILT_IN

    @cached_property
    def origin(self) -> dict[str, Any]:
        """What pip wrote down of where it came from (PEP 610), empty for a package from an index."""
        try:
            facts = json.loads(self.dist.read_text("direct_url.json") or "{}")
        except (ValueError, OSError):
            return {}
        return facts if isinstance(facts, dict) else {}

    @property
    def recorded(self) -> bool:
        """Whether its installer wrote down its files."""
        try:
            return self.dist.read_text("RECORD") is not None
        except (OSError, ValueError):
            return False

    @property
    def editable(self) -> bool:
        """Whether it is installed from a source folder that is used in place."""
        info = self.origin.get("dir_info")
        return isinstance(info, dict) and info.get("editable") is True

    @property
    def location(self) -> str:
        """The folder that it is imported from: the source folder if editable, else the one it is installed in."""
        if self.editable:
            from urllib.parse import urlparse
            from urllib.request import url2pathname  # costs a third of `ptb list`

            return url2pathname(urlparse(str(self.origin.get("url", ""))).path)
        return str(Path(str(self.dist.locate_file(""))))

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin whose hooks have answered; ``components`` are pairs of kind and record."""

    found: FoundPlugin
    components: tuple[tuple[str, Component], ...]


@dataclass(frozen=True)
class SetAside:
    """A plugin that is not used, whole.

    Args:
        found: the plugin.
        status: ``failed`` (it raised, or broke the contract), ``incompatible`` (it needs another version of ptb) or
            ``disabled``.
        reason: why, on one line.
        cause: what it raised.
    """

    found: FoundPlugin
    status: str
    reason: str
    cause: BaseException | None = None


class ContractError(Exception):
    """A plugin's hooks are not what ``hookspecs`` asks for."""


def find_plugins(candidates: Iterable[Distribution] | None = None) -> list[FoundPlugin]:
    """The installed plugins, the built-in one first, then by name; imports nothing of them.

    Of a distribution that is installed twice, the one that Python would import counts.

    Args:
        candidates: the distributions to look at; those of the running interpreter when left out.
    """
    plugins: dict[str, FoundPlugin] = {}
    for dist in distributions() if candidates is None else candidates:
        plugin = _read(dist)
        if plugin is None:
            continue
        known = plugins.setdefault(plugin.name, plugin)
        if known.version == plugin.version and plugin.recorded and not known.recorded:
            plugins[plugin.name] = plugin  # what a build leaves in a source folder says less than an installer does
    return sorted(plugins.values(), key=lambda plugin: (not plugin.built_in, plugin.name))


def load_plugin(found: FoundPlugin) -> LoadedPlugin | SetAside:
    """Imports the plugin's entry points and asks its hooks; whatever it raises is kept, not passed on."""
    if found.fault:
        return SetAside(found, "failed", found.fault)
    if misfit := _version_misfit(found):
        return SetAside(found, "incompatible", misfit)
    try:
        modules = {id(module): module for module in (point.load() for point in found.entry_points)}
        return LoadedPlugin(found, tuple(_components(list(modules.values()))))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's module may raise anything, or call sys.exit()
        return SetAside(found, "failed", one_line(error), error)


def normalize(distribution: str) -> str:
    """The one spelling of a distribution's name (PyPA: lower case, runs of ``-_.`` become ``-``)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _read(dist: Distribution) -> FoundPlugin | None:
    """The plugin of a distribution, if it is one; only then are its metadata read, and once."""
    try:
        text = dist.read_text("entry_points.txt")
        if not text or not _GROUP_HEADER.search(text):
            return None
    except (OSError, ValueError):
        return None
    folder = Path(str(getattr(dist, "_path", "unknown"))).name
    try:
        text = dist.read_text("METADATA") or dist.read_text("PKG-INFO") or ""
        headers = _HEADER.findall(text.partition("\n\n")[0])  # dist.metadata takes ten times as long
        first = {key.lower(): value.strip() for key, value in reversed(headers)}
        name, release = first.get("name"), first.get("version")
        if not name or not release:
            raise ContractError("its metadata have no name and version")
        points = tuple(sorted((p for p in dist.entry_points if p.group == GROUP), key=lambda p: p.name))
        required = [value for key, value in headers if key.lower() == "requires-dist"]
    except Exception as error:  # a stranger's files may hold anything
        name = folder.removesuffix(".dist-info").removesuffix(".egg-info").partition("-")[0]
        return FoundPlugin(normalize(name), "unknown", (), dist, fault=f"{one_line(error)} ({folder})")
    needs = tuple(text for text in required if normalize(project_name(text)) == BUILT_IN)
    return FoundPlugin(normalize(name), release, points, dist, needs)


def project_name(requirement: str) -> str:
    """The name that a PEP 508 requirement begins with."""
    match = _PROJECT_NAME.match(requirement.strip())
    return match[0] if match else ""


@cache
def _own_version() -> str:
    return version(BUILT_IN)


def _version_misfit(found: FoundPlugin) -> str:
    """What a plugin asks of ptb's version that the installed one is not; decided before anything is imported."""
    if not found.needs:
        return ""
    from packaging.requirements import InvalidRequirement, Requirement  # only who asks pays for it

    installed = _own_version()
    for text in found.needs:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            return f"its requirement {text!r} cannot be read"
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(installed, prereleases=True):
            return f"it needs {BUILT_IN}{requirement.specifier}, installed is {installed}"
    return ""


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        # pluggy reads every attribute of a plugin: on a module with lazy attributes that imports all of them.
        return super().parse_hookimpl_opts(plugin, name) if name.startswith("ptb_") else None

    def parse_hookspec_opts(self, namespace: ModuleType | type, name: str) -> pluggy.HookspecOpts | None:
        return super().parse_hookspec_opts(namespace, name) if name.startswith("ptb_") else None


_spare: list[_Manager] = []  # managers without plugins: to make one takes as long as to import a small plugin


def _empty_manager() -> _Manager:
    with suppress(IndexError):
        return _spare.pop()
    manager = _Manager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _components(modules: list[ModuleType]) -> Iterator[tuple[str, Component]]:
    manager = _empty_manager()
    for module in modules:
        if not isinstance(module, ModuleType):
            raise ContractError(f"its entry point must name a module, it names a {type(module).__name__}")
        _check_marked(module)
        manager.register(module)
    _check_hooks(manager)
    if not any(manager.get_hookcallers(module) for module in modules):
        raise ContractError(f"implements no hook; there are: {', '.join(HOOKS.values())}")
    seen: dict[tuple[str, str], Component] = {}
    for kind, hook in HOOKS.items():
        caller = getattr(manager.hook, hook)
        answers = caller()
        if len(answers) < len(caller.get_hookimpls()):  # pluggy leaves out what is None
            raise ContractError(f"{hook} returns nothing: it must return an iterable of Component")
        for provided in answers:
            for component in _records(hook, provided):
                for name in dict.fromkeys((component.name, *component.aliases)):
                    if (other := seen.setdefault((kind, name), component)) is not component:
                        raise ContractError(
                            f"{hook} provides {kind} '{name}' twice: {other.target} and {component.target}"
                        )
                yield kind, component
    for module in modules:
        manager.unregister(module)
    _spare.append(manager)


def _records(hook: str, provided: object) -> Iterator[Component]:
    if isinstance(provided, str | bytes) or not isinstance(provided, Iterable):
        raise ContractError(f"{hook} must return an iterable of Component, got {type(provided).__name__}")
    for number, component in enumerate(islice(provided, MAX_COMPONENTS + 1)):
        if type(component) is not Component:  # a subclass could answer otherwise later
            raise ContractError(f"{hook} must return Component records, got one {type(component).__name__}")
        if number == MAX_COMPONENTS:
            raise ContractError(f"{hook} returns more than {MAX_COMPONENTS} components")
        yield component


def _check_marked(module: ModuleType) -> None:
    """A hook without its mark, or a mark on what is no hook, would be passed over in silence."""
    for name, value in vars(module).items():
        marked = isinstance(value, FunctionType) and hasattr(value, f"{PROJECT}_impl")
        if name.startswith("ptb_provide_") and not marked:
            raise ContractError(f"{module.__name__}.{name} is not marked: put @hookimpl (from ptb) above it")
        if marked and not name.startswith("ptb_"):
            raise ContractError(f"unknown hook '{name}'{did_you_mean(f'ptb_{name}', HOOKS.values())}")


def _check_hooks(manager: pluggy.PluginManager) -> None:
    """Pluggy passes over unknown hooks, and calls an argument with a default without ever filling it."""
    for plugin in manager.get_plugins():
        for caller in manager.get_hookcallers(plugin) or ():
            if not caller.has_spec():
                raise ContractError(f"unknown hook '{caller.name}'{did_you_mean(caller.name, HOOKS.values())}")
            for impl in caller.get_hookimpls():
                if inspect.signature(impl.function).parameters:
                    raise ContractError(f"hook '{caller.name}' takes no arguments, not even with a default")
