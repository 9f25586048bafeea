"""Which plugin is checked, and what its author gives for it: an installed one, or a source folder as it stands."""

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from ptb.data.spec import DataSpec
from ptb.errors import ConfigError, PluginError, UnknownNameError, did_you_mean, listing
from ptb.registry.discovery import FoundPlugin, LoadedPlugin, find_plugins, load_plugin, normalize
from ptb.registry.registry import RegisteredComponent, Registry

KEYS = ("settings", "specs", "expected_failures")
SPEC_KINDS = ("model", "loss", "metric")


@dataclass(frozen=True)
class Given:
    """What the author says about the components, for their checks.

    Args:
        settings: those a component is built from in place of its defaults, by ``"KIND/NAME"``.
        specs: those a model, loss or metric is tried on in place of the kit's, by ``"KIND/NAME"``.
        expected_failures: reasons by ``"KIND/NAME/CHECK"``.
        folder: what relative paths among the settings are relative to; None is the current folder.
    """

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    specs: Mapping[str, Sequence[DataSpec]] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    def __add__(self, other: "Given") -> "Given":
        """Both; where both say something, the other one counts."""
        return Given(
            {**self.settings, **other.settings},
            {**self.specs, **other.specs},
            {**self.expected_failures, **other.expected_failures},
            other.folder or self.folder,
        )


@dataclass(frozen=True)
class Subject:
    """The components that are to be checked."""

    label: str
    entries: tuple[RegisteredComponent, ...]
    given: Given = Given()

    def __post_init__(self) -> None:
        known = [f"{entry.kind}/{entry.name}" for entry in self.entries]
        if not known:
            raise PluginError(f"{self.label} provides no component: there is nothing to check")
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


def subject_of(plugin: str | Path | Iterable[RegisteredComponent]) -> Subject:
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
    project = _table(_read(file), "project", file)
    points = _table(_table(project, "entry-points", file), "ptb", file)
    name, version = project.get("name"), project.get("version", "0")
    if not isinstance(name, str) or not points or not all(isinstance(value, str) for value in points.values()):
        raise ConfigError(
            f'{file} makes no plugin: it needs name in [project], and [project.entry-points.ptb] with NAME = "MODULE"; '
            "if another file says that, install the package and check it by its name"
        )
    requires = [text for text in project.get("dependencies", ()) if isinstance(text, str)]
    dist = Folder(name, str(version), points, folder.resolve(), requires)
    return _loaded(dist.found()).with_given(read_given(file))


def read_given(file: Path) -> Given:
    """The table ``[tool.ptb.check]`` of a ``pyproject.toml``; nothing where there is none.

    Raises:
        ConfigError: the file cannot be read, or the table holds something else than it may.
    """
    own = _table(_table(_read(file), "tool", file), "ptb", file)
    _check_keys(own, ("check",), f"{file}: [tool.ptb]")
    table = _table(own, "check", file)
    _check_keys(table, KEYS, f"{file}: [tool.ptb.check]")
    settings, specs, expected = (_table(table, key, file) for key in KEYS)
    for key, value in settings.items():
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: settings of '{key}' must be a table, got {value!r}")
    for key, value in expected.items():
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{file}: the expected failure '{key}' must have a reason, got {value!r}")
    read = {key: _specs(value, f"{file}: specs of '{key}'") for key, value in specs.items()}
    return Given(settings, read, expected, file.resolve().parent)


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


def entries_of(found: FoundPlugin) -> tuple[RegisteredComponent, ...]:
    """The components of a plugin.

    Raises:
        PluginError: it cannot be loaded; the message says why.
    """
    plugin = load_plugin(found)
    if not isinstance(plugin, LoadedPlugin):
        raise PluginError(f"plugin '{found}' cannot be loaded: {plugin.reason}") from plugin.cause
    return tuple(Registry([plugin]).components())


def _loaded(found: FoundPlugin) -> Subject:
    return Subject(str(found), entries_of(found))


def _specs(value: object, where: str) -> list[DataSpec]:
    """A list of tables, each with the fields of a ``DataSpec``."""
    known = [each.name for each in fields(DataSpec)]
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{where} must be a list of tables with the fields of a DataSpec, got {value!r}")
    specs = []
    for table in value:
        _check_keys(table, known, where)
        if missing := [each.name for each in fields(DataSpec) if each.default is MISSING and each.name not in table]:
            raise ConfigError(f"{where} lack {listing(missing)}: {table!r}")
        try:
            specs.append(DataSpec(**table))
        except (TypeError, ValueError) as error:  # a field has the wrong type, or does not fit the others
            raise ConfigError(f"{where}: {table!r} is no DataSpec: {error}") from error
    return specs


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(f"{where} has no key '{key}'{did_you_mean(key, known)}; valid are {', '.join(known)}")


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


def _table(parent: Mapping[str, Any], key: str, file: Path) -> dict[str, Any]:
    value = parent.get(key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: '{key}' must be a table, got {value!r}")
    return value
