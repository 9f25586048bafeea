"""What is wrong with settings: pydantic's errors in the words of TOML, one for each key."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ptb.errors import Problem, count, did_you_mean, listing

KeyPath = tuple[int | str, ...]

MOST_ERRORS = 100  # are reported: a long list may hold one in each of its items

# Pydantic's words, and ours.
_REWORDED = (
    (r"^\w+ should ", "must "),
    (r" after validation, not \d+$", ""),
    (r"a valid boolean", "true or false"),
    (r"a valid integer", "an integer"),
    (r"a valid array", "a list"),
    (r"an object", "a table"),
    (r"a valid ", "a "),
)
_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
_SIDES = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def format_errors(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any]) -> list[Problem]:
    """Pydantic's errors about ``values`` as problems: those of the arms of a union become one."""
    texts: dict[KeyPath, list[str]] = {}
    endings: dict[KeyPath, str] = {}
    for details in error.errors(include_url=False)[:MOST_ERRORS]:
        path, text, ending = _message(details, model, values)
        texts.setdefault(path, []).append(text)
        endings[path] = max(ending, endings.get(path, ""), key=len)  # one with a hint is longer
    problems = []
    for path, wishes in texts.items():
        if any(other != path and other[: len(path)] == path for other in texts):
            continue  # the value fits another arm of the union better: the message about that stands inside it
        problems.append(Problem(_key(path), ", or ".join(dict.fromkeys(wishes)) + endings[path]))
    if (more := error.error_count() - MOST_ERRORS) > 0:
        problems.append(Problem("", f"there {'are' if more > 1 else 'is'} {count(more, 'problem')} more"))
    return problems


def _message(details: Any, model: type[BaseModel], values: Mapping[str, Any]) -> tuple[KeyPath, str, str]:
    """Where an error is, what is wrong, and an ending that shows the value."""
    kind, location, text = details["type"], details["loc"], details["msg"]
    path, value = _place(location, values)
    if kind == "missing" and isinstance(location[-1], str):
        return (*path, location[-1]), "is required and has no default", ""
    if kind == "missing":  # an item of a list
        text = f"must have at least {location[-1] + 1} items"
    if kind == "extra_forbidden":
        keys = list(dict.fromkeys(_keys(model, path[:-1], values)))
        valid = f"valid are {listing(keys)}" if keys else "there are no settings"
        return path, f"unknown key{did_you_mean(str(path[-1]), keys)}; {valid}", ""
    if kind in ("value_error", "assertion_error"):  # the words of a validator
        return _own_words(text.partition(", ")[2].rstrip("."), path, value)
    if side := _BOUNDS.get(kind):
        bound = details["ctx"][side]
        text = f"must be {_SIDES[side]} {f'{bound:g}' if isinstance(bound, float) else bound}"  # 1e-18, not 0.000...
    for pattern, ours in _REWORDED:
        text = re.sub(pattern, ours, text)
    if kind == "literal_error" and isinstance(value, str):
        text += did_you_mean(value, re.findall("'([^']+)'", text))
    return path, text, f", got {_shown(value)}{_rewritten(kind, value)}"


def _own_words(text: str, path: KeyPath, value: Any) -> tuple[KeyPath, str, str]:
    """What a validator says of a value, or of a whole table: that belongs to the first given key that it mentions."""
    if isinstance(value, dict):
        key = next((word for word in re.findall(r"[\w-]+", text) if word in value), None)
        if key is None:
            return path, text, ""
        path, value, text = (*path, key), value[key], text.removeprefix(f"{key} ")
    return path, text, "" if re.search(r"\bgot\b", text) else f", got {_shown(value)}"


def _place(location: KeyPath, value: Any) -> tuple[KeyPath, Any]:
    """The keys that lead to an error, and the value there: ``location`` names arms of unions and types too."""
    path: KeyPath = ()
    for part in location:
        is_key = isinstance(value, dict) and part in value
        if is_key or (isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)):
            path, value = (*path, part), value[part]
    return path, value


def _keys(annotation: Any, path: KeyPath, value: Any) -> Iterator[str]:
    """The keys of the tables that may stand at ``path`` inside a value of this type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        if path and path[0] in fields:
            yield from _keys(fields[str(path[0])].annotation, path[1:], value[path[0]])
        elif not path and all(value.get(tag, valid[0]) in valid for tag, valid in _tags(annotation).items()):
            yield from fields
        return
    if path and get_origin(annotation) in (list, tuple, dict):
        path, value = path[1:], value[path[0]]
    for part in get_args(annotation):
        yield from _keys(part, path, value)


def _tags(model: type[BaseModel]) -> dict[str, tuple[Any, ...]]:
    """The keys that tell the tables of a union apart, and their values in this one."""
    literals = {name: field.annotation for name, field in model.model_fields.items()}
    return {name: get_args(annotation) for name, annotation in literals.items() if get_origin(annotation) is Literal}


def _rewritten(kind: str, value: Any) -> str:
    """What to write instead of a value that a shell or TOML read as another type: ``.001``, ``True``, ``3,4``."""
    readers: dict[str, Callable[[str], Any]] = {
        "int_type": int,
        "float_type": float,
        "bool_type": lambda text: {"true": True, "false": False}[text.lower()],
        "list_type": lambda text: tomllib.loads(f"list = [{text.strip('()')}]")["list"],
    }
    readers["tuple_type"] = readers["list_type"]
    if kind in readers and isinstance(value, str):
        with suppress(ValueError, KeyError, RecursionError):
            return f"; write {_shown(readers[kind](value)).replace(', ', ',')}"  # one word in a shell
    return ""


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
