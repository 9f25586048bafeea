"""Which plugin is checked: an installed one, or a source folder as it stands."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import Distribution
from pathlib import Path

from ptb import Command, Component, ConfigError, PluginError, Registry, UnknownNameError
from ptb.internals import (
    FoundPlugin,
    LoadedPlugin,
    RegisteredCommand,
    RegisteredComponent,
    did_you_mean,
    find_plugins,
    found_locally,
    listing,
    load_plugin,
    normalize,
)
from ptb_testing.given import Given, read_toml, table_in

Entry = RegisteredComponent | RegisteredCommand
Point = tuple[str, str]
"""Name and value of an entry point."""

SPEC_KINDS = ("model", "loss", "metric")


@dataclass(frozen=True)
class Subject:
    """The components and commands that are to be checked."""

    label: str
    entries: tuple[Entry, ...]
    given: Given = field(default_factory=Given)

    def __post_init__(self) -> None:
        known = list(map(label_of, self.entries))
        if not known:
            raise PluginError(f"{self.label} provides no component and no command: there is nothing to check")
        given = self.given
        keys = [*given.settings, *given.specs, *(key.rpartition("/")[0] for key in given.expected_failures)]
        for key in keys:
            if key not in known:
                raise UnknownNameError(
                    f"'{key}' is no component of {self.label}{did_you_mean(key, known)}; there are {listing(known)}"
                )
        for key, specs in given.specs.items():
            if key.partition("/")[0] not in SPEC_KINDS or not specs:
                raise ConfigError(
                    f"specs of '{key}': a {' or '.join(SPEC_KINDS)} may have one or more, and nothing else"
                )

    def with_given(self, given: Given) -> "Subject":
        """The same components, and more said about them."""
        return replace(self, given=self.given + given)


def kind_of(entry: Entry) -> str:
    """Its kind, ``"command"`` for a command."""
    return entry.kind if isinstance(entry, RegisteredComponent) else "command"


def record_of(entry: Entry) -> Component | Command:
    """What its plugin says of it."""
    return entry.component if isinstance(entry, RegisteredComponent) else entry.command


def label_of(entry: Entry) -> str:
    """``KIND/NAME``."""
    return f"{kind_of(entry)}/{record_of(entry).name}"


def subject_of(plugin: str | Path | Iterable[Entry]) -> Subject:
    """What is to be checked.

    Args:
        plugin: the name of an installed distribution; a source folder with a ``pyproject.toml``, whose modules can be
            imported; or entries of a registry.

    Raises:
        ConfigError: there is no such plugin, or its ``pyproject.toml`` does not say what it must.
        PluginError: it cannot be loaded, or provides nothing.
    """
    if isinstance(plugin, str):
        return installed(plugin)
    if isinstance(plugin, Path):
        return in_folder(plugin)
    entries = tuple(plugin)
    return Subject(listing(sorted({str(entry.found) for entry in entries})) or "this list", entries)


def installed(name: str) -> Subject:
    """The plugin that is installed under this name."""
    plugins = {found.name: found for found in find_plugins()}
    if normalize(name) not in plugins:
        hint = f"; for the source folder write ./{name}" if Path(name).is_dir() else ""
        raise UnknownNameError(
            f"no plugin '{name}' is installed{did_you_mean(name, plugins)}; there are {listing(list(plugins))}{hint}"
        )
    return _loaded(plugins[normalize(name)])


def in_folder(folder: Path) -> Subject:
    """The plugin whose source lies in this folder, installed or not, with what its ``pyproject.toml`` gives."""
    file = folder / "pyproject.toml"
    project = table_in(read_toml(file), "project", file)
    points = table_in(table_in(project, "entry-points", file), "ptb", file)
    name, version = project.get("name"), project.get("version", "0")
    if not isinstance(name, str) or not points or not all(isinstance(value, str) for value in points.values()):
        raise ConfigError(
            f'{file} makes no plugin: it needs name in [project], and [project.entry-points.ptb] with NAME = "MODULE"; '
            "if another file says that, install the package and check it by its name"
        )
    requires = [text for text in project.get("dependencies", ()) if isinstance(text, str)]
    dist = Folder(name, str(version), points, folder.resolve(), requires)
    return _loaded(dist.found()).with_given(Given.read(file))


def in_file(file: Path) -> Subject:
    """The plugin in a Python file, as ``ptb -p FILE.py`` takes it."""
    return _loaded(found_locally(file))


def loaded(found: FoundPlugin) -> LoadedPlugin:
    """The plugin, loaded.

    Raises:
        PluginError: it cannot be; the message says why.
    """
    plugin = load_plugin(found)
    if not isinstance(plugin, LoadedPlugin):
        raise PluginError(f"plugin '{found}' cannot be loaded: {plugin.reason}") from plugin.cause
    return plugin


class Folder(Distribution):
    """A package that is not installed, with the metadata that its installation would write.

    Args:
        name: of the distribution.
        version: of the distribution.
        points: the entry points of the group ``ptb``, modules by name.
        folder: where the package lies.
        requires: PEP 508 requirements.
    """

    def __init__(
        self, name: str, version: str, points: Mapping[str, str], folder: Path, requires: Iterable[str] = ()
    ) -> None:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {text}" for text in requires]
        self._files = {
            "METADATA": "\n".join([*lines, ""]),
            "entry_points.txt": "\n".join(["[ptb]", *(f"{key} = {value}" for key, value in points.items()), ""]),
        }
        self._folder = folder

    def read_text(self, filename: str) -> str | None:
        """The text of a metadata file, if there is one of that name."""
        return self._files.get(str(filename))

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        """Where a file of the package lies."""
        return self._folder / path

    def found(self) -> FoundPlugin:
        """What discovery makes of it."""
        (found,) = find_plugins([self])
        return found


def _loaded(found: FoundPlugin) -> Subject:
    registry = Registry([loaded(found)])
    return Subject(str(found), (*registry.components(), *registry.commands()))
