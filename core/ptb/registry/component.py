"""The records by which a plugin describes what it provides: names and strings only, so making one imports nothing."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from ptb.kinds import NEEDS, ROLES, TARGET_FORMS

MAX_SUMMARY = 200
BETTER = ("higher", "lower")

# Names are parts of file names, ids and TOML keys.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_COMMAND = re.compile(r"[a-z0-9][a-z0-9-]{0,31}( [a-z0-9][a-z0-9-]{0,31})?")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# Most requirements look like this; reading the others needs ``packaging``, which costs a tenth of ``ptb list``.
_PLAIN_REQUIREMENT = re.compile(r"[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*( ?((>=|<|==) ?\d+|~= ?\d+\.\d+)(\.\d+){0,3})?")
_SEQUENCES = ("requires", "aliases", "accepts", "needs", "default_for", "before", "after")


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
        accepts: for losses, metrics and plots, the target kinds they take; empty means any. ``"class+positions"`` is a
            class at each position.
        needs: for optimizers, what they ask of the training: ``"closure"``, ``"sparse-gradients"``,
            ``"named-parameters"`` (``params`` are pairs of name and tensor), ``"model"`` (called with ``model=``),
            ``"create-graph"`` (the backward pass can be differentiated). For plots, what they read of a run:
            ``"history"``, ``"predictions"``, ``"samples"``, ``"weights"``, ``"several-runs"``.
        default_for: the target kinds for which a run takes it where none is named, or ``"*"``. It counts from the
            built-in plugin only, so that installing a plugin changes no run. Observers with ``"*"`` are added by
            `ptb run`, not to the configuration.
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
        for name in _SEQUENCES:
            object.__setattr__(self, name, _strings(owner, name, getattr(self, name)))
        for name in ("settings", "extra", "role"):
            _check_string(owner, name, getattr(self, name), or_none=True)
        _check_common(owner, self, _NAME)
        for name in (*self.aliases, *self.before, *self.after):
            _check_form(owner, "the name", name, _NAME)
        if self.settings is not None:
            _check_form(owner, "settings", self.settings, _REFERENCE)
        _check_choices(owner, "accepts", self.accepts, TARGET_FORMS)
        _check_choices(owner, "needs", self.needs, tuple(chain(*NEEDS.values())))
        _check_choices(owner, "default_for", self.default_for, ("*", *TARGET_FORMS))
        _check_choices(owner, "role", () if self.role is None else (self.role,), ROLES)
        if isinstance(self.better, Mapping):  # a copy, which its plugin cannot change later
            object.__setattr__(self, "better", dict(self.better))
        _check_better(owner, self.better)
        if not all(map(_PLAIN_REQUIREMENT.fullmatch, self.requires)):
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
        _check_common(f"Command {self.name!r}", self, _COMMAND)


def _check_common(owner: str, record: Component | Command, name_form: re.Pattern[str]) -> None:
    for name in ("name", "target", "summary"):
        _check_string(owner, name, getattr(record, name))
    _check_form(owner, "the name", record.name, name_form)
    _check_form(owner, "target", record.target, _REFERENCE)
    if len(record.summary) > MAX_SUMMARY or len(record.summary.splitlines()) > 1:
        raise ValueError(f"{owner}: the summary must be one line of at most {MAX_SUMMARY} characters")


def _check_string(owner: str, field: str, value: object, or_none: bool = False) -> None:
    if not isinstance(value, str) and not (or_none and value is None):
        raise TypeError(f"{owner}: {field} must be a string, got {value!r}")


def _check_form(owner: str, field: str, text: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(text):
        valid = "be 'package.module:attribute'" if form is _REFERENCE else f"match {form.pattern}"
        raise ValueError(f"{owner}: {field} {text!r} must {valid}")


def _check_choices(owner: str, field: str, values: Iterable[str], valid: tuple[str, ...]) -> None:
    for value in values:
        if value not in valid:
            raise ValueError(f"{owner}: {field} has {value!r}; valid are {', '.join(valid)}")


def _check_better(owner: str, better: str | Mapping[str, str] | None) -> None:
    if better is None:
        return
    directions = list(better.values()) if isinstance(better, Mapping) else [better]
    if not directions or not all(isinstance(direction, str) for direction in directions):
        raise TypeError(f"{owner}: better must be 'higher', 'lower' or a dict of them by figure, got {better!r}")
    _check_choices(owner, "better", directions, BETTER)


def _strings(owner: str, field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple | list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{owner}: {field} must be a tuple of strings, got {value!r}")
    return tuple(value)


def _check_requirements(owner: str, requires: tuple[str, ...]) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    for text in requires:
        try:
            Requirement(text)
        except InvalidRequirement as error:
            raise ValueError(f"{owner}: requires {text!r} is not a PEP 508 requirement") from error
