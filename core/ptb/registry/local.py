"""Plugins that nobody installed: a Python file that a command names, or an object of a Python session."""

import atexit
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import Distribution, EntryPoint
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from ptb.errors import ConfigError, one_line
from ptb.kinds import KINDS
from ptb.registry.contract import ContractError, component_name
from ptb.registry.discovery import GROUP, FoundPlugin, RejectedPlugin

_FILE_NAME = re.compile(r"[\w.-]+\.py")


def found_locally(plugin: object) -> FoundPlugin:
    """The plugin that a path, a module or an object with hooks as methods stands for; runs nothing of it.

    Raises:
        ConfigError: there is no such file, or it cannot be a plugin.
    """
    if isinstance(plugin, str | os.PathLike):
        return _of_file(Path(os.path.expanduser(plugin)))
    name = str(getattr(plugin, "__name__", type(plugin).__name__))
    return _found(name, name, "given as an object", b"", lambda: _as_module(name, plugin))


def explain(plugin: RejectedPlugin) -> str:
    """Why it cannot be used, with the line of its file that raised."""
    if isinstance(plugin.cause, ContractError):
        return str(plugin.cause)
    frames = traceback.extract_tb(plugin.cause.__traceback__) if plugin.cause else []
    lines = [frame.lineno for frame in frames if frame.filename == plugin.found.location]
    return plugin.reason + (f" ({plugin.found}, line {lines[-1]})" if lines else "")


def advice(name: str, configs: Iterable[Path]) -> str:
    """What to add to a command that reads these config files of runs, so that the plugin file ``name`` takes part."""
    copies = [copy for config in configs if (copy := config.parent / "plugins" / name).is_file()]
    path = str(copies[0] if copies else Path("PATH", name))
    return f"add\n  -p {shlex.quote(path)}\n(in Python: registry=ptb.load_registry(plugins=[{path!r}]))"


def recorded_version(name: str, configs: Iterable[Path]) -> str | None:
    """The version of a plugin that the runs with these config files used, where a ``manifest.json`` says so."""
    for config in configs:
        with suppress(OSError, ValueError, LookupError, TypeError):
            manifest = json.loads((config.parent / "manifest.json").read_text(encoding="utf-8"))
            return str(manifest["plugin_files"][name]["version"])
    return None


def instead_of_code(kind: str, name: str) -> str:
    """What to type in place of ``./mynet.py`` or ``mynet:MyNet`` as the name of a component; empty for other names."""
    module, _, attribute = name.partition(":")
    if not (module.endswith(".py") or attribute.partition(".")[0].isidentifier()):
        return ""
    file = module if module.endswith(".py") else f"./{module.replace('.', '/')}.py"
    if not attribute:
        attribute = "NAME"
    elif attribute == attribute.lower().replace("_", "") and not Path(file).is_file():  # it may be an id
        return ""
    else:
        attribute = component_name(attribute)
    command = f"ptb -p {shlex.quote(file)}"
    use = f"run --{KINDS[kind].flag} {attribute}" if KINDS[kind].flag else f"{kind} {attribute} RUN"
    return (
        f"; a {kind} is chosen by the name that a hook gives it:\n  {command} {use}\n"
        f"(`{command} list {kind}` shows the names in the file)"
    )


def _of_file(path: Path) -> FoundPlugin:
    try:
        if path.is_dir():
            raise ConfigError(f"-p {path} is a folder; name the .py file in it, or install the package in it with pip")
        if path.name == "__init__.py":
            raise ConfigError(
                f"-p {path} is one file of a package, and the others could not be imported; install the package "
                "(python -m pip install -e FOLDER, where its pyproject.toml is), or put all into one file"
            )
        if not path.exists():
            raise ConfigError(f"-p {path}: there is no such file")
        if not _FILE_NAME.fullmatch(path.name):
            raise ConfigError(
                f"-p {path}: a plugin is a file whose name ends in .py and has no spaces, as in ./mynet.py"
            )
        source = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(f"-p {str(path)[:80]!r} cannot be read: {one_line(error)}") from error
    path = path.resolve()
    module = "ptb_file_" + re.sub(r"\W", "_", path.stem)
    return _found(path.name, module, str(path), source, lambda: _run(module, path, source))


def _found(name: str, module: str, place: str, source: bytes, make: Callable[[], ModuleType]) -> FoundPlugin:
    nothing = Distribution.at(Path(place, "metadata"))  # there are none, and what they would lie beside is the place
    return FoundPlugin(name, "", (EntryPoint("local", module, GROUP),), nothing, source=source, make=make)


def _as_module(name: str, plugin: Any) -> ModuleType:
    if isinstance(plugin, ModuleType):
        return plugin
    module = ModuleType(name)
    vars(module).update({key: getattr(plugin, key) for key in dir(plugin) if not key.startswith("__")})
    return module


def _run(name: str, path: Path, source: bytes) -> ModuleType:
    """Runs a plugin file; once, as long as it stays as it is."""
    known = sys.modules.get(name)
    if known is not None and (known.__file__, vars(known).get("__ptb_source__")) == (str(path), source):
        return known
    spec = spec_from_file_location(name, path)
    if spec is None:
        raise ImportError(f"{path} is no Python file")
    module = module_from_spec(spec)
    vars(module)["__ptb_source__"] = source
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ModuleNotFoundError) and error.name and (path.parent / f"{error.name}.py").exists():
            error.msg += "; a plugin file cannot import the files beside it: put all into one file, or make a package"
        raise
    _offer_to_processes(name, source)
    return module


def _offer_to_processes(name: str, source: bytes) -> None:
    """Lets processes that are spawned import the module: they get ``sys.path``, so a copy lies alone in a folder."""
    folder = tempfile.mkdtemp(prefix="ptb-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, f"{name}.py").write_bytes(source)
    sys.path.insert(0, folder)
