"""The record by which a plugin describes one component: names and strings only, so that making it imports nothing."""

import re
from dataclasses import dataclass, fields

from ptb.kinds import NEEDS, TARGET_KINDS

MAX_NAME = 64
MAX_SUMMARY = 200

_PLAIN_REQUIREMENT = re.compile(r"[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*( ?(>=|<|==|~=) ?\d+(\.\d+){1,3})?")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
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

    def __post_init__(self) -> None:
        for name, default in _DEFAULTS:
            value = getattr(self, name)
            if isinstance(default, tuple):
                if value != ():
                    object.__setattr__(self, name, _strings(self.name, name, value))
            elif not isinstance(value, str) and not (value is None and default is None):
                raise TypeError(f"Component {self.name!r}: {name} must be a string, got {value!r}")
        for name in (self.name, *self.aliases):
            if not _NAME.fullmatch(name):
                raise ValueError(f"Component {self.name!r}: the name {name!r} must match {_NAME.pattern}")
            if len(name) > MAX_NAME:
                raise ValueError(
                    f"the name {name[:MAX_NAME]!r}... must have at most {MAX_NAME} characters, has {len(name)}"
                )
        if len(self.summary) > MAX_SUMMARY or len(self.summary.splitlines()) > 1:
            raise ValueError(
                f"Component {self.name!r}: the summary must be one line of at most {MAX_SUMMARY} characters"
            )
        for label, reference in (("target", self.target), ("settings", self.settings)):
            if reference is not None and not _REFERENCE.fullmatch(reference):
                raise ValueError(f"Component {self.name!r}: {label} {reference!r} must be 'package.module:attribute'")
        _check_choices(self.name, "accepts", self.accepts, TARGET_KINDS)
        _check_choices(self.name, "needs", self.needs, NEEDS)
        if self.requires:
            _check_requirements(self.name, self.requires)


_DEFAULTS = tuple((field.name, field.default) for field in fields(Component))


def _strings(name: object, field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple | list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"Component {name!r}: {field} must be a tuple of strings, got {value!r}")
    return tuple(value)


def _check_choices(name: str, field: str, values: tuple[str, ...], valid: tuple[str, ...]) -> None:
    for value in values:
        if value not in valid:
            raise ValueError(f"Component {name!r}: {field} has {value!r}; valid are {', '.join(valid)}")


def _check_requirements(name: str, requires: tuple[str, ...]) -> None:
    unusual = [text for text in requires if not _PLAIN_REQUIREMENT.fullmatch(text)]
    if not unusual:
        return
    from packaging.requirements import InvalidRequirement, Requirement  # costs a tenth of `ptb list`

    for text in unusual:
        try:
            Requirement(text)
        except InvalidRequirement as error:
            raise ValueError(f"Component {name!r}: requires {text!r} is not a PEP 508 requirement") from error
