"""Finds the installed plugins and loads each of them on its own.

A plugin goes through three types: ``FoundPlugin`` (metadata only), then ``LoadedPlugin`` or ``RejectedPlugin``; none is
half one and half the other. pluggy checks and calls the hooks, but a manager holds one plugin at a time, and is thrown
away with one that fails: a plugin that fails validation leaves no hook behind, and one that raises stops nobody else.
"""

import inspect
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import Distribution, EntryPoint, distributions
from itertools import islice
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pluggy

from ptb.errors import did_you_mean, one_line
from ptb.kinds import KINDS
from ptb.registry import hookspecs
from ptb.registry.component import Component
from ptb.registry.hookspecs import PROJECT

GROUP = "ptb"
HOOKS = tuple(kind.hook for kind in KINDS.values())
BUILT_IN = "pytorch-basics"
IMPOSTOR = f"other-{BUILT_IN}"  # how another distribution is called that has ptb's own name
MAX_COMPONENTS = 10_000  # of one hook: an iterable that does not end must not hang every command

_HOME = Path(__file__).resolve().parents[1]  # of the ptb that runs
_POINTS = "entry_points.txt"
_GROUP_HEADER = re.compile(rf"^[\s\ufeff]*\[\s*{GROUP}\s*\]", re.MULTILINE)
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
class RejectedPlugin:
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

    Of a distribution that is installed twice, the one that Python would import counts; of ptb itself, the one that
    runs. Another distribution of that name is listed with a fault, and as ``IMPOSTOR``.

    Args:
        candidates: the distributions to look at; those of the running interpreter when left out.
    """
    plugins: dict[str, FoundPlugin] = {}
    read = [plugin for dist in (distributions() if candidates is None else candidates) if (plugin := _read(dist))]
    for plugin in _named_apart(read):
        known = plugins.setdefault(plugin.name, plugin)
        if known.version == plugin.version and plugin.recorded and not known.recorded:
            plugins[plugin.name] = plugin  # what a build leaves in a source folder says less than an installer does
    return sorted(plugins.values(), key=lambda plugin: (not plugin.built_in, plugin.name))


def load_plugin(found: FoundPlugin) -> LoadedPlugin | RejectedPlugin:
    """Imports the plugin's entry points and asks its hooks; whatever it raises is kept, not passed on."""
    if found.fault:
        return RejectedPlugin(found, "failed", found.fault)
    if misfit := _version_misfit(found):
        return RejectedPlugin(found, "incompatible", misfit)
    try:
        modules = {id(module): module for module in (point.load() for point in found.entry_points)}
        return LoadedPlugin(found, tuple(_components(list(modules.values()))))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's module may raise anything, or call sys.exit()
        return RejectedPlugin(found, "failed", one_line(error), error)


def normalize(distribution: str) -> str:
    """The one spelling of a distribution's name (PyPA: lower case, runs of ``-_.`` become ``-``)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _named_apart(read: list[FoundPlugin]) -> list[FoundPlugin]:
    """The plugins, ptb's own first among those of its name, and under another name what is no copy of it."""
    same = [plugin for plugin in read if plugin.built_in]
    if len(same) < 2:  # as everywhere, nearly: where they are installed need not be found out
        return read
    same.sort(key=_runs, reverse=True)
    apart = [plugin for plugin in read if not plugin.built_in] + same[:1]
    for plugin in same[1:]:
        if not {point.value for point in plugin.entry_points} <= {point.value for point in same[0].entry_points}:
            fault = f"it is called {BUILT_IN} as ptb itself is, which is in {same[0].location}; rename it, or delete"
            plugin = replace(plugin, name=IMPOSTOR, fault=f"{fault} {_folder(plugin.dist)}")
        apart.append(plugin)
    return apart


def _runs(built_in: FoundPlugin) -> int:
    """How surely a distribution called as ptb itself is the one that runs."""
    location = Path(built_in.location).resolve()
    files = ""
    with suppress(OSError, ValueError):
        files = built_in.dist.read_text("RECORD") or built_in.dist.read_text("SOURCES.txt") or ""
    if built_in.editable:
        return 2 * _HOME.is_relative_to(location)
    return (location == _HOME.parent) * (1 + ("ptb/__init__.py" in files))


def _read(dist: Distribution) -> FoundPlugin | None:
    """The plugin of a distribution, if it is one; only then are its metadata read, and once."""
    faults = []
    try:
        text = _text(dist, _POINTS) or ""
    except ContractError as error:
        faults.append(str(error))
        text = getattr(error.__cause__, "object", b"").decode(errors="replace")
    in_group = _GROUP_HEADER.search(text)
    if not (in_group or faults):
        return None
    folder = Path(_folder(dist)).name
    name, release, points, required = "", "", [], []
    try:
        metadata = _text(dist, "METADATA") or _text(dist, "PKG-INFO") or ""
        headers = _HEADER.findall(metadata.partition("\n\n")[0])  # dist.metadata takes ten times as long
        first = {key.lower(): value.strip() for key, value in reversed(headers)}
        name, release = first.get("name", ""), first.get("version", "")
        required = [value for key, value in headers if key.lower() == "requires-dist"]
        if not name or not release:
            raise ContractError("its metadata have no name and version")
        points = sorted(_points(text), key=lambda point: point.name)
    except ContractError as error:
        faults.append(str(error))
    name = normalize(name or folder.removesuffix(".dist-info").removesuffix(".egg-info").partition("-")[0])
    needs = tuple(text for text in required if normalize(project_name(text)) == BUILT_IN)
    if not (in_group or needs or name.startswith(("ptb", BUILT_IN))):
        return None  # nothing says that it is a plugin
    fault = f"{'; '.join(faults)} ({folder})" if faults else ""
    return FoundPlugin(name, release or "unknown", tuple(points), dist, needs, fault)


def _folder(dist: Distribution) -> str:
    """That of the metadata."""
    return str(getattr(dist, "_path", "unknown"))


def _text(dist: Distribution, file: str) -> str | None:
    """The text of a metadata file, None where there is none.

    Raises:
        ContractError: it cannot be read.
    """
    try:
        text = dist.read_text(file)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ContractError(f"its {file} is not in UTF-8: line {line}") from error
    except (OSError, ValueError) as error:
        raise ContractError(f"its {file} cannot be read: {one_line(error)}") from None
    if text is None and os.path.lexists(f"{_folder(dist)}/{file}"):  # importlib passes over what it may not read
        raise ContractError(f"its {file} cannot be read: it must be a file that you may read")
    return text


def _points(text: str) -> Iterator[EntryPoint]:
    """The entry points of the group: importlib's own reader stops at a bad line of any group, without a place."""
    group = ""
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = line.strip()
        if line.startswith("["):
            group = line.strip("[] \t")
        elif group == GROUP and line and not line.startswith("#"):
            name, _, value = map(str.strip, line.partition("="))
            if not name or not EntryPoint.pattern.match(value):
                raise ContractError(f"line {number} of its {_POINTS} must be NAME = MODULE, is {line!r}")
            yield EntryPoint(name, value, GROUP)


def project_name(requirement: str) -> str:
    """The name that a PEP 508 requirement begins with."""
    match = _PROJECT_NAME.match(requirement.strip())
    return match[0] if match else ""


@cache
def own_version() -> str:
    """The version of the ptb that runs; another distribution of its name may come first on the path."""
    return find_plugins(distributions(name=BUILT_IN))[0].version


def _version_misfit(found: FoundPlugin) -> str:
    """What a plugin asks of ptb's version that the installed one is not; decided before anything is imported."""
    if found.built_in or not found.needs:  # its extras name ptb itself
        return ""
    from packaging.requirements import InvalidRequirement, Requirement  # only who asks pays for it

    installed = own_version()
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
        raise ContractError(f"implements no hook; there are: {', '.join(HOOKS)}")
    seen: dict[tuple[str, str], Component] = {}
    for kind in KINDS.values():
        hook = kind.hook
        caller = getattr(manager.hook, hook)
        answers = caller()
        if len(answers) < len(caller.get_hookimpls()):  # pluggy leaves out what is None
            raise ContractError(f"{hook} returns nothing: it must return an iterable of Component")
        for provided in answers:
            for component in _records(hook, provided):
                for name in dict.fromkeys((component.name, *component.aliases)):
                    if other := seen.get((kind.name, name)):
                        raise ContractError(
                            f"{hook} provides {kind.name} '{name}' twice: {other.target} and {component.target}"
                        )
                    seen[kind.name, name] = component
                yield kind.name, component
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
        options = getattr(value, f"{PROJECT}_impl") if marked else {}
        is_async = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
        if options and (is_async or options["wrapper"] or options["hookwrapper"]):
            raise ContractError(f"{module.__name__}.{name} must be a plain function: no wrapper, not async")
        if marked and not name.startswith("ptb_"):
            raise ContractError(f"unknown hook '{name}'{did_you_mean(f'ptb_{name}', HOOKS)}")


def _check_hooks(manager: pluggy.PluginManager) -> None:
    """Pluggy passes over unknown hooks, and calls an argument with a default without ever filling it."""
    for plugin in manager.get_plugins():
        for caller in manager.get_hookcallers(plugin) or ():
            if not caller.has_spec():
                raise ContractError(f"unknown hook '{caller.name}'{did_you_mean(caller.name, HOOKS)}")
            for impl in caller.get_hookimpls():
                if inspect.signature(impl.function).parameters:
                    raise ContractError(f"hook '{caller.name}' takes no arguments, not even with a default")
