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
    SHOWN,
    KeyPath,
    Layer,
    Tree,
    check_size,
    leaf_items,
    parse_key,
    parse_value,
    plain,
    read_file,
)
from ptb.errors import ConfigError, Problem, did_you_mean, listing, tidy
from ptb.kinds import RUN_KINDS
from ptb.registry.discovery import BUILT_IN

# What everybody sets has a flag; everything else is KEY=VALUE.
FLAGS: dict[str, KeyPath] = {
    **{kind.flag: (kind.section, "name") for kind in RUN_KINDS.values() if not kind.labelled},
    "epochs": ("trainer", "epochs"),
    "batch-size": ("loader", "batch_size"),
    "lr": ("optimizer", "lr"),
    "workers": ("loader", "num_workers"),
    "device": ("device",),
    "seed": ("seed",),
    "compile": ("trainer", "compile"),
}
LABELLED = {kind.section for kind in RUN_KINDS.values() if kind.labelled}
REMOVED: Any = object()  # the value of ``KEY=``


class RunConfig:
    """What was asked for, section by section, not yet checked.

    ::

        RunConfig(model={"name": "lenet", "pool": "avg"}, trainer={"epochs": 3})

    Paths may be ``pathlib.Path``, numbers those of NumPy or torch.

    Args:
        sections: ``dataset``, ``model``, ``initializer``, ``loss``, ``optimizer``, ``scheduler``: tables whose ``name``
            chooses the component and whose other keys are its settings; ``metrics``, ``callbacks``: tables of such
            tables; ``loader``, ``trainer``: tables; ``seed``: int; ``device``: str.

    Raises:
        ConfigError: they are larger than a configuration can be, or a key is no string.
    """

    def __init__(self, **sections: Any) -> None:
        try:
            check_size(sections)
        except ValueError as error:
            raise ConfigError(f"the configuration cannot be used: {error}") from None
        self.values: Tree = {}
        self.sources: dict[KeyPath, str] = {}
        self._filled({path: (plain(value), "") for path, value in leaf_items(sections)})

    @classmethod
    def read(
        cls,
        files: Sequence[str | Path | Tree] = (),
        flags: Mapping[str, Any] | None = None,
        overrides: Sequence[str] = (),
        metrics: Sequence[str] = (),
        callbacks: Sequence[str] = (),
    ) -> "RunConfig":
        """Reads the layers, weakest first: files in order, flags, ``KEY=VALUE``.

        A layer that names another component for a section replaces what weaker layers set for the former one.

        Args:
            files: TOML files; a ``.json`` of the same shape is read too, and a dict of sections may stand among them.
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
        for texts in (files, overrides, metrics, callbacks):
            if isinstance(texts, str | Path):
                raise TypeError(f"RunConfig.read takes lists: write [{str(texts)!r}]")
        problems: list[Problem] = []
        laid: Layer = {}
        layers = [file if isinstance(file, dict) else Path(os.path.expanduser(file)) for file in files]
        paths = tuple(layer for layer in layers if isinstance(layer, Path))
        for layer in layers:
            with collecting(problems):
                inner = read_file(layer) if isinstance(layer, Path) else {p: (v, "") for p, v in leaf_items(layer)}
                _lay(laid, inner)
        if metrics:
            gone = [path for path in laid if path[0] == "metrics" and path[1:2] not in {(name,) for name in metrics}]
            dropped = {path: laid.pop(path)[1] for path in gone}
            _warn_of_dropped(f"'{listing(list(metrics))}' (--metric) replaces the metrics of the files", dropped)
        flagged: Layer = {("metrics", name): ({}, f"--metric {name}") for name in metrics}
        flagged |= {("callbacks", name): ({}, f"--callback {name}") for name in callbacks}
        for flag, value in (flags or {}).items():
            with collecting(problems):
                flagged |= _flag(flag, value)
        _lay(laid, flagged)
        overriding: Layer = {}
        for text in overrides:
            with collecting(problems):
                key, value = parse_override(text)
                overriding |= {leaf: (inner, tidy(text, SHOWN)) for leaf, inner in leaf_items(value, key)}
        if not problems:  # what a file may have set that cannot be read is not there to be removed
            _lay(laid, overriding)
        if problems:
            raise ConfigError(*problems)
        return cls()._filled(laid, paths)

    def _filled(self, layer: Layer, files: tuple[Path, ...] = ()) -> "RunConfig":
        self.files = files
        for path, (value, source) in layer.items():
            self.sources[path] = source
            table = self.values
            for part in path[:-1]:
                table = table.setdefault(part, {})
            table[path[-1]] = value
        return self

    def over(self, file: Path) -> "RunConfig":
        """These values as a layer over those of a file."""
        laid = read_file(file)
        _lay(laid, {path: (value, self.source(*path)) for path, value in leaf_items(self.values)})
        return RunConfig()._filled(laid, (file,))

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
    """``"optimizer.lr=1e-3"`` as a key path and a value, ``REMOVED`` where nothing stands behind the ``=``."""
    key, equals, written = text.partition("=")
    shown = tidy(text, SHOWN)
    if not equals:
        raise ConfigError(
            f"'{shown}' is not KEY=VALUE; a component is chosen by its flag, as in --model {shown}, "
            "a setting by its key, as in optimizer.lr=1e-3"
        )
    try:
        path = parse_key(key)
    except ValueError:
        raise ConfigError(f"'{tidy(key, 60)}' in '{shown}' is not a key; write section.key=value") from None
    return path, parse_value(written.strip(), text) if written.strip() else REMOVED


def _flag(flag: str, value: Any) -> Layer:
    """The value of a flag: names are taken as they are, other texts are read as TOML."""
    if flag not in FLAGS:
        raise ConfigError(f"unknown flag '{flag}'{did_you_mean(flag, FLAGS)}; valid are {listing(list(FLAGS))}")
    if value is None:
        return {}
    path = FLAGS[flag]
    source = f"--{flag}" if value is True else f"--{flag} {value}"
    if isinstance(value, str) and path[-1] not in ("name", "device"):
        value = parse_value(value, source)
    return {path: (value, tidy(source, SHOWN))}


def _lay(weaker: Layer, stronger: Layer) -> None:
    """Lays a layer over the weaker ones, which become one with it; what it removes goes before its own values come."""
    problems = []
    for path, (value, source) in stronger.items():
        if value is REMOVED and not _forget(weaker, path):
            message = "no file or flag sets it, so there is nothing to remove; write '\"\"' for an empty string"
            problems.append(Problem(".".join(path), message, source))
    if problems:
        raise ConfigError(*problems)
    given = {path: each for path, each in stronger.items() if each[0] is not REMOVED}
    for path, (value, source) in given.items():
        if path[-1] == "name" and len(path) in (2, 3):
            _replace_component(weaker, path[:-1], value, source)
    for path, (value, source) in given.items():
        inside = [key for key in weaker if key[: len(path)] == path and key != path]
        turns_off = len(path) == 1 and path[0] in LABELLED  # ``metrics={}`` asks for none
        if value == {} and inside and not turns_off:
            continue  # an empty table adds nothing to one that is there
        for key in inside:
            del weaker[key]
        for length in range(1, len(path)):
            weaker.pop(path[:length], None)  # a value gives way to a table
        weaker[path] = (value, source)


def _forget(layer: Layer, path: KeyPath) -> bool:
    """Takes a value or a table away; False where there is none."""
    gone = [key for key in layer if key[: len(path)] == path]
    for key in gone:
        del layer[key]
    return bool(gone)


def _replace_component(weaker: Layer, table: KeyPath, new: Any, source: str) -> None:
    """Drops what was set for another component than ``new``; the core's own keys of the section stay."""
    label = table[1] if table[0] in LABELLED and len(table) > 1 else None
    old = weaker.get((*table, "name"), (label, ""))[0]
    if old is None or _short(old) == _short(new):
        return
    from ptb.config.sections import SHARED_SECTIONS  # pydantic, which most layers can do without

    kept = SHARED_SECTIONS[table[0]].model_fields if table[0] in SHARED_SECTIONS else {}
    inside = [path for path in weaker if path[: len(table)] == table and len(path) > len(table)]
    gone = {path: weaker.pop(path)[1] for path in inside if path[len(table)] not in kept}
    gone.pop((*table, "name"), None)
    by = f" ({source})" if source else ""
    _warn_of_dropped(f"'{new}'{by} replaces '{old}'", gone, stacklevel=6)


def _warn_of_dropped(why: str, keys: Mapping[KeyPath, str], stacklevel: int = 4) -> None:
    """Warns in one line of the ``keys`` that no longer count, each with its source."""
    if keys:
        shown = listing([".".join(key) + (f" [{place}]" if place else "") for key, place in keys.items()])
        warnings.warn(f"{why}, so these settings are dropped: {shown}", stacklevel=stacklevel)


def _short(name: Any) -> Any:
    """A built-in's id and its short name are one."""
    return name.removeprefix(f"{BUILT_IN}:") if isinstance(name, str) else name
