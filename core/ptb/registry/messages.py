"""What is wrong with settings, in words: pydantic finds it, and the model's JSON Schema says what is valid instead.

Values are shown as TOML writes them, because that is what was typed.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, PydanticUserError, ValidationError

from ptb.errors import Problem, closest, count, did_you_mean, listing

KeyPath = tuple[int | str, ...]
Schema = Mapping[str, Any]  # a JSON Schema, or a part of one

MOST_FAULTS = 100  # are told
OWN_WORDS = ("value_error", "assertion_error")  # errors whose words are those of a validator
BOUNDS = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
BOUNDS |= {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "multipleOf": "divisible by"}


def format_errors(
    error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], also: Sequence[str]
) -> list[Problem]:
    """Pydantic's errors in our words, one for each key: those of the arms of a union become one.

    Args:
        error: what pydantic raised.
        model: the settings.
        values: what was given.
        also: keys that are valid beside those of ``model``.
    """
    root: Schema = {}
    with suppress(PydanticUserError):  # a type that JSON Schema cannot describe
        root = model.model_json_schema()
    messages: dict[KeyPath, str] = {}
    vague: dict[KeyPath, str] = {}  # they give way to a message at their place or inside it: the value fits another arm
    for details in error.errors(include_url=False)[:MOST_FAULTS]:  # a long list may hold one in each of its items
        kind, last = details["type"], str((details["loc"] or ("",))[-1])
        path, node, value = _place(details["loc"], root, values)
        table = _arm(value, node, root) if isinstance(value, dict) else None
        keys = list(table.get("properties", ())) if table else []
        if kind == "extra_forbidden" and table is not None:
            known = [*keys, *(() if path else also)]
            valid = f"; valid are {listing(known)}" if known else "; there are no settings"
            messages[*path, last] = f"unknown key{did_you_mean(last, known)}{valid}"
        elif kind == "missing" and table is not None:
            if not any(key not in keys and closest(key, keys) == last for key in value):  # a slip is told as such
                messages[*path, last] = "is required and has no default"
        elif kind not in OWN_WORDS and (valid := _words(node, root)):
            valid = valid.replace("a number", "a finite number") if kind == "finite_number" else valid
            options = re.findall("'([^']+)'", valid)
            if value not in options:  # else it is another arm of the union that it does not fit
                near = did_you_mean(value, options) if isinstance(value, str) else ""
                got = f"{_shown(value)}{_rewritten(model, path, values)}"
                vague.setdefault(path, f"must be {valid}{near}, got {got}")
        else:
            path, message = _own_words(details["msg"], path, value, is_table=bool(keys) or not path)
            messages.setdefault(path, message)
    for path, message in vague.items():
        if not any(other[: len(path)] == path for other in (*messages, *(p for p in vague if p != path))):
            messages[path] = message
    problems = [Problem(_key(path), message) for path, message in messages.items()]
    if (more := error.error_count() - MOST_FAULTS) > 0:
        problems.append(Problem("", f"there {'are' if more > 1 else 'is'} {count(more, 'problem')} more"))
    return problems


def _place(location: KeyPath, node: Schema, value: Any) -> tuple[KeyPath, Schema, Any]:
    """The keys that lead to an error, what may stand there, and what does.

    ``location`` names arms of unions too: they are what neither the value nor its schema has as a key.
    """
    path: KeyPath = ()
    root = node
    for part in location:
        inner: Any = None
        if (arm := _arm(value, node, root)) is None:
            break
        if isinstance(value, dict) and part in value:
            inner = arm.get("properties", {}).get(part, arm.get("additionalProperties", None if "type" in arm else {}))
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            inner = [*arm.get("prefixItems", ()), *[arm.get("items", {})] * len(value)][part]
        if isinstance(inner, dict):
            path, node, value = (*path, part), inner, value[part]
    return path, node, value


def _arm(value: Any, node: Schema, root: Schema) -> Schema | None:
    """The one arm of a union that a table or a list is meant for, if there is one."""
    form = "object" if isinstance(value, dict) else "array" if isinstance(value, list | tuple) else ""
    arms = [arm for arm in _arms(node, root) if arm.get("type", "" if "enum" in arm else form) == form != ""]
    if len(arms) > 1:  # tables that a key tells apart
        tags = [{key: part["const"] for key, part in arm["properties"].items() if "const" in part} for arm in arms]
        arms = [arm for arm, tag in zip(arms, tags, strict=True) if all(value.get(k, v) == v for k, v in tag.items())]
    return arms[0] if len(arms) == 1 else None


def _arms(node: Schema, root: Schema) -> list[Schema]:
    """What a value may be, references and unions resolved; null is left out, because TOML has none."""
    if "$ref" in node:
        return _arms(root["$defs"][node["$ref"].rpartition("/")[2]], root)
    if union := node.get("anyOf") or node.get("oneOf"):
        shared = {key: value for key, value in node.items() if key not in ("anyOf", "oneOf")}
        return [arm for part in union for arm in _arms({**shared, **part}, root)]
    return [] if node.get("type") == "null" else [node]


def _words(node: Schema, root: Schema) -> str:
    """What is valid, for people: ``an integer above 0, or a list of 2 items, each an integer above 0``."""
    arms = sorted(_arms(node, root), key=lambda arm: arm.get("type") == "array")
    return ", or ".join(dict.fromkeys(filter(None, (_arm_words(arm, root) for arm in arms))))


def _arm_words(arm: Schema, root: Schema) -> str:
    if options := arm.get("enum", [arm["const"]] if "const" in arm else []):
        *first, last = [f"'{option}'" if isinstance(option, str) else _shown(option) for option in options]
        return f"{', '.join(first)} or {last}" if first else last
    form = arm.get("type")
    if form in ("integer", "number"):
        sides = " and ".join(f"{word} {arm[key]}" for key, word in BOUNDS.items() if key in arm)
        return f"{'an' if form == 'integer' else 'a'} {form}{' of' * sides.startswith('at')} {sides}".rstrip()
    if form == "array":
        inside = list(dict.fromkeys(_words(item, root) for item in arm.get("prefixItems") or [arm.get("items", {})]))
        size = _size(arm, "minItems", "maxItems", "item")
        if len(inside) > 1:
            return f"a list{size}: {', then '.join(inside)}"
        return f"a list{size}" + (f", each {'' if size else 'item '}{inside[0]}" if inside[0] else "")
    if form == "string":
        pattern = f" that matches {arm['pattern']}" if "pattern" in arm else ""
        return f"a string{_size(arm, 'minLength', 'maxLength', 'character')}{pattern}"
    return {"boolean": "true or false", "object": "a table"}.get(str(form), "")


def _size(arm: Schema, least: str, most: str, noun: str) -> str:
    low, high = arm.get(least, 0), arm.get(most)
    amount = f"at least {low}" * (low > 0) if high is None else f"{low}" if low == high else f"{low} to {high}"
    return f" of {amount} {noun}{'s' * ((high or low) != 1)}" if amount else ""


def _rewritten(model: type[BaseModel], path: KeyPath, values: Mapping[str, Any]) -> str:
    """What to write instead of the value of a setting that is right but for how it is written."""
    for reading in _readings(values[str(path[0])]) if len(path) == 1 else ():
        try:
            model.model_validate_json(json.dumps({**values, path[0]: reading}), strict=True)
        except ValidationError as error:
            if any(details["loc"][:1] == path for details in error.errors(include_url=False)):
                continue
        except TypeError:  # JSON has no dates
            continue
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


def _own_words(message: str, path: KeyPath, value: Any, is_table: bool) -> tuple[KeyPath, str]:
    """A validator's own words, with what was got: of a whole table the keys that they mention, or its only one."""
    message = re.sub(r"^(Value error, |Assertion failed, )", "", message).replace("Input should", "must", 1).rstrip(".")
    got = _shown(value)
    if is_table:
        given = [name for name in dict.fromkeys(re.findall(r"[\w-]+", message)) if name in value]
        given = given or list(value) * (len(value) == 1)
        shown = [_shown(value[name]) for name in given]
        got = " and ".join(map("=".join, zip(given, shown, strict=True))) if given[1:] else "".join(shown)
        path = (*path, *given[:1])
        message = re.sub(rf"^{re.escape(given[0])} (?=[a-z])", "", message) if given else message  # the key says it
    return path, message if re.search(r"\bgot\b", message) or not got else f"{message}, got {got}"


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
