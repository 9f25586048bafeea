"""A run's configuration as it was written: layers of files, flags and ``KEY=VALUE``, and the source of each value.

Only syntax and sizes are checked here; ``resolve`` holds the values against the installed components.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptb.config.files import (
    LONGEST_KEY,
    MAX_KEYS,
    SHOWN,
    KeyPath,
    Layer,
    Tree,
    excess,
    leaf_items,
    loads,
    parse_value,
    read_file,
    single_path,
)
from ptb.errors import ConfigError, Problem, did_you_mean, listing, tidy
from ptb.kinds import KINDS
from ptb.registry.discovery import BUILT_IN

# What everybody sets has a flag; everything else is KEY=VALUE.
FLAGS: dict[str, KeyPath] = {
    **{kind.flag: (kind.section, "name") for kind in KINDS.values() if not kind.labelled},
    "epochs": ("trainer", "epochs"),
    "batch-size": ("loader", "batch_size"),
    "lr": ("optimizer", "lr"),
    "workers": ("loader", "num_workers"),
    "device": ("device",),
    "seed": ("seed",),
    "compile": ("trainer", "compile"),
}
LABELLED = {kind.section for kind in KINDS.values() if kind.labelled}
REMOVED: Any = object()  # the value of ``KEY=``


class RunConfig:
    """What was asked for, section by section, not yet checked.

    ::

        RunConfig(model={"name": "lenet", "pool": "avg"}, trainer={"epochs": 3})

    Args:
        sections: ``dataset``, ``model``, ``initializer``, ``loss``, ``optimizer``, ``scheduler``: tables whose ``name``
            chooses the component and whose other keys are its settings; ``metrics``, ``callbacks``: tables of such
            tables; ``loader``, ``trainer``: tables; ``seed``: int; ``device``: str.

    Raises:
        ConfigError: they are larger than a configuration can be, or a key is no string.
    """

    def __init__(self, **sections: Any) -> None:
        if problem := excess(sections):
            raise ConfigError(f"the configuration {problem}")
        self.values: Tree = _copied(sections)
        self.sources: dict[KeyPath, str] = {path: "" for path, _ in leaf_items(self.values)}
        self.files: tuple[Path, ...] = ()

    @classmethod
    def read(
        cls,
        files: Sequence[str | Path] = (),
        flags: Mapping[str, Any] | None = None,
        overrides: Sequence[str] = (),
        metrics: Sequence[str] = (),
        callbacks: Sequence[str] = (),
    ) -> "RunConfig":
        """Reads the layers, weakest first: files in order, flags, ``KEY=VALUE``.

        A layer that names another component for a section replaces what weaker layers set for the former one.

        Args:
            files: TOML files; a ``.json`` of the same shape is read too.
            flags: values by a key of ``FLAGS``, a text in TOML syntax; None means that the flag was not given.
            overrides: ``section.key=value`` with the value in TOML syntax, where a bare word is a string;
                ``section.key=`` removes what weaker layers set there.
            metrics: the names of the metrics; they replace those that the files choose.
            callbacks: the names of callbacks to add to those that the files choose.

        Raises:
            TypeError: a bare string where a list belongs.
            ConfigError: with every file that cannot be read and every override that cannot be parsed.
            StorageError: the disk fails.

        Warns:
            UserWarning: settings of a component are dropped, because a stronger layer names another one.
        """
        lists = {"files": files, "overrides": overrides, "metrics": metrics, "callbacks": callbacks}
        for name, texts in lists.items():
            if isinstance(texts, str | Path):
                raise TypeError(f"{name} is a list; write RunConfig.read({name}=[{str(texts)!r}])")
        if len(overrides) > MAX_KEYS:
            raise ConfigError(f"a command line has at most {MAX_KEYS:,} KEY=VALUE; write the rest into a file for -c")
        problems = [*_given_twice("metric", metrics), *_given_twice("callback", callbacks)]
        paths = tuple(Path(os.path.expanduser(file)) for file in files)
        laid: Layer = {}
        for path in paths:
            with collecting(problems):
                _lay(laid, read_file(path))
        layer: Layer = {}
        for flag, value in (flags or {}).items():
            with collecting(problems):
                layer |= _flag(flag, value)
        if metrics:
            others = {path[:2] for path in laid if path[0] == "metrics"} - {("metrics", name) for name in metrics}
            layer |= dict.fromkeys(others, (REMOVED, ""))
            layer |= {("metrics", name): ({}, f"--metric {name}") for name in metrics}
        layer |= {("callbacks", name): ({}, f"--callback {name}") for name in callbacks}
        _lay(laid, layer)
        layer = {}
        for text in overrides:
            with collecting(problems):
                key, value = parse_override(text)
                layer |= {leaf: (inner, tidy(text, SHOWN)) for leaf, inner in leaf_items(value, key)}
        if not problems:  # what a file may have set that cannot be read is not there to be removed
            _lay(laid, layer)
        if problems:
            raise ConfigError(*problems)
        return cls._of(laid, paths)

    @classmethod
    def _of(cls, laid: Layer, files: tuple[Path, ...]) -> "RunConfig":
        config = cls()
        config.files = files
        config.sources = {path: source for path, (_, source) in laid.items()}
        for path, (value, _) in laid.items():
            table = config.values
            for part in path[:-1]:
                table = table.setdefault(part, {})
            table[path[-1]] = value
        return config

    def over(self, file: Path) -> "RunConfig":
        """These values as layers over those of a file.

        Raises:
            ConfigError: the file cannot be read.
        """
        laid = read_file(file)
        _lay(laid, {path: (value, self.source(*path)) for path, value in leaf_items(self.values)})
        return RunConfig._of(laid, (file,))

    def source(self, *path: str) -> str:
        """Who set this key, or the nearest one above or below it; empty for a default."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.sources:
                return self.sources[path[:length]]
        return next((text for key, text in self.sources.items() if key[: len(path)] == path), "")


@contextmanager
def collecting(problems: list[Problem]) -> Iterator[None]:
    """Adds what is wrong inside the block to ``problems``, so that one error tells all of it."""
    try:
        yield
    except ConfigError as error:
        problems += error.problems


def leaves(tree: Tree) -> dict[str, Any]:
    """The values of a tree of tables by their keys: ``{"trainer.epochs": 5}``."""
    return {".".join(path): value for path, value in leaf_items(tree) if value != {}}


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """``"optimizer.lr=1e-3"`` as a key path and a value, ``REMOVED`` where nothing stands behind the ``=``.

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
        path = single_path(loads(f"{key} = 0"))
    except (ValueError, RecursionError):
        raise ConfigError(f"'{tidy(key, 60)}' in '{shown}' is not a key; write section.key=value") from None
    if max(map(len, path)) > LONGEST_KEY:
        raise ConfigError(f"'{shown}' has a key of more than {LONGEST_KEY} characters")
    return path, parse_value(written.strip(), text) if written.strip() else REMOVED


def _given_twice(kind: str, names: Sequence[str]) -> Iterator[Problem]:
    section = KINDS[kind].section
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        message = f"is given twice; for a second one choose a label of its own: {section}.LABEL.name={name}"
        yield Problem(f"{section}.{name}", message, f"--{kind} {name}")


def _flag(flag: str, value: Any) -> Layer:
    """The value of a flag: names are taken as they are, other texts are read as TOML."""
    if flag not in FLAGS:
        raise ConfigError(f"unknown flag '{flag}'{did_you_mean(flag, FLAGS)}; valid are {listing(list(FLAGS))}")
    if value is None:
        return {}
    path, text = FLAGS[flag], f"--{flag}" if value is True else f"--{flag} {value}"
    as_it_is = path[-1] == "name" or flag == "device" or not isinstance(value, str)
    return {path: (value if as_it_is else parse_value(value, text), tidy(text, SHOWN))}


def _lay(weaker: Layer, stronger: Layer) -> None:
    """Lays a layer over the weaker ones, which become one with it; what it removes goes before its own values come.

    Raises:
        ConfigError: there is nothing to remove, or a key has a value, and keys of its own.
    """
    problems = []
    for path, (value, source) in stronger.items():
        if value is REMOVED and not _forget(weaker, path):
            message = "no file or flag sets it, so there is nothing to remove; write '\"\"' for an empty string"
            problems.append(Problem(".".join(path), message, source))
        if any(stronger.get(path[:length], ({},))[0] not in ({}, REMOVED) for length in range(1, len(path))):
            problems.append(Problem(".".join(path), "is given a value, and a part of it a value of its own", source))
    if problems:
        raise ConfigError(*problems)
    given = {path: each for path, each in stronger.items() if each[0] is not REMOVED}
    for path, (name, source) in given.items():
        if path[-1] == "name" and len(path) in (2, 3):
            _replace_component(weaker, path[:-1], name, source)
    for section in LABELLED:
        if given.get((section,), (None, ""))[0] == {}:  # an empty table turns all of them off
            _forget(weaker, (section,))
    tables = {path[:length] for path in (*weaker, *given) for length in range(1, len(path))}
    for path, (value, source) in given.items():
        if path in tables:
            if value == {}:  # adds nothing to a table
                continue
            _forget(weaker, path)
        for length in range(1, len(path)):
            weaker.pop(path[:length], None)
        weaker[path] = (value, source)


def _forget(layer: Layer, path: KeyPath) -> dict[KeyPath, str]:
    """Takes a value or a table away; the keys that are gone, with their sources."""
    gone = {key: source for key, (_, source) in layer.items() if key[: len(path)] == path}
    for key in gone:
        del layer[key]
    return gone


def _replace_component(weaker: Layer, table: KeyPath, new: Any, source: str) -> None:
    """Drops what was set for another component than ``new``; the core's own keys of the section stay."""
    label = table[1] if table[0] in LABELLED and len(table) > 1 else None
    old = weaker.get((*table, "name"), (label, ""))[0]
    if old is None or _short(old) == _short(new):
        return
    from ptb.config.sections import SHARED_SECTIONS  # pydantic, which most layers can do without

    kept = SHARED_SECTIONS[table[0]].model_fields if table[0] in SHARED_SECTIONS else {}
    gone: dict[KeyPath, str] = {}
    for key in dict.fromkeys(path[: len(table) + 1] for path in weaker if path[: len(table)] == table):
        if key[-1] not in kept:
            gone |= _forget(weaker, key)
    gone.pop((*table, "name"), None)
    if gone:
        dropped = listing([".".join(key) + (f" [{place}]" if place else "") for key, place in gone.items()])
        by = f" ({source})" if source else ""
        warnings.warn(f"'{new}'{by} replaces '{old}', so its settings are dropped: {dropped}", stacklevel=4)


def _short(name: Any) -> Any:
    """A built-in's id and its short name are one."""
    return name.removeprefix(f"{BUILT_IN}:") if isinstance(name, str) else name


def _copied(value: Any) -> Any:
    return {key: _copied(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value
