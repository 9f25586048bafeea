"""Asks the hooks of a plugin, and holds what they are and what they return against the contract.

Each plugin gets a pluggy manager of its own: one that breaks the contract leaves no hook behind.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import pluggy

from ptb.errors import did_you_mean
from ptb.kinds import KINDS, NEEDS
from ptb.registry import hookspecs
from ptb.registry.component import Command, Component
from ptb.registry.hookspecs import PROJECT

COMMANDS = "ptb_provide_commands"
MAX_RECORDS = 10_000  # of one hook
HOOKS = (*(kind.hook for kind in KINDS.values()), COMMANDS)

_ONLY_FOR = {"role": "callback", "before": "callback", "after": "callback", "better": "metric"}

R = TypeVar("R", Component, Command)


class ContractError(Exception):
    """A plugin's hooks are not what ``hookspecs`` asks for."""


def ask_hooks(modules: Iterable[ModuleType]) -> tuple[tuple[tuple[str, Component], ...], tuple[Command, ...]]:
    """What the modules of one plugin provide: pairs of kind and component, and commands.

    Raises:
        ContractError: a hook is not as it must be, or what it returns is not.
        Exception: whatever a hook raises.
    """
    manager = _Manager(PROJECT)
    manager.add_hookspecs(hookspecs)
    for module in modules:
        if not isinstance(module, ModuleType):
            raise ContractError(f"its entry point must name a module, it names a {type(module).__name__}")
        for name, value in vars(module).items():
            _check_hook(f"{module.__name__}.{name}", name, value)
        manager.register(module)
    if not any(getattr(manager.hook, hook).get_hookimpls() for hook in HOOKS):
        raise ContractError(_lines_for_modules(vars(module)) or f"implements no hook; there are: {', '.join(HOOKS)}")
    return tuple(_components(manager)), tuple(_commands(manager))


def component_name(attribute: str) -> str:
    """``"my-net"`` for ``"MyNet"`` or ``"my_net"``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", "-", attribute.strip("_")).lower()


def _lines_for_modules(names: Mapping[str, Any]) -> str:
    """The hook that a file lacks, written for the last ``nn.Module`` class in it; nothing where it has none."""
    torch = sys.modules.get("torch")
    own = [
        name
        for name, value in names.items()
        if isinstance(value, type)
        and value.__module__ == names["__name__"]
        and torch
        and issubclass(value, torch.nn.Module)
    ]
    if not own:
        return ""
    return (
        f"class {own[-1]} is there, and no hook names it; add these lines:\n"
        "from ptb import Component, hookimpl\n\n"
        "@hookimpl\ndef ptb_provide_models():\n"
        f'    return [Component("{component_name(own[-1])}", f"{{__name__}}:{own[-1]}")]'
    )


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        # pluggy reads every attribute of a plugin: on a module with lazy attributes that imports all of them.
        return super().parse_hookimpl_opts(plugin, name) if name in HOOKS else None


def _check_hook(place: str, name: str, value: object) -> None:
    """Pluggy passes over a hook without its mark, a mark on what is no hook, and a parameter with a default."""
    if not isinstance(value, FunctionType | MethodType) or not hasattr(value, f"{PROJECT}_impl"):
        if name.startswith("ptb_provide_"):
            raise ContractError(f"{place} is not marked: put @hookimpl (from ptb) above it")
        return
    if name not in HOOKS:
        raise ContractError(f"unknown hook '{name}'{did_you_mean(f'ptb_{name}', HOOKS)}")
    if parameters := inspect.signature(value).parameters:
        raise ContractError(f"hook '{name}' takes no arguments, has '{next(iter(parameters))}'")


def _components(manager: pluggy.PluginManager) -> Iterator[tuple[str, Component]]:
    for kind in KINDS.values():
        seen: dict[str, Component] = {}
        for component in _records(manager, kind.hook, Component):
            _check_kind(kind.name, component)
            for name in {component.name, *component.aliases}:
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
        for number, each in enumerate(provided):
            # An iterable that does not end would hang every command.
            if number == MAX_RECORDS:
                raise ContractError(f"{hook} returns more than {MAX_RECORDS:,} records")
            if not isinstance(each, record):
                raise ContractError(f"{hook} must return {record.__name__} records, got one {type(each).__name__}")
            yield each


def _check_new(what: str, record: R, first: R) -> None:
    if record is not first:
        raise ContractError(f"provides {what} twice: {first.target} and {record.target}")


def _check_kind(kind: str, component: Component) -> None:
    """What a record can only say of a component of one kind, and what a callback must say."""
    for field, owner in _ONLY_FOR.items():
        if owner != kind and (value := getattr(component, field)):
            raise ContractError(f"{kind} '{component.name}' has {field}={value!r}, which only a {owner} can have")
    if foreign := [need for need in component.needs if need not in NEEDS.get(kind, ())]:
        raise ContractError(f"{kind} '{component.name}' has needs={foreign}, which are not those of a {kind}")
    if kind == "callback" and component.role is None:
        roles = 'role="observer" (it only looks) or role="actor" (it changes training)'
        raise ContractError(f"callback '{component.name}' has no role: give {roles}")
