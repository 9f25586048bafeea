"""What a check is given: one component, with the settings to build it from."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptb.data.spec import DataSpec
from ptb.errors import listing
from ptb.registry.registry import RegisteredComponent
from ptb.registry.settings import SettingsError, arguments, validate
from ptb_testing.outcome import CheckFailed, Result, Skipped

if TYPE_CHECKING:
    from pydantic import BaseModel

# A check returns a remark for the report, or nothing; it raises CheckFailed or Skipped.
Check = Callable[["Case"], str | None]


@dataclass(frozen=True)
class Kit:
    """What is particular to the components of one kind.

    Args:
        build: builds the component in every way that it accepts, and gives what the checks go on with. It raises
            CheckFailed where the result is not what the core needs.
        use: builds it and uses it once, on CPU and with samples of its own: the result, tensors and plain values in
            lists and dicts, is what the same seed must give again.
        may_draw: whether it may draw from the global generators, which the core has seeded.
        checks: those of this kind alone.
        gates: those of them without which the later ones could only fail for the same reason, unless that failure
            is expected.
        optional: those of them that a component in good order may skip, because it has no use for them or because they
            need a GPU.
    """

    build: Callable[["Case"], Any]
    use: Callable[["Case"], Any]
    may_draw: bool
    checks: tuple[Check, ...]
    gates: tuple[Check, ...] = ()
    optional: tuple[Check, ...] = ()


@dataclass(eq=False)
class Case:
    """One component under test.

    Args:
        entry: the component.
        kit: that of its kind.
        given: settings that replace its defaults.
        specs: those it is tried on; empty for the kit's own.
        expected: reasons of expected failures, by the name of the check.
        folder: the checks run in it, so that paths among the settings may be relative to it.
    """

    entry: RegisteredComponent
    kit: Kit
    given: Mapping[str, Any] = field(default_factory=dict)
    specs: Sequence[DataSpec] = ()
    expected: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    results: dict[str, Result] = field(default_factory=dict)
    built: Any = None
    observed: Any = None

    @property
    def label(self) -> str:
        """``KIND/NAME``."""
        return f"{self.entry.kind}/{self.entry.name}"

    @cached_property
    def model(self) -> "type[BaseModel]":
        """The model of its settings."""
        self._require_dependencies()
        return self.entry.settings_model()

    @cached_property
    def settings(self) -> "BaseModel":
        """The settings that it is built from: those given, and defaults.

        Raises:
            Skipped: a setting has no default, and none is given.
            CheckFailed: those given are refused.
        """
        missing = [key for key, f in self.model.model_fields.items() if f.is_required() and key not in self.given]
        if missing:
            values = ", ".join(f"{key} = ..." for key in missing)
            raise Skipped(
                f"{listing(missing)} must be set and no value is given: write [tool.ptb.check.settings] "
                f'"{self.label}" = {{ {values} }} into pyproject.toml, or pass settings= to parametrize_with_checks'
            )
        try:
            return validate(self.model, self.given)
        except SettingsError as error:
            raise CheckFailed(f"the settings {dict(self.given)} are refused: {error}") from error

    @cached_property
    def target(self) -> Callable[..., Any]:
        """What the component names, imported."""
        self._require_dependencies()
        return self.entry.load()

    def build(self, *runtime: Any) -> Any:
        """Calls the target as the core does."""
        return self.target(*runtime, **arguments(self.settings))

    def _require_dependencies(self) -> None:
        if missing := self.entry.missing():
            raise Skipped(f"needs {', '.join(missing)}, which is not installed")


def name_of(check: Check) -> str:
    """``schema-is-json`` of ``schema_is_json``."""
    return check.__name__.replace("_", "-")


def summary_of(check: Check) -> str:
    """The first line of its docstring."""
    return (inspect.getdoc(check) or "").partition("\n")[0]
