"""Reads config files and TOML values, and notes where each value stands. Refuses what is no TOML or is too large."""

import errno
import json
import os
import re
import reprlib
import tomllib
from collections.abc import Iterator
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
HINT = """; strings need quotes, in a shell twice ('["a", "b"]'), and true and false are lower case"""
# tomllib's time and memory grow with the square of the parts of a dotted key, so it gets no key of so many.
_TOO_MANY_PARTS = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}""", re.ASCII
)


def read_file(path: Path) -> Layer:
    """The values of a config file, each with the place where it stands: ``run.toml:3``."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        if error.errno == errno.EIO:
            raise StorageError(f"cannot read {path}: {error.strerror}") from None
        raise ConfigError(Problem("", f"cannot read the config file: {error.strerror}", str(path))) from None
    language = "JSON" if path.suffix.lower() == ".json" else "TOML"
    try:
        if len(raw) > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES:,} bytes")
        text = raw.decode("utf-8-sig")  # an editor may have put a byte order mark first
        values = _parse(text, language)
    except UnicodeDecodeError:
        raise ConfigError(Problem("", "a config file is UTF-8 text", str(path))) from None
    except ValueError as error:
        message, source = f"not valid {language}: {tidy(str(error), SHOWN)}", str(path)
        if place := re.search(r"line (\d+)", message):
            line = raw.split(b"\n")[int(place[1]) - 1].decode()
            message, source = f"{message}, in '{tidy(line, SHOWN)}'", f"{path}:{place[1]}"
        raise ConfigError(Problem("", message + _hint(error), source)) from None
    if language == "JSON" and "schema" in values and isinstance(values.get("config"), dict):
        values = values["config"]  # what `ptb config show --json` prints
    lines = _line_numbers(text) if language == "TOML" else {}
    return {
        leaf: (value, f"{path}:{lines[leaf]}" if leaf in lines else str(path)) for leaf, value in leaf_items(values)
    }


def parse_value(written: str, text: str) -> Any:
    """A value in TOML syntax; a bare word is a string. Messages show ``text``, in which it stands."""
    shown = tidy(text, SHOWN)
    if not written.isprintable():
        raise ConfigError(f"the value in {text[:SHOWN]!r} holds characters that cannot be shown")
    if written in ("None", "null"):
        raise ConfigError(f"'{shown}' has no value: TOML has no {written}, leave the key out")
    try:
        return _parse(f"value = {written}")["value"]
    except ValueError as error:
        if written[:1] not in ("[", "{", '"', "'"):
            return written
        reason = tidy(str(error), SHOWN) + _hint(error)
        raise ConfigError(f"the value in '{shown}' is not valid TOML: {reason}") from None


def parse_key(text: str) -> KeyPath:
    """A dotted key, whose parts may stand in quotes; ValueError where it is none."""
    ((path, _),) = leaf_items(_parse(f"{text} = 0"))
    return path


def check_size(tree: Any, depth: int = 0) -> int:
    """Counts the keys of a tree; ValueError where it is larger than a configuration can be."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    keys = 0
    if isinstance(tree, dict):
        for key, value in tree.items():
            if not isinstance(key, str) or len(key) > LONGEST_KEY:
                raise ValueError(f"a key must be a text of at most {LONGEST_KEY} characters, got {reprlib.repr(key)}")
            keys += 1 + check_size(value, depth + 1)
    elif isinstance(tree, list | tuple):
        keys = sum(check_size(item, depth + 1) for item in tree)
    if keys > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS:,} keys")
    return keys


def leaf_items(tree: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """The values of a tree of tables, each with its path; an empty table is a value."""
    if isinstance(tree, dict) and (tree or not path):
        for key, value in tree.items():
            yield from leaf_items(value, (*path, key))
    else:
        yield path, tree


def plain(value: Any) -> Any:
    """A value of Python as a config file holds it: paths as texts, scalars and arrays of NumPy and torch as numbers."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value] if isinstance(value, list) else tuple(map(plain, value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _parse(text: str, language: str = "TOML") -> Tree:
    """A text as a table; whatever is wrong with it is a ValueError."""
    if language == "TOML" and _TOO_MANY_PARTS.search(text):
        raise ValueError("nested too deeply")
    try:
        values = json.loads(text, object_pairs_hook=_unique) if language == "JSON" else tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it is no table of sections")
    check_size(values)
    return values


def _hint(error: ValueError) -> str:
    """What users need to know most often about a value that is not TOML."""
    return HINT if "Invalid value" in str(error) else ""


def _unique(pairs: list[tuple[str, Any]]) -> Tree:
    """A JSON object; of a key that stands twice, ``json`` would take the last in silence."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key stands twice")
    return table


def _line_numbers(text: str) -> dict[KeyPath, int]:
    """Where each key of a TOML text stands. tomllib does not tell; keys inside long strings may fool it, harmlessly."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would count other line ends than editors do
        header = re.match(r"\s*\[\[?([^\[\]]+)\]", line)
        key = re.match(r"([^=#\[\]{}]+)=", line)
        try:
            if header:
                table = parse_key(header[1])
                lines.setdefault(table, number)
            elif key:
                lines.setdefault(table + parse_key(key[1]), number)
        except ValueError:
            continue
    return lines
