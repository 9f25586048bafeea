"""What a check is given: one component or command, with the settings to build it from."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptb import Command, Component, ConfigError, DataSpec
from ptb.internals import ComponentConfig, FoundPlugin, RegisteredComponent, listing, validate
from ptb_testing.outcome import CheckFailed, Result, Skipped
from ptb_testing.subject import Entry, kind_of, label_of, record_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ptb_testing.trial import Trial

# A check returns a remark for the report, or nothing; it raises CheckFailed or Skipped.
Check = Callable[["Case"], str | None]


@dataclass(frozen=True)
class Kit:
    """What is particular to the components of one kind.

    Args:
        checks: all of the kind, in the order in which they run.
        gates: those without which the later ones could only fail for the same reason, unless that failure is expected.
        optional: those that a component in good order may skip, because it has no use for them or they need a GPU.
        notes: those that a component which trains and resumes right may fail: that is a note.
        trials: small runs with it; the case has those that were taken so far. Those that are refused are left out.
        check_tried: raises CheckFailed where some of them had to be taken.
        use: builds it and uses it once, for those that look at the process around it; None is the first of its runs.
        may_draw: whether it may draw from the global generators, which the core has seeded.
    """

    checks: tuple[Check, ...]
    gates: tuple[Check, ...] = ()
    optional: tuple[Check, ...] = ()
    notes: tuple[Check, ...] = ()
    trials: Callable[["Case"], Iterator["Trial"]] = lambda case: iter(())
    check_tried: Callable[["Case"], None] = lambda case: None
    use: Callable[["Case"], Any] | None = None
    may_draw: bool = False


@dataclass(eq=False)
class Case:
    """One component or command under test.

    Args:
        entry: the component or command.
        kit: that of its kind.
        given: settings that replace its defaults.
        specs: those it is tried on; empty for the kit's own.
        expected: reasons of expected failures, by the name of the check.
        folder: the checks run in it, so that paths among the settings may be relative to it.

    Attributes:
        results: of the checks that have run, by name.
        observed: three uses, with the process around them.
        tried: the trials that came to their end.
    """

    entry: Entry
    kit: Kit
    given: Mapping[str, Any] = field(default_factory=dict)
    specs: Sequence[DataSpec] = ()
    expected: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    results: dict[str, Result] = field(default_factory=dict)
    observed: Any = None
    tried: "list[Trial]" = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Its kind, ``"command"`` for a command."""
        return kind_of(self.entry)

    @property
    def label(self) -> str:
        """``KIND/NAME``."""
        return label_of(self.entry)

    @property
    def record(self) -> Component | Command:
        """What its plugin says of it."""
        return record_of(self.entry)

    @property
    def found(self) -> FoundPlugin:
        """Its plugin."""
        return self.entry.found

    @property
    def component(self) -> RegisteredComponent:
        """The entry of a component."""
        assert isinstance(self.entry, RegisteredComponent)
        return self.entry

    @cached_property
    def model(self) -> "type[BaseModel]":
        """The model of its settings."""
        self._require_dependencies()
        return self.component.settings_model()

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
        except ConfigError as error:
            raise CheckFailed(f"the settings {dict(self.given)} are refused: {error}") from error

    @property
    def config(self) -> ComponentConfig:
        """The component with its settings, as a run has it."""
        return ComponentConfig(self.component, self.settings)

    @cached_property
    def target(self) -> Any:
        """What it names, imported."""
        self._require_dependencies()
        return self.entry.load()

    def build(self, *runtime: Any) -> Any:
        """Calls the target as the core does."""
        return self.config.build(*runtime)

    def _require_dependencies(self) -> None:
        missing = self.entry.missing() if isinstance(self.entry, RegisteredComponent) else []
        if missing:
            raise Skipped(f"needs {', '.join(missing)}, which is not installed")


def name_of(check: Check) -> str:
    """``schema-is-json`` of ``schema_is_json``."""
    return check.__name__.replace("_", "-")


def summary_of(check: Check) -> str:
    """The first line of its docstring."""
    return (inspect.getdoc(check) or "").partition("\n")[0]
