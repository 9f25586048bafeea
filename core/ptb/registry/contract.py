"""Asks the hooks of a plugin, and holds what they are and what they return against the contract.

Each plugin gets a pluggy manager of its own: one that breaks the contract leaves no hook behind.
"""

import inspect
from collections.abc import Iterable, Iterator
from itertools import islice
from types import FunctionType, ModuleType
from typing import TypeVar, cast

import pluggy

from ptb.errors import did_you_mean
from ptb.kinds import KINDS
from ptb.registry import hookspecs
from ptb.registry.component import Command, Component
from ptb.registry.hookspecs import PROJECT

COMMANDS = "ptb_provide_commands"
HOOKS = (*(kind.hook for kind in KINDS.values()), COMMANDS)
MAX_RECORDS = 10_000  # of one hook: an iterable that does not end must not hang every command

_ONLY_FOR = {"role": "callback", "before": "callback", "after": "callback", "better": "metric"}

R = TypeVar("R", Component, Command)


class ContractError(Exception):
    """A plugin's hooks are not what ``hookspecs`` asks for."""


def answers_of(modules: Iterable[ModuleType]) -> tuple[tuple[tuple[str, Component], ...], tuple[Command, ...]]:
    """What the modules of one plugin provide: pairs of kind and component, and commands.

    Raises:
        ContractError: a hook is not as it must be, or what it returns is not.
        Exception: whatever a hook raises.
    """
    manager = _manager(modules)
    return tuple(_components(manager)), tuple(_commands(manager))


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        # pluggy reads every attribute of a plugin: on a module with lazy attributes that imports all of them.
        return super().parse_hookimpl_opts(plugin, name) if name in HOOKS else None

    def parse_hookspec_opts(self, namespace: ModuleType | type, name: str) -> pluggy.HookspecOpts | None:
        return super().parse_hookspec_opts(namespace, name) if name in HOOKS else None


def _manager(modules: Iterable[ModuleType]) -> pluggy.PluginManager:
    """A manager with the hooks of one plugin, each of which is as it must be."""
    manager = _Manager(PROJECT)
    manager.add_hookspecs(hookspecs)
    for module in modules:
        if not isinstance(module, ModuleType):
            raise ContractError(f"its entry point must name a module, it names a {type(module).__name__}")
        for name, value in vars(module).items():
            _check_hook(f"{module.__name__}.{name}", name, value)
        manager.register(module)
    if not any(getattr(manager.hook, hook).get_hookimpls() for hook in HOOKS):
        raise ContractError(f"implements no hook; there are: {', '.join(HOOKS)}")
    return manager


def _check_hook(place: str, name: str, value: object) -> None:
    """A hook without its mark, or a mark on what is no hook, would be passed over in silence."""
    options = getattr(value, f"{PROJECT}_impl", None) if isinstance(value, FunctionType) else None
    if options is None:
        if name.startswith("ptb_provide_"):
            raise ContractError(f"{place} is not marked: put @hookimpl (from ptb) above it")
        return
    if name not in HOOKS:
        raise ContractError(f"unknown hook '{name}'{did_you_mean(f'ptb_{name}', HOOKS)}")
    is_async = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
    if is_async or options["wrapper"] or options["hookwrapper"]:
        raise ContractError(f"{place} must be a plain function: no wrapper, not async")
    if parameters := inspect.signature(cast(FunctionType, value)).parameters:
        raise ContractError(f"hook '{name}' takes no arguments, has '{next(iter(parameters))}'")


def _components(manager: pluggy.PluginManager) -> Iterator[tuple[str, Component]]:
    for kind in KINDS.values():
        seen: dict[str, Component] = {}
        for component in _records(manager, kind.hook, Component):
            _check_kind(kind.name, component)
            for name in dict.fromkeys((component.name, *component.aliases)):
                _check_new(f"{kind.name} '{name}'", component, seen.setdefault(name, component))
            yield kind.name, component


def _commands(manager: pluggy.PluginManager) -> Iterator[Command]:
    seen: dict[str, Command] = {}
    for command in _records(manager, COMMANDS, Command):
        _check_new(f"command '{command.name}'", command, seen.setdefault(command.name, command))
        yield command


def _records(manager: pluggy.PluginManager, hook: str, record: type[R]) -> Iterator[R]:
    """What the plugin's implementations of a hook return, checked one by one."""
    caller = getattr(manager.hook, hook)
    answers = caller()
    if len(answers) < len(caller.get_hookimpls()):  # pluggy leaves out what is None
        raise ContractError(f"{hook} returns nothing: it must return an iterable of {record.__name__}")
    for provided in answers:
        if isinstance(provided, str | bytes) or not isinstance(provided, Iterable):
            raise ContractError(f"{hook} must return an iterable of {record.__name__}, got {type(provided).__name__}")
        for number, each in enumerate(islice(provided, MAX_RECORDS + 1)):
            if type(each) is not record:  # a subclass could answer otherwise later
                raise ContractError(f"{hook} must return {record.__name__} records, got one {type(each).__name__}")
            if number == MAX_RECORDS:
                raise ContractError(f"{hook} returns more than {MAX_RECORDS} records")
            yield each


def _check_new(what: str, record: R, first: R) -> None:
    if record is not first:
        raise ContractError(f"provides {what} twice: {first.target} and {record.target}")


def _check_kind(kind: str, component: Component) -> None:
    """What a record can only say of a component of one kind, and what a callback must say."""
    for field, owner in _ONLY_FOR.items():
        if owner != kind and (value := getattr(component, field)):
            raise ContractError(f"{kind} '{component.name}' has {field}={value!r}, which only a {owner} can have")
    if kind == "callback" and component.role is None:
        raise ContractError(
            f'callback \'{component.name}\' has no role: give role="observer" (it only looks) or role="actor" '
            "(it changes training)"
        )
