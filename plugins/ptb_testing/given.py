"""What the author of a plugin gives for its checks: settings, specs, and failures that are expected."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from ptb import ConfigError, DataSpec, InputSpec
from ptb.internals import did_you_mean, listing

KEYS = ("settings", "specs", "expected_failures")


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

    @classmethod
    def read(cls, file: Path) -> "Given":
        """The table ``[tool.ptb.check]`` of a ``pyproject.toml``; nothing where there is none.

        Raises:
            ConfigError: the file cannot be read, or the table holds something else than it may.
        """
        own = table_in(table_in(read_toml(file), "tool", file), "ptb", file)
        _check_keys(own, ("check",), f"{file}: [tool.ptb]")
        table = table_in(own, "check", file)
        _check_keys(table, KEYS, f"{file}: [tool.ptb.check]")
        settings, specs, expected = (table_in(table, key, file) for key in KEYS)
        for key, value in settings.items():
            if not isinstance(value, dict):
                raise ConfigError(f"{file}: settings of '{key}' must be a table, got {value!r}")
        for key, value in expected.items():
            if not isinstance(value, str) or not value.strip():
                raise ConfigError(f"{file}: the expected failure '{key}' must have a reason, got {value!r}")
        made = {key: _specs(value, f"{file}: specs of '{key}'") for key, value in specs.items()}
        return cls(settings, made, expected, file.resolve().parent)


def read_toml(file: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ConfigError: it cannot be read, or is not valid.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


def table_in(parent: Mapping[str, Any], key: str, file: Path) -> dict[str, Any]:
    """A table inside another one, empty where there is none.

    Raises:
        ConfigError: something else stands there.
    """
    value = parent.get(key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: '{key}' must be a table, got {value!r}")
    return value


def _specs(value: object, where: str) -> list[DataSpec]:
    """A list of tables, each with the fields of a ``DataSpec``."""
    known = {each.name: each.default is each.default_factory is MISSING for each in fields(DataSpec)}
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{where} must be a list of tables with the fields of a DataSpec, got {value!r}")
    specs = []
    for table in value:
        _check_keys(table, list(known), where)
        if missing := [name for name, required in known.items() if required and name not in table]:
            raise ConfigError(f"{where} lack {listing(missing)}: {table!r}")
        try:
            inputs = {name: InputSpec(**each) for name, each in table.get("fields", {}).items()}
            specs.append(DataSpec(**table | {"fields": inputs}))
        # A field has the wrong type, or does not fit the others.
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: {table!r} is no DataSpec: {error}") from error
    return specs


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(f"{where} has no key '{key}'{did_you_mean(key, known)}; valid are {', '.join(known)}")
