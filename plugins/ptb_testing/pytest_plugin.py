"""Fixtures for the tests of a plugin; pytest loads them by itself. Imports neither torch nor what trains."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ptb import Registry

TIMEOUT = 600


@dataclass(frozen=True)
class CliResult:
    """How a command ended, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def ptb_registry() -> "Callable[..., Registry]":
    """Makes a registry of the built-in components and the hooks of the modules that it is given, and of nothing else.

    ::

        def test_it_is_built(ptb_registry):
            model = ptb_registry("ptb_acme").build("model", "ptb-acme:acme-model", spec)

    A module is given itself or by its name, and is a plugin of that name with ``-`` for ``_`` and ``.``. One that
    cannot be loaded is a ``PluginError``. What else is installed is not looked at.
    """

    def make(*modules: ModuleType | str) -> "Registry":
        from ptb import Registry
        from ptb.internals import BUILT_IN, find_plugins
        from ptb_testing.subject import Folder, loaded

        found = [plugin for plugin in find_plugins() if plugin.name == BUILT_IN]
        names = [module if isinstance(module, str) else module.__name__ for module in modules]
        found += [Folder(name.replace(".", "-"), "0", {"plugin": name}, Path()).found() for name in names]
        return Registry(map(loaded, found))

    return make


@pytest.fixture
def ptb_cli(tmp_path: Path) -> Callable[..., CliResult]:
    """Runs ``ptb`` with these arguments in a process of its own, in ``tmp_path``, with all that is installed.

    ::

        def test_it_trains(ptb_cli):
            assert ptb_cli("run", "--model", "acme-model", "--epochs", 1).exit_code == 0
    """

    def run(*arguments: object) -> CliResult:
        command = [sys.executable, "-m", "ptb", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        return CliResult(done.returncode, done.stdout, done.stderr)

    return run
