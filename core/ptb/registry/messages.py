"""What is wrong with settings, in words: pydantic finds the faults, and this module tells them.

What is valid is read off the model's JSON Schema; values are shown as TOML writes them, because that is what was typed.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from ptb.errors import Problem, closest, count, did_you_mean, listing

KeyPath = tuple[int | str, ...]
Schema = Mapping[str, Any]  # a JSON Schema, or a part of one

MOST_FAULTS = 100  # are told
SPOKEN = ("value_error", "assertion_error")  # faults whose words are those of a validator
SIDES = (
    ("above", "exclusiveMinimum", "gt"),
    ("at least", "minimum", "ge"),
    ("below", "exclusiveMaximum", "lt"),
    ("at most", "maximum", "le"),
    ("divisible by", "multipleOf"),
)


class _Fault(NamedTuple):
    """One fault in our words; a ``vague`` one gives way to another at its place or inside it."""

    path: KeyPath
    message: str
    vague: bool = False


def told(
    error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], also: Sequence[str]
) -> list[Problem]:
    """Pydantic's faults in our words, one for each place: those of a union's arms are told as one.

    Args:
        error: what pydantic raised.
        model: the settings.
        values: what was given.
        also: keys that are valid beside those of ``model``.
    """
    try:
        root = model.model_json_schema()
    except PydanticUserError:  # a type that JSON Schema cannot describe
        root = {}
    first = error.errors(include_url=False)[:MOST_FAULTS]  # a long list may hold one in each of its items
    faults = [f for e in first if (f := _fault(e, model, root, values, also)) is not None]
    messages: dict[KeyPath, str] = {}
    for fault in sorted(faults, key=lambda fault: fault.vague):
        deeper = (other.path[: len(fault.path)] for other in faults if len(other.path) > len(fault.path))
        if not (fault.vague and fault.path in deeper):
            messages.setdefault(fault.path, fault.message)
    places = dict.fromkeys(fault.path for fault in faults if fault.path in messages)
    problems = [Problem(_key(path), messages[path]) for path in places]
    if (more := error.error_count() - MOST_FAULTS) > 0:
        problems.append(Problem("", f"there {'are' if more > 1 else 'is'} {count(more, 'fault')} more"))
    return problems


def _fault(
    details: ErrorDetails, model: type[BaseModel], root: Schema, values: Mapping[str, Any], also: Sequence[str]
) -> _Fault | None:
    kind, last = details["type"], str((details["loc"] or ("",))[-1])
    path, node, value = _place(details["loc"], root, values)
    table = _arm(value, node, root) if isinstance(value, dict) else None
    known = list((table or {}).get("properties", ()))
    if kind == "extra_forbidden" and table is not None:
        keys = known if path else [*known, *also]
        valid = f"; valid are {listing(keys)}" if keys else "; there are no settings"
        return _Fault((*path, last), f"unknown key{did_you_mean(last, keys)}{valid}")
    if kind == "missing" and table is not None:
        misspelt = [key for key in value if key not in known and closest(key, known) == last]
        return _Fault((*path, *(misspelt or [last])[:1]), "is required and has no default", vague=True)
    if kind in get_args(ErrorType) and kind not in SPOKEN and (words := _words(node, root)):
        words = words.replace("a number", "a finite number") if kind == "finite_number" else words
        options = [option for option in _options(node, root) if isinstance(option, str)]
        if value in options:  # it is another arm of a union that the value does not fit
            return None
        near = did_you_mean(value, options) if isinstance(value, str) else ""
        return _Fault(path, f"must be {words}{near}, got {_shown(value)}{_rewritten(model, path, value)}", vague=True)
    message = re.sub(r"^(Value error, |Assertion failed, )", "", details["msg"]).replace("Input should", "must", 1)
    return _spoken(message.rstrip("."), path, value, is_table=bool(known) or not path)


def _spoken(message: str, path: KeyPath, value: Any, is_table: bool) -> _Fault:
    """A validator's own words, with what was got: of a whole table the keys that they mention, or its only one."""
    got = _shown(value)
    if is_table:
        mentioned = [name for name in dict.fromkeys(re.findall(r"[\w-]+", message)) if name in value]
        given = mentioned or list(value) * (len(value) == 1)
        path = (*path, *given[:1])
        shown = {name: _shown(value[name]) for name in given}
        got = " and ".join(f"{name}={text}" for name, text in shown.items()) if given[1:] else "".join(shown.values())
        message = re.sub(rf"^{re.escape(given[0])} (?=[a-z])", "", message) if given else message  # the key says it
    return _Fault(path, message if re.search(r"\bgot\b", message) or not got else f"{message}, got {got}")


def _rewritten(model: type[BaseModel], path: KeyPath, value: Any) -> str:
    """What to write instead of a value that is right but for how it is written."""
    field = model.model_fields.get(str(path[0])) if len(path) == 1 else None
    if field is None:
        return ""
    annotation: Any = field.annotation
    alone = create_model("Alone", __config__=ConfigDict(arbitrary_types_allowed=True), value=(annotation, field))
    for reading in _readings(value):
        with suppress(ValidationError, TypeError):  # JSON has no dates
            alone.model_validate_json(json.dumps({"value": reading}), strict=True)
            return f"; write {_shown(reading)}"
    return ""


def _readings(value: Any) -> Iterator[Any]:
    """What may be meant: ``.001`` by a text of these characters, a list of one by its item."""
    if not isinstance(value, str):
        yield [value]
        return
    if value.lower() in ("true", "false"):
        yield value.lower() == "true"
    for read in (int, float, lambda text: tomllib.loads(f"list = [{text.strip('()')}]")["list"]):
        with suppress(ValueError, RecursionError):
            yield read(value)


def _place(location: tuple[int | str, ...], root: Schema, values: Any) -> tuple[KeyPath, Schema, Any]:
    """The keys that lead to a fault, what may stand there, and what does.

    ``location`` names arms of unions too: they are what neither the value nor its schema has as a key.
    """
    path: KeyPath = ()
    node, value = root, values
    for part in location:
        arm = _arm(value, node, root)
        if arm is None:
            break
        inner: Any = None
        if isinstance(value, dict) and part in value:
            inner = arm.get("properties", {}).get(part, arm.get("additionalProperties", None if "type" in arm else {}))
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            fixed = arm.get("prefixItems", ())
            inner = fixed[part] if part < len(fixed) else arm.get("items", {})
        if isinstance(inner, dict):
            path, node, value = (*path, part), inner, value[part]
    return path, node, value


def _arm(value: Any, node: Schema, root: Schema) -> Schema | None:
    """The one arm of a union that a table or a list is meant for, if there is one."""
    form = "object" if isinstance(value, dict) else "array" if isinstance(value, list | tuple) else ""
    fits = [arm for arm in _arms(node, root) if arm.get("type", "" if "enum" in arm else form) == form != ""]
    if len(fits) > 1:  # tables that a key tells apart
        fits = [arm for arm in fits if all(value.get(key) == fixed for key, fixed in _tags(arm) if key in value)]
    return fits[0] if len(fits) == 1 else None


def _tags(arm: Schema) -> Iterator[tuple[str, Any]]:
    return ((key, part["const"]) for key, part in arm.get("properties", {}).items() if "const" in part)


def _arms(node: Schema, root: Schema) -> list[Schema]:
    """What a value may be, references and unions resolved; null is left out, because TOML has none."""
    if "$ref" in node:
        return _arms(root["$defs"][node["$ref"].rpartition("/")[2]], root)
    union = node.get("anyOf") or node.get("oneOf")
    if union:
        shared = {key: value for key, value in node.items() if key not in ("anyOf", "oneOf")}
        return [arm for part in union for arm in _arms({**shared, **part}, root)]
    return [] if node.get("type") == "null" else [node]


def _options(node: Schema, root: Schema) -> list[Any]:
    return [option for arm in _arms(node, root) for option in arm.get("enum", [arm["const"]] if "const" in arm else [])]


def _words(node: Schema, root: Schema) -> str:
    """What is valid, for people: ``an integer above 0, or a list of 2 items, each an integer above 0``."""
    arms = sorted(_arms(node, root), key=lambda arm: arm.get("type") == "array")
    return ", or ".join(dict.fromkeys(filter(None, (_arm_words(arm, root) for arm in arms))))


def _arm_words(arm: Schema, root: Schema) -> str:
    if options := [f"'{option}'" if isinstance(option, str) else _shown(option) for option in _options(arm, root)]:
        return " or ".join(filter(None, [", ".join(options[:-1]), options[-1]]))
    form = arm.get("type")
    if form in ("integer", "number"):
        sides = " and ".join(f"{word} {arm[key]}" for word, *keys in SIDES for key in keys if key in arm)
        of = " of" * sides.startswith("at")
        return f"{'an' if form == 'integer' else 'a'} {form}{of} {sides}".rstrip()
    if form == "array":
        items = arm.get("prefixItems") or [arm.get("items", {})]
        inside = list(dict.fromkeys(_words(item, root) for item in items))
        size = _sized(arm, "minItems", "maxItems", "item")
        if len(inside) > 1:
            return f"a list{size}: {', then '.join(inside)}"
        return f"a list{size}" + (f", each {'' if size else 'item '}{inside[0]}" if inside[0] else "")
    if form == "string":
        pattern = f" that matches {arm['pattern']}" if "pattern" in arm else ""
        return f"a string{_sized(arm, 'minLength', 'maxLength', 'character')}{pattern}"
    return {"boolean": "true or false", "object": "a table"}.get(str(form), "")


def _sized(arm: Schema, least: str, most: str, noun: str) -> str:
    low, high = arm.get(least, 0), arm.get(most)
    amount = f"at least {low}" * (low > 0) if high is None else f"{low}" if low == high else f"{low} to {high}"
    return f" of {amount} {noun}{'s' * ((high or low) != 1)}" if amount else ""


def _key(location: KeyPath) -> str:
    """``groups[0].lr`` of ``("groups", 0, "lr")``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _shown(value: Any) -> str:
    """A value as TOML writes it, cut where it is long."""
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{key} = {_shown(inner)}" for key, inner in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(map(_shown, value))}]"
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=not value.isprintable())
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
