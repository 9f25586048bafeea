"""A configuration as a TOML file, in which comments explain it, or tell where its values come from."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tomlkit
from pydantic.fields import FieldInfo

from ptb.internals import CORE_SECTIONS, RUN_KINDS, SHARED_SECTIONS, Kind, PartialConfig, listing

# The path of a table in a config file, its values, and the fields that describe them and those that have none.
Table = tuple[tuple[str, ...], dict[str, Any], dict[str, FieldInfo]]


def commented(partial: PartialConfig) -> str:
    """The configuration, which may lack settings, as a config file in which a comment explains each key."""
    text = "# A configuration of ptb. A key that is left out has its default; only the model must be named.\n"
    if required_keys(partial):
        text += "# The keys marked as required have no default: write a value for ..., and take the first # away.\n"
    text += _written(_tables(partial), lambda path, description: description, with_unset=True)
    if left_open := _left_open(partial):
        text += "\n# Unless it is chosen here, what fits the targets of the data set is taken:\n"
        text += "\n".join(
            f"# [{kind.section}.NAME]\n" if kind.labelled else f"# [{kind.section}]\n# name = ...\n"
            for kind in left_open
        )
    return text


def sourced(partial: PartialConfig) -> str:
    """The configuration as a file in which a comment tells the source of each value that is no default."""
    asked = partial.asked
    text = _written(_tables(partial), lambda path, _: asked.source(*path) if _is_chosen(asked.values, path) else "")
    if left_open := [kind.section for kind in _left_open(partial)]:
        text += f"\n# not chosen, so what fits the targets of the data set is taken: {listing(left_open)}\n"
    return text


def required_keys(partial: PartialConfig) -> list[str]:
    """The keys of required settings that have no value, such as ``dataset.path``."""
    tables = _tables(partial)
    return [
        ".".join((*path, key))
        for path, values, described in tables
        for key, field in described.items()
        if field.is_required() and key not in values
    ]


def _tables(partial: PartialConfig) -> Iterator[Table]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may hold values that were not validated, which pydantic warns of
        written = partial.as_config()
    yield (), partial.run.model_dump(), type(partial.run).model_fields
    for section, component in partial.components().items():
        path = tuple(section.split(".", 1))
        values = written[path[0]] if len(path) == 1 else written[path[0]][path[1]]
        shared = SHARED_SECTIONS[section].model_fields if section in SHARED_SECTIONS else {}
        yield path, values, type(component.settings).model_fields | shared
    if partial.metrics == {}:  # turned off, which is not the same as left open
        yield ("metrics",), {}, {}
    for name, model in CORE_SECTIONS.items():
        if name in written:
            yield (name,), written[name], model.model_fields


def _written(tables: Iterable[Table], comment: Callable[[tuple[str, ...], str], str], with_unset: bool = False) -> str:
    document = tomlkit.document()
    for path, values, fields in tables:
        table = document if not path else tomlkit.table()
        for key in ("name", *fields):
            field = fields.get(key)
            description = " ".join((field.description or "").split()) if field else ""
            if key in values:
                item = _inline(values[key])
                if text := comment((*path, key), description):
                    item.comment(text)
                table.add(key, item)
            elif field and with_unset:
                described = ": ".join(filter(None, ("required" * field.is_required(), description))) or "not set"
                table.add(tomlkit.comment(f"{key} = ... # {described}"))
        if len(path) == 1:
            document.add(tomlkit.nl())
            document.add(path[0], table)
        elif path:
            parent = document.setdefault(path[0], tomlkit.table(is_super_table=True))
            parent.add(path[1], table)
    return tomlkit.dumps(document)


def _inline(value: Any) -> Any:
    """The value on one line: as a table of its own it would end the one in which it stands."""
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update({key: _inline(inner) for key, inner in value.items()})
        return inline
    if isinstance(value, list):
        array = tomlkit.array()
        array.extend(map(_inline, value))
        return array
    return tomlkit.item(value)


def _left_open(partial: PartialConfig) -> list[Kind]:
    return [kind for kind in RUN_KINDS.values() if getattr(partial, kind.section) is None]


def _is_chosen(values: Any, path: tuple[str, ...]) -> bool:
    """Whether the value is no default; a label is the name of its component too."""
    for part in path[:-1] if len(path) == 3 and path[-1] == "name" else path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True
