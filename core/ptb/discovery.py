"""Finds the installed plugins and loads each of them on its own.

A plugin goes through three types: ``FoundPlugin`` (metadata only), then ``LoadedPlugin`` or ``FailedPlugin``; none is
half one and half the other. pluggy checks and calls the hooks, but each plugin gets a manager of its own, which is
thrown away with it: so a plugin that fails validation leaves no hook behind, and one that raises stops nobody else.
"""

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points
from types import FunctionType, ModuleType

import pluggy

from ptb import hookspecs
from ptb.component import Component
from ptb.errors import did_you_mean, one_line
from ptb.hookspecs import HOOKS, PROJECT

GROUP = "ptb"
BUILT_IN = "pytorch-basics"


@dataclass(frozen=True)
class FoundPlugin:
    """An installed distribution with an entry point in the group ``ptb``; nothing of it has been imported."""

    name: str
    version: str
    entry_points: tuple[EntryPoint, ...]

    @property
    def built_in(self) -> bool:
        """Whether it is ptb's own distribution."""
        return self.name == BUILT_IN

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin whose hooks have answered; ``components`` are pairs of kind and record."""

    found: FoundPlugin
    components: tuple[tuple[str, Component], ...]


@dataclass(frozen=True)
class FailedPlugin:
    """A plugin that raised, or broke the contract, while it was loaded; it is set aside whole."""

    found: FoundPlugin
    cause: BaseException

    @property
    def reason(self) -> str:
        """What it raised, on one line."""
        return one_line(self.cause)


class ContractError(Exception):
    """A plugin's hooks are not what ``hookspecs`` asks for."""


def find_plugins(candidates: Iterable[EntryPoint] | None = None) -> list[FoundPlugin]:
    """The installed plugins, the built-in one first, then by name; imports nothing of them.

    Args:
        candidates: the entry points to look at; those of the running interpreter when left out.
    """
    grouped: dict[Distribution, list[EntryPoint]] = {}
    for entry_point in entry_points(group=GROUP) if candidates is None else candidates:
        if entry_point.dist is not None:
            grouped.setdefault(entry_point.dist, []).append(entry_point)
    plugins = [
        FoundPlugin(
            normalize(str(dist.metadata["Name"])), str(dist.version), tuple(sorted(points, key=lambda p: p.name))
        )
        for dist, points in grouped.items()
    ]
    return sorted(plugins, key=lambda plugin: (not plugin.built_in, plugin.name, plugin.version))


def load_plugin(found: FoundPlugin) -> LoadedPlugin | FailedPlugin:
    """Imports the plugin's entry points and asks its hooks; whatever it raises is kept, not passed on."""
    try:
        modules = [point.load() for point in found.entry_points]
        return LoadedPlugin(found, tuple(_components(modules)))
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything, or call sys.exit()
        return FailedPlugin(found, error)


def normalize(distribution: str) -> str:
    """The one spelling of a distribution's name (PyPA: lower case, runs of ``-_.`` become ``-``)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        # pluggy reads every attribute of a plugin: on a module with lazy attributes that imports all of them.
        return super().parse_hookimpl_opts(plugin, name) if name.startswith("ptb_") else None


def _components(modules: list[ModuleType]) -> Iterator[tuple[str, Component]]:
    manager = _Manager(PROJECT)
    manager.add_hookspecs(hookspecs)
    for module in modules:
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
                for name in (component.name, *component.aliases):
                    if (other := seen.setdefault((kind, name), component)) is not component:
                        raise ContractError(
                            f"{hook} provides {kind} '{name}' twice: {other.target} and {component.target}"
                        )
                yield kind, component


def _records(hook: str, provided: object) -> Iterator[Component]:
    if isinstance(provided, str | bytes) or not isinstance(provided, Iterable):
        raise ContractError(f"{hook} must return an iterable of Component, got {type(provided).__name__}")
    for component in provided:
        if not isinstance(component, Component):
            raise ContractError(f"{hook} must return Component records, got one {type(component).__name__}")
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
