"""A run's configuration as it was written: layers of files, flags and ``KEY=VALUE``, and the source of each value.

Nothing is checked here beyond the syntax; ``plan.resolve`` holds the values against the installed components.
"""

import errno
import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ptb.errors import ConfigError, Problem, StorageError, did_you_mean, listing, tidy
from ptb.registry.discovery import BUILT_IN

KeyPath = tuple[str, ...]
Tree = dict[str, Any]

# What everybody sets has a flag; everything else is KEY=VALUE.
FLAGS: dict[str, KeyPath] = {
    "model": ("model", "name"),
    "dataset": ("dataset", "name"),
    "init": ("initializer", "name"),
    "loss": ("loss", "name"),
    "optimizer": ("optimizer", "name"),
    "scheduler": ("scheduler", "name"),
    "epochs": ("trainer", "epochs"),
    "batch-size": ("loader", "batch_size"),
    "lr": ("optimizer", "lr"),
    "workers": ("loader", "num_workers"),
    "device": ("device",),
    "seed": ("seed",),
    "compile": ("trainer", "compile"),
}
# No configuration that somebody wrote comes near these; larger ones would only cost time and memory to refuse.
MAX_FILE_BYTES = 1 << 17
MAX_KEYS = 1000
MAX_DEPTH = 32
LONGEST_KEY = 200
LONGEST_MENDED = 200
SHOWN = 200  # characters of a text in a message
NULLS = ("None", "null", "nil")
CLOSING = {"[": "]", "{": "}"}
# tomllib's time and memory grow with the square of the parts of a dotted key, so it gets no key of so many.
_TOO_MANY_PARTS = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}""", re.ASCII
)


class RunConfig:
    """What was asked for, section by section, not yet checked.

    ::

        RunConfig(model={"name": "lenet", "pool": "avg"}, trainer={"epochs": 3})

    Args:
        sections: ``dataset``, ``model``, ``initializer``, ``loss``, ``optimizer``, ``scheduler``: tables whose ``name``
            chooses the component and whose other keys are its settings; ``metrics``: a table of such tables;
            ``loader``, ``trainer``: tables; ``seed``: int; ``device``: str.

    Raises:
        ConfigError: they are larger than a configuration can be, or a key is no string.
    """

    def __init__(self, **sections: Any) -> None:
        if fault := _excess(sections):
            raise ConfigError(f"the configuration {fault}")
        self.values: Tree = _copied(sections)
        self.sources: dict[KeyPath, str] = dict.fromkeys(_leaves(self.values), "")
        self.files: tuple[Path, ...] = ()

    @classmethod
    def read(
        cls,
        files: Sequence[str | Path] = (),
        flags: Mapping[str, Any] | None = None,
        overrides: Sequence[str] = (),
        metrics: Sequence[str] = (),
    ) -> "RunConfig":
        """Reads the layers, weakest first: files in order, flags, ``KEY=VALUE``.

        A layer that names another component for a section replaces what weaker layers set for the former one.

        Args:
            files: TOML files; a ``.json`` of the same shape is read too.
            flags: values by a key of ``FLAGS``, a text in TOML syntax; None means that the flag was not given.
            overrides: ``section.key=value`` with the value in TOML syntax; a bare word is a string.
            metrics: the names of the metrics; they replace those that the files choose.

        Raises:
            TypeError: a bare string where a list belongs.
            ConfigError: with every file that cannot be read and every override that cannot be parsed.
            StorageError: the disk fails.
        """
        for name, texts in (("files", files), ("overrides", overrides), ("metrics", metrics)):
            if isinstance(texts, str | Path):
                raise TypeError(f"{name} is a list; write RunConfig.read({name}=[{str(texts)!r}])")
        config = cls()
        config.files = tuple(map(Path, files))
        problems: list[Problem] = []
        for file in files:
            try:
                config._add(*_read_file(Path(file)))
            except ConfigError as error:
                problems += error.problems
        given: dict[KeyPath, tuple[Any, str]] = {}
        for flag, value in (flags or {}).items():
            if flag not in FLAGS:
                problems.append(
                    Problem("", f"unknown flag '{flag}'{did_you_mean(flag, FLAGS)}; valid are {listing(list(FLAGS))}")
                )
            elif value is not None:
                try:
                    given[FLAGS[flag]] = (
                        _flag_value(flag, value),
                        f"--{flag}" if value is True else tidy(f"--{flag} {value}", SHOWN),
                    )
                except ConfigError as error:
                    problems += error.problems
        config._add(_tree({path: value for path, (value, _) in given.items()}), {p: s for p, (_, s) in given.items()})
        if metrics:
            config._choose_metrics(metrics)
        if len(overrides) > MAX_KEYS:
            raise ConfigError(f"a command line has at most {MAX_KEYS:,} KEY=VALUE; write the rest into a file for -c")
        parsed: dict[KeyPath, tuple[Any, str]] = {}
        for text in overrides:
            try:
                path, value = parse_override(text)
                parsed[path] = (value, tidy(text, SHOWN))
            except ConfigError as error:
                problems += error.problems
        try:
            config._add(
                _tree({path: value for path, (value, _) in parsed.items()}), {p: s for p, (_, s) in parsed.items()}
            )
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError(*problems)
        return config

    def over(self, file: Path) -> "RunConfig":
        """These values as layers over those of a file.

        Raises:
            ConfigError: the file cannot be read.
        """
        config = RunConfig.read([file])
        config._add(self.values, self.sources)
        return config

    def source(self, *path: str) -> str:
        """Who set this key, or the nearest one above or below it; empty for a default."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.sources:
                return self.sources[path[:length]]
        return next((text for key, text in self.sources.items() if key[: len(path)] == path), "")

    def _add(self, values: Tree, sources: Mapping[KeyPath, str]) -> None:
        replaced = list(_renamed((), self.values, values))
        if values.get("metrics") == {} and "metrics" in self.values:  # an empty table turns them off
            replaced.append(("metrics",))
        for path in replaced:
            _remove(self.values, path)
            self.sources = {key: text for key, text in self.sources.items() if key[: len(path)] != path}
        _merge(self.values, values)
        self.sources |= sources

    def _choose_metrics(self, names: Sequence[str]) -> None:
        known = self.values.get("metrics")
        kept = known if isinstance(known, dict) else {}
        self.values["metrics"] = {name: kept.get(name, {}) for name in names}
        self.sources |= {("metrics", name): f"--metric {name}" for name in names}


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """The values of a tree of tables by their keys: ``{"trainer.epochs": 5}``."""
    if not isinstance(tree, dict):
        return {path: tree}
    found: dict[str, Any] = {}
    for name, inner in tree.items():
        found |= leaves(inner, f"{path}.{name}".removeprefix("."))
    return found


def _flag_value(flag: str, value: Any) -> Any:
    """Names are taken as they are, other values are read as TOML."""
    is_name = FLAGS[flag][-1] == "name" or flag == "device"
    return value if is_name or not isinstance(value, str) else parse_value(value, f"--{flag} {value}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """``"optimizer.lr=1e-3"`` as a key path and a value.

    Raises:
        ConfigError: there is no ``=``, or one side is not TOML.
    """
    key, equals, written = text.partition("=")
    shown = tidy(text, SHOWN)
    if not equals:
        raise ConfigError(
            f"'{shown}' is not KEY=VALUE; a component is chosen by its flag, as in --model {shown}, "
            "a setting by its key, as in optimizer.lr=1e-3"
        )
    try:
        path = _single_path(_loads(f"{key} = 0"))
    except (ValueError, RecursionError):
        raise ConfigError(f"'{tidy(key, 60)}' in '{shown}' is not a key; write section.key=value") from None
    if max(map(len, path)) > LONGEST_KEY:
        raise ConfigError(f"'{shown}' has a key of more than {LONGEST_KEY} characters")
    return path, parse_value(written.strip(), text)


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
    if not written.isprintable() or not _is_utf8(written):
        raise ConfigError(f"the value in {text[:SHOWN]!r} holds characters that cannot be shown")
    if parsed := _parsed(written):
        if fault := _excess(parsed["value"]):
            raise ConfigError(f"the value in '{shown}' {fault}")
        return parsed["value"]
    if written in NULLS:
        raise ConfigError(f"'{shown}' has no value: TOML has no {written}; leave the key out")
    if written[:1] in ("[", "{", '"', "'"):
        mended = _mended(written)
        meant = _parsed(mended)
        if meant and isinstance(meant["value"], str) and not _parsed(meant["value"]):
            mended = meant["value"]  # a bare word does
        remedy = f"; write {text.removesuffix(written)}{shlex.quote(mended)}" if mended else ""
        raise ConfigError(f"the value in '{shown}' is not valid TOML{remedy}")
    return written


def _loads(text: str) -> Tree:
    """A TOML text.

    Raises:
        RecursionError: it is nested too deeply, also where that is written as ``a.b.c``.
        ValueError: it is not TOML.
    """
    if _TOO_MANY_PARTS.search(text):
        raise RecursionError
    return tomllib.loads(text)


def _parsed(written: str) -> Tree | None:
    """``{"value": ...}`` of a value in TOML syntax, or None if it is in no such syntax."""
    try:
        parsed = _loads(f"value = {written}")
    except (ValueError, RecursionError):  # tomllib's own error, or a number of thousands of digits
        return None
    return parsed if set(parsed) == {"value"} else None


def _mended(written: str) -> str:
    """A value that is not TOML as it was probably meant: closed, its numbers written out, its words in quotes."""
    if len(written) > LONGEST_MENDED:
        return ""
    plain = re.sub(r"(?<![\w.])\.(?=\d)", "0.", written)  # .5
    plain = re.sub(r"(?<=\d)\.(?![\w.])", ".0", plain)  # 1.
    plain = re.sub(r"(?<![\w.+-])[A-Za-z][\w./-]*(?![\w./-]|\s*=)", _worded, plain)
    opened = ""
    for sign in plain:
        opened = CLOSING.get(sign, "") + (opened[1:] if sign == opened[:1] else opened)
    whole = json.dumps(written, ensure_ascii=False) if re.match(r"[A-Za-z/~]", written) else ""
    return next((text for text in (plain, plain + opened, written + written[:1], whole) if _parsed(text)), "")


def _worded(word: re.Match[str]) -> str:
    kept = word[0] in (*NULLS, "inf", "nan")
    return word[0] if kept else word[0].lower() if word[0].lower() in ("true", "false") else f'"{word[0]}"'


def _single_path(tree: Any) -> KeyPath:
    path: list[str] = []
    while isinstance(tree, dict):
        ((key, tree),) = tree.items()
        path.append(key)
    return tuple(path)


def _read_file(path: Path) -> tuple[Tree, dict[KeyPath, str]]:
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
        is_json = path.suffix.lower() == ".json"
        values = json.loads(text, object_pairs_hook=_unique) if is_json else _loads(text)
        fault = _excess(values) if isinstance(values, dict) else "is no table of sections"
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(Problem("", "a config file is UTF-8 text", f"{path}:{line}")) from None
    except json.JSONDecodeError as error:
        raise ConfigError(Problem("", f"not valid JSON: {error.msg}", f"{path}:{error.lineno}")) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(Problem("", *_toml_fault(error, path, text))) from None
    except RecursionError:
        raise ConfigError(Problem("", "nested too deeply for a config file", str(path))) from None
    except _StandsTwice as error:
        raise ConfigError(Problem("", f"not valid JSON: {error}", str(path))) from None
    except ValueError:  # what else Python does not read
        raise ConfigError(Problem("", "a number has thousands of digits", str(path))) from None
    if fault:
        raise ConfigError(Problem("", f"the config file {fault}", str(path)))
    lines = {} if is_json else _line_numbers(text)
    return values, {leaf: f"{path}:{lines[leaf]}" if leaf in lines else str(path) for leaf in _leaves(values)}


def _excess(tree: Any) -> str:
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


def _toml_fault(error: tomllib.TOMLDecodeError, path: Path, text: str) -> tuple[str, str]:
    """Tomllib tells the place in its message only: ``... (at line 3, column 5)`` or ``(at end of document)``."""
    message, _, at = str(error).rpartition(" (at ")
    line = re.search(r"line (\d+)", at)
    number = int(line[1]) if line else text.rstrip("\n").count("\n") + 1
    lines = text.split("\n")[:number]
    # What is not closed is noticed below the line that opens it.
    first = 1 if message.startswith(("Unclosed", "Expected")) else number
    for place in range(len(lines), first - 1, -1):
        if remedy := _remedy(lines[place - 1]):
            return f"not valid TOML: {remedy}", f"{path}:{place}"
    declared = r"\(('.*?'),?\)"  # the key of a table, as a tuple
    table = re.sub(declared, lambda key: f"[{key[1].replace(chr(39), '').replace(', ', '.')}]", tidy(message, SHOWN))
    plain = table.replace("Cannot overwrite a value", "this key stands twice").replace("array", "list")
    return f"not valid TOML: {plain}", f"{path}:{number}"


def _remedy(line: str) -> str:
    """What to type instead of a line ``key = value`` whose value is not TOML, or nothing."""
    key, equals, value = (part.strip() for part in line.partition("#")[0].partition("="))
    if not equals or not value or _parsed(value):
        return ""
    if value in NULLS:
        return f"there is no {value} in TOML; leave {key} out"
    mended = _mended(value)
    return f"write {key} = {mended}" if mended else ""


class _StandsTwice(ValueError):
    """A key of a JSON object."""


def _unique(pairs: list[tuple[str, Any]]) -> Tree:
    tree: Tree = {}
    for key, value in pairs:
        if key in tree:
            raise _StandsTwice(f"key {key[:LONGEST_KEY]!r} stands twice")
        tree[key] = value
    return tree


def _line_numbers(text: str) -> dict[KeyPath, int]:
    """Where each key of a TOML text stands. tomllib does not tell; keys inside long strings may fool it, harmlessly."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.split("\n"), start=1):
        header = re.match(r"\s*\[\[?([^\[\]]+)\]", line)
        key = re.match(r"[^=#\[\]{}]+=", line)
        try:
            if header:
                table = _single_path(tomllib.loads(f"{header[1]} = 0"))
                lines.setdefault(table, number)
            elif key:
                lines.setdefault(table + _single_path(tomllib.loads(f"{key[0]} 0")), number)
        except ValueError:
            continue
    return lines


def _leaves(tree: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if isinstance(tree, dict) and (tree or not path):
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    else:
        yield path


def _tree(values: Mapping[KeyPath, Any]) -> Tree:
    tree: Tree = {}
    for path, value in values.items():
        branch = tree
        for part in path[:-1]:
            inner = branch.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(Problem(".".join(path), f"'{part}' is given a value and keys of its own"))
            branch = inner
        if isinstance(branch.get(path[-1]), dict) and not isinstance(value, dict):
            raise ConfigError(Problem(".".join(path), f"'{path[-1]}' is given a value and keys of its own"))
        branch[path[-1]] = value
    return tree


def _renamed(path: KeyPath, base: Tree, over: Tree) -> Iterator[KeyPath]:
    """The tables that ``over`` gives to another component than ``base`` chose."""
    for key, inner in over.items():
        known = base.get(key)
        if not isinstance(inner, dict) or not isinstance(known, dict):
            continue
        if "name" in known and _short(inner.get("name", known["name"])) != _short(known["name"]):
            yield (*path, key)
        elif not path:
            yield from _renamed((key,), known, inner)


def _short(name: Any) -> Any:
    """A built-in's id and its short name are one."""
    return name.removeprefix(f"{BUILT_IN}:") if isinstance(name, str) else name


def _merge(base: Tree, over: Tree) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = _copied(value)


def _remove(tree: Tree, path: Iterable[str]) -> None:
    *parents, last = path
    for part in parents:
        tree = tree[part]
    del tree[last]


def _copied(value: Any) -> Any:
    return {key: _copied(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value
