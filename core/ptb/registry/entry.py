"""A record together with the plugin that it came from: what a registry hands out.

Nothing is imported but by ``load``, and by ``settings_model`` for a component that names no settings model.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ptb.errors import PluginError, listing, one_line, pip_install
from ptb.kinds import KINDS
from ptb.registry.component import Command, Component
from ptb.registry.discovery import FoundPlugin

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class _Registered(ABC):
    """What components and commands have in common; ``conflicts`` are other plugins that give the same name."""

    found: FoundPlugin
    conflicts: tuple[FoundPlugin, ...]

    @property
    def conflict(self) -> bool:
        """Whether the name does not lead here: another plugin gives it too, and this one is not built in."""
        return bool(self.conflicts) and not self.found.built_in

    @property
    @abstractmethod
    def label(self) -> str:
        """Its kind and name."""

    def __str__(self) -> str:
        return f"{self.label} ({self.found})"

    def _import(self, reference: str) -> Any:
        try:
            return pkgutil.resolve_name(reference)
        except (Exception, SystemExit) as error:  # a third-party module may raise anything
            raise PluginError(f"{self}: importing {reference} failed: {one_line(error)}") from error


@dataclass(frozen=True)
class RegisteredComponent(_Registered):
    """One component together with the plugin it came from."""

    kind: str
    component: Component

    @property
    def name(self) -> str:
        """The short name."""
        return self.component.name

    @property
    def plugin(self) -> str:
        """The distribution that provides it."""
        return self.found.name

    @property
    def version(self) -> str:
        """The version of that distribution."""
        return self.found.version

    @property
    def id(self) -> str:
        """``DISTRIBUTION:NAME``, which is never ambiguous."""
        return f"{self.plugin}:{self.name}"

    @property
    def key(self) -> str:
        """How a config file names it for good: a built-in by its short name while that is its alone, else by id."""
        return self.name if self.found.built_in and not self.conflicts else self.id

    @property
    def target(self) -> str:
        """``"package.module:attribute"``."""
        return self.component.target

    @property
    def summary(self) -> str:
        """One line about it."""
        return self.component.summary

    @property
    def status(self) -> str:
        """``ok``, ``conflict`` (the short name is not its alone) or ``needs X`` (a missing dependency)."""
        missing = self.missing()
        return "conflict" if self.conflict else f"needs {', '.join(missing)}" if missing else "ok"

    def missing(self) -> list[str]:
        """Those of the component's ``requires`` that this interpreter does not meet, read from metadata."""
        return [text for text in self.component.requires if not _is_met(text)]

    def settings_model(self) -> "type[BaseModel]":
        """The pydantic model of its settings; a ``PluginError`` where there is none."""
        from pydantic import BaseModel  # costs as much as all of ``ptb list``

        from ptb.registry.settings import check_names, derive_model

        if self.component.settings is None:
            target = self.load()
            try:
                passed = ("model",) if "model" in self.component.needs else ()
                return derive_model(self.kind, f"'{self.id}'", target, passed)
            except PluginError:
                raise
            except Exception as error:  # the annotations of a third-party target may raise anything
                raise PluginError(f"{self}: its settings cannot be read off its target: {one_line(error)}") from error
        model = self._import(self.component.settings)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise PluginError(f"{self}: settings {self.component.settings!r} is not a pydantic model")
        check_names(str(self), [*model.model_fields, *model.__private_attributes__])
        if aliased := [name for name, field in model.model_fields.items() if field.validation_alias]:
            raise PluginError(f"{self}: a setting has one name only, take the alias away from {listing(aliased)}")
        return model

    def load(self) -> Callable[..., Any]:
        """Imports the target; a ``PluginError`` has the original exception as its cause."""
        self.check_dependencies()
        target = self._import(self.target)
        if not callable(target):
            raise PluginError(f"{self}: target {self.target!r} cannot be called")
        made_by = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009
        if str(getattr(made_by, "__module__", "")).partition(".")[0] == "torch" and (hint := self.spec_hint(target)):
            raise PluginError(f"{self}: {hint}")
        return target  # type: ignore[no-any-return]  # a third-party object: callable is all that is known

    def spec_hint(self, target: Any) -> str:
        """What to write where a target does not take the spec, which the core passes first; empty where it may do."""
        from ptb.registry.settings import parameters_of

        first = next((each for each in parameters_of(target) if each.kind is not each.VAR_KEYWORD), None)
        taken = first is not None and ("spec" in first.name or first.kind is first.VAR_POSITIONAL)
        if KINDS[self.kind].runtime != ("spec",) or taken:
            return ""
        name = self.target.rpartition(":")[2].rpartition(".")[2]
        path = self.target.replace(":", ".") if self.target.startswith("torch.") else name
        made = f"{path}()  # its settings become parameters of make" if isinstance(target, type) else path
        return (
            f"a {self.kind} is called as {name}(spec, **settings), its first argument is the DataSpec, "
            f"and {name} takes {first.name if first else 'none'} there; name a function as the target:\n"
            f"  def make(spec):\n      return {made}"
        )

    def check_dependencies(self) -> None:
        """Raises a ``PluginError`` with the line that installs what is missing, if something is."""
        if missing := self.missing():
            raise PluginError(f"{self} needs {', '.join(missing)}, which is not installed; run\n  {self.remedy()}")

    def remedy(self) -> str:
        """The command that installs what is missing: the extra that has it, if the plugin names one."""
        extra = self.component.extra if self.found.source is None else None
        return pip_install(*([f"{self.plugin}[{extra}]"] if extra else self.missing()))

    @property
    def label(self) -> str:
        """``model 'lenet'``."""
        return f"{self.kind} '{self.name}'"


@dataclass(frozen=True)
class RegisteredCommand(_Registered):
    """One command together with the plugin it came from."""

    command: Command

    @property
    def group(self) -> str:
        """The group that it is in, empty for one of ``ptb`` itself."""
        return self.command.name.rpartition(" ")[0]

    @property
    def word(self) -> str:
        """What it is called in its group."""
        return self.command.name.rpartition(" ")[2]

    @property
    def id(self) -> str:
        """``DISTRIBUTION:NAME``, which is never ambiguous: what to type in its group where the name is not its own."""
        return f"{self.found.name}:{self.word}"

    def load(self) -> Any:
        """Imports the target, which should be a ``click.Command``; raises a ``PluginError`` where that fails."""
        return self._import(self.command.target)

    @property
    def label(self) -> str:
        """``command 'bench'``."""
        return f"command '{self.command.name}'"


def _is_met(requirement: str) -> bool:
    from packaging.requirements import Requirement  # only components with requirements pay for it

    parsed = Requirement(requirement)
    if parsed.marker is not None and not parsed.marker.evaluate():
        return True
    try:
        return parsed.specifier.contains(version(parsed.name), prereleases=True)
    except PackageNotFoundError:
        return False
