"""The records by which a plugin describes what it provides: names and strings only, so making one imports nothing."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ptb.kinds import NEEDS, ROLES, TARGET_KINDS

MAX_NAME = 64
MAX_SUMMARY = 200
BETTER = ("higher", "lower")

_PLAIN_REQUIREMENT = re.compile(r"[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*( ?(>=|<|==|~=) ?\d+(\.\d+){1,3})?")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_COMMAND = re.compile(r"[a-z0-9][a-z0-9-]*( [a-z0-9][a-z0-9-]*)?")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Component:
    """One named thing that a plugin provides. It checks its own shape and resolves nothing.

    Args:
        name: how users choose it, ``[a-z0-9][a-z0-9-]*``, of at most 64 characters.
        target: the class or function behind it, ``"package.module:attribute"``; imported on first use.
        summary: one line for ``ptb list``, of at most 200 characters.
        settings: ``"package.module:Model"``, a pydantic model of its options that imports no torch. Without it the
            options are read from the target's parameters, which imports the target.
        requires: optional dependencies as PEP 508 strings, such as ``"timm>=1.0"``.
        extra: the extra of the plugin's distribution that installs them.
        aliases: other names that lead here; ``ptb list`` does not show them.
        accepts: for losses and metrics, the target kinds they take; empty means any.
        needs: for optimizers, what they ask of the training: ``"closure"``, ``"sparse-gradients"``.
        default_for: the target kinds for which a run takes it where none is named, or ``"*"``. It counts from the
            built-in plugin only, so that installing a plugin changes no run.
        role: for callbacks, which must have one: ``"observer"`` (only looks) or ``"actor"`` (changes training).
        before: for callbacks, the names of others that come after this one; those that take no part are ignored.
        after: for callbacks, the names of others that come before this one.
        better: for metrics, whether ``"higher"`` or ``"lower"`` is better, or a dict of that by figure.

    Raises:
        TypeError: a field has the wrong type, for example a bare string where a sequence of strings belongs.
        ValueError: a field has the wrong form; the message shows the right one.
    """

    name: str
    target: str
    summary: str = ""
    settings: str | None = None
    requires: tuple[str, ...] = ()
    extra: str | None = None
    aliases: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    default_for: tuple[str, ...] | Literal["*"] = ()
    role: str | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    better: str | Mapping[str, str] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        owner = f"Component {self.name!r}"
        if self.default_for == "*":
            object.__setattr__(self, "default_for", ("*",))
        for name, default in _DEFAULTS:
            value = getattr(self, name)
            if isinstance(default, tuple):
                object.__setattr__(self, name, _strings(owner, name, value))
            elif name != "better" and not isinstance(value, str) and not (value is None and default is None):
                raise TypeError(f"{owner}: {name} must be a string, got {value!r}")
        for name in (self.name, *self.aliases, *self.before, *self.after):
            _check_name(owner, name, _NAME)
        _check_summary(owner, self.summary)
        _check_reference(owner, "target", self.target)
        if self.settings is not None:
            _check_reference(owner, "settings", self.settings)
        _check_choices(owner, "accepts", self.accepts, TARGET_KINDS)
        _check_choices(owner, "needs", self.needs, NEEDS)
        _check_choices(owner, "default_for", self.default_for, ("*", *TARGET_KINDS))
        if self.role is not None:
            _check_choices(owner, "role", (self.role,), ROLES)
        if self.better is not None:
            object.__setattr__(self, "better", _checked_better(owner, self.better))
        if self.requires:
            _check_requirements(owner, self.requires)


@dataclass(frozen=True)
class Command:
    """One command of ``ptb`` that a plugin provides. It checks its own shape and resolves nothing.

    Args:
        name: what users type, such as ``"bench"``, or ``"plugins check"`` for one inside a group.
        target: the ``click.Command`` behind it, ``"package.module:attribute"``; imported when somebody uses it.
        summary: one line for ``ptb --help``, of at most 200 characters.

    Raises:
        TypeError: a field is no string.
        ValueError: a field has the wrong form; the message shows the right one.
    """

    name: str
    target: str
    summary: str = ""

    def __post_init__(self) -> None:
        owner = f"Command {self.name!r}"
        for name in ("name", "target", "summary"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{owner}: {name} must be a string, got {getattr(self, name)!r}")
        _check_name(owner, self.name, _COMMAND)
        _check_summary(owner, self.summary)
        _check_reference(owner, "target", self.target)


_DEFAULTS = tuple((field.name, field.default) for field in fields(Component))


def _strings(owner: str, field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple | list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{owner}: {field} must be a tuple of strings, got {value!r}")
    return tuple(value)


def _check_name(owner: str, name: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(name):
        raise ValueError(f"{owner}: the name {name!r} must match {form.pattern}")
    if len(name) > MAX_NAME:
        raise ValueError(f"the name {name[:MAX_NAME]!r}... must have at most {MAX_NAME} characters, has {len(name)}")


def _check_summary(owner: str, summary: str) -> None:
    if len(summary) > MAX_SUMMARY or len(summary.splitlines()) > 1:
        raise ValueError(f"{owner}: the summary must be one line of at most {MAX_SUMMARY} characters")


def _check_reference(owner: str, field: str, reference: str) -> None:
    if not _REFERENCE.fullmatch(reference):
        raise ValueError(f"{owner}: {field} {reference!r} must be 'package.module:attribute'")


def _check_choices(owner: str, field: str, values: Iterable[str], valid: tuple[str, ...]) -> None:
    for value in values:
        if value not in valid:
            raise ValueError(f"{owner}: {field} has {value!r}; valid are {', '.join(valid)}")


def _checked_better(owner: str, better: Any) -> Any:
    """``better`` as it is, a dict of it as a copy that its plugin cannot change later."""
    by_figure: dict[Any, Any] = dict(better) if isinstance(better, Mapping) else {"": better}
    if not all(isinstance(text, str) for pair in by_figure.items() for text in pair) or not by_figure:
        raise TypeError(f"{owner}: better must be 'higher', 'lower' or a dict of them by figure, got {better!r}")
    _check_choices(owner, "better", by_figure.values(), BETTER)
    return by_figure if isinstance(better, Mapping) else better


def _check_requirements(owner: str, requires: tuple[str, ...]) -> None:
    unusual = [text for text in requires if not _PLAIN_REQUIREMENT.fullmatch(text)]
    if not unusual:
        return
    from packaging.requirements import InvalidRequirement, Requirement  # costs a tenth of `ptb list`

    for text in unusual:
        try:
            Requirement(text)
        except InvalidRequirement as error:
            raise ValueError(f"{owner}: requires {text!r} is not a PEP 508 requirement") from error
