"""The conformance kit, for the authors of plugins: does a component keep the contract of its kind?

``ptb plugins check`` runs it on the command line, ``parametrize_with_checks`` in pytest, ``check_plugin`` from Python.
pytest finds the fixtures ``ptb_registry`` and ``ptb_cli`` by itself. A name is imported when it is first used, and
torch when checks are asked for.
"""

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ptb import Command, hookimpl

if TYPE_CHECKING:
    from ptb_testing.kit import check_plugin
    from ptb_testing.outcome import CheckFailed, Result
    from ptb_testing.parametrize import parametrize_with_checks
    from ptb_testing.report import ComponentReport, Report

__all__ = ["parametrize_with_checks", "check_plugin", "Report", "ComponentReport", "Result", "CheckFailed"]

_HOMES = {
    "parametrize_with_checks": "parametrize",
    "check_plugin": "kit",
    "Report": "report",
    "ComponentReport": "report",
    "Result": "outcome",
    "CheckFailed": "outcome",
}


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands for people who write plugins."""
    return [
        Command("plugins new", "ptb_testing.command:new", "Write a new plugin package."),
        Command("plugins check", "ptb_testing.command:check", "Check that a plugin keeps its contracts."),
    ]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ptb_testing' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ptb_testing.{_HOMES[name]}"), name)
