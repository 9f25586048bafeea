"""Config files and TOML values: what they hold, and one clear message where they are no TOML or too large."""

import errno
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ptb.errors import ConfigError, Problem, StorageError, tidy

KeyPath = tuple[str, ...]
Tree = dict[str, Any]
Layer = dict[KeyPath, tuple[Any, str]]  # values by key, each with its source

# No configuration that somebody wrote comes near these; larger ones would only cost time and memory to refuse.
MAX_FILE_BYTES = 1 << 17
MAX_KEYS = 1000
MAX_DEPTH = 32
LONGEST_KEY = 200
SHOWN = 200  # characters of a text in a message
NULLS = ("None", "null", "nil")
# tomllib's time and memory grow with the square of the parts of a dotted key, so it gets no key of so many.
_TOO_MANY_PARTS = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}""", re.ASCII
)


def read_file(path: Path) -> Layer:
    """The values of a config file, each with the place where it stands: ``run.toml:3``.

    Raises:
        ConfigError: it cannot be read, is not TOML (or JSON, by its name), or is larger than a configuration can be.
        StorageError: the disk fails.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        if error.errno == errno.EIO:
            raise StorageError(f"cannot read {path}: {error.strerror}") from None
        raise ConfigError(Problem("", f"cannot read the config file: {error.strerror}", str(path))) from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(Problem("", f"a config file has at most {MAX_FILE_BYTES} bytes", str(path)))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(Problem("", "a config file is UTF-8 text", f"{path}:{line}")) from None
    is_json = path.suffix.lower() == ".json"
    try:
        values = json.loads(text, object_pairs_hook=_unique) if is_json else loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(_syntax_problem(error, path, text, "JSON" if is_json else "TOML")) from None
    if problem := excess(values) if isinstance(values, dict) else "is no table of sections":
        raise ConfigError(Problem("", f"the config file {problem}", str(path)))
    lines = {} if is_json else _line_numbers(text)
    return {
        leaf: (value, f"{path}:{lines[leaf]}" if leaf in lines else str(path)) for leaf, value in leaf_items(values)
    }


def parse_value(written: str, text: str) -> Any:
    """A value in TOML syntax; a bare word is a string.

    Args:
        written: the value.
        text: where it stands, for the message.

    Raises:
        ConfigError: it begins like a list, a table or a string, and is none; it is ``None`` or ``null``; or it is
            larger than a configuration can be.
    """
    shown = tidy(text, SHOWN)
    if not written.isprintable() or any("\ud800" <= sign <= "\udfff" for sign in written):
        raise ConfigError(f"the value in {text[:SHOWN]!r} holds characters that cannot be shown")
    if written in NULLS:
        raise ConfigError(f"'{shown}' has no value{_hint(written)}")
    try:
        value = loads(f"value = {written}")["value"]
    except (ValueError, RecursionError) as error:
        if written[:1] not in ("[", "{", '"', "'"):
            return written
        raise ConfigError(f"the value in '{shown}' is not TOML: {_reason(error)}{_hint(written)}") from None
    if problem := excess(value):
        raise ConfigError(f"the value in '{shown}' {problem}")
    return value


def loads(text: str) -> Tree:
    """A TOML text.

    Raises:
        RecursionError: it is nested too deeply, also where that is written as ``a.b.c``.
        ValueError: it is not TOML, or an integer has thousands of digits.
    """
    if _TOO_MANY_PARTS.search(text):
        raise RecursionError
    return tomllib.loads(text)


def excess(tree: Any) -> str:
    """Why a tree is larger than a configuration can be, or nothing."""
    keys = 0
    level: list[Any] = [[tree]]
    for _ in range(MAX_DEPTH + 2):
        named = [key for part in level if isinstance(part, Mapping) for key in part]
        if strange := [key for key in named if not isinstance(key, str)]:
            return f"has the key {strange[0]!r}, which is no string"
        if any(len(key) > LONGEST_KEY for key in named):
            return f"has a key of more than {LONGEST_KEY} characters"
        if (keys := keys + len(named)) > MAX_KEYS:
            return f"has more than {MAX_KEYS:,} keys"
        inner = [value for part in level for value in (part.values() if isinstance(part, Mapping) else part)]
        level = [value for value in inner if isinstance(value, Mapping | list | tuple)]
    return f"is nested more than {MAX_DEPTH} deep" if level else ""


def leaf_items(tree: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """The values of a tree of tables, each with its path; an empty table is a value."""
    if isinstance(tree, dict) and (tree or not path):
        for key, value in tree.items():
            yield from leaf_items(value, (*path, key))
    else:
        yield path, tree


def single_path(tree: Any) -> KeyPath:
    """The path to the one value of a tree."""
    ((path, _),) = leaf_items(tree)
    return path


def _unique(pairs: list[tuple[str, Any]]) -> Tree:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)[:LONGEST_KEY]!r} stands twice")
    return dict(pairs)


def _syntax_problem(error: Exception, path: Path, text: str, language: str) -> Problem:
    """What a parser cannot read, with the line and what it holds; parsers tell the place in their message only."""
    place = re.search(r"line (\d+)|at end of document", str(error))
    if isinstance(error, RecursionError) or not place:
        return Problem("", f"not valid {language}: {_reason(error)}", str(path))
    number = int(place[1] or text.rstrip("\n").count("\n") + 1)
    line = text.split("\n")[number - 1]
    hint = _hint(line.partition("#")[0].partition("=")[2].strip()) if language == "TOML" else ""
    return Problem("", f"not valid {language}: {_reason(error)}, at '{tidy(line, SHOWN)}'{hint}", f"{path}:{number}")


def _reason(error: Exception) -> str:
    """What a parser says, without the place."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return tidy(re.sub(r" \(at .*|: line \d.*|; use sys\..*", "", str(error)), SHOWN)


def _hint(value: str) -> str:
    """What users need to know most often about a value that is not TOML."""
    if value in NULLS:
        return f": TOML has no {value}, leave the key out"
    if value in ("True", "False"):
        return f"; write {value.lower()}"
    word = r"[A-Za-z_/~]"
    if re.match(word, value):
        return "; a string needs quotes"
    in_list = re.match(r"[\[{]", value) and re.search(rf"[\[,=]\s*{word}", value)
    return """; a string in a list needs quotes: ["a", "b"], in a shell '["a", "b"]'""" if in_list else ""


def _line_numbers(text: str) -> dict[KeyPath, int]:
    """Where each key of a TOML text stands. tomllib does not tell; keys inside long strings may fool it, harmlessly."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.split("\n"), start=1):
        header = re.match(r"\s*\[\[?([^\[\]]+)\]", line)
        key = re.match(r"[^=#\[\]{}]+=", line)
        try:
            if header:
                table = single_path(tomllib.loads(f"{header[1]} = 0"))
                lines.setdefault(table, number)
            elif key:
                lines.setdefault(table + single_path(tomllib.loads(f"{key[0]} 0")), number)
        except ValueError:
            continue
    return lines
