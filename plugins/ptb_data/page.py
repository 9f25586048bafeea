"""The page that `ptb data show` prints."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from ptb.internals import count, printable

MOST_CLASSES, MOST_COLUMNS = 40, 60
LONGEST_NAME = 24  # of a column or class, so that there is room for what is said of it
_FIGURES = ("mean", "std", "min", "max")


def page(facts: Mapping[str, Any], width: int) -> str:
    """The facts as text, the most important first, in lines of at most ``width`` characters where words allow it."""
    blocks = [
        _head(facts, width),
        _classes(facts),
        _targets(facts),
        _columns(facts, width),
        _training(facts),
        _listed("what is done to the samples", [*facts["transforms"], *facts["augment"]], width),
        _listed("what the data was taken for", facts["notes"], width),
        _listed("what looks wrong", facts["warnings"] or ["nothing was found"], width),
    ]
    return "\n\n".join(block for block in blocks if block)


def _head(facts: Mapping[str, Any], width: int) -> str:
    splits = facts["splits"]
    sizes = "   ".join(f"{split} {size:,}" for split, size in splits.items())
    for split in ("val", "test"):
        if split not in splits:
            sizes += f"   no {split}"
    rows = [("data set", facts["dataset"]), ("splits", sizes)]
    if facts["read"] != splits:
        rows.append(("", "read for this page: " + "   ".join(f"{name} {n:,}" for name, n in facts["read"].items())))
    for each in facts["inputs"]:
        label = "inputs" if each["name"] == "inputs" else f"inputs '{each['name']}'"
        rows.append((label, _form(each)))
    rows.append(("target", _target(facts)))
    return _hanging(rows, "   ", width)


def _form(each: Mapping[str, Any]) -> str:
    shape, kind = each["shape"], each["kind"]
    if kind == "image":
        channels = {1: "grey", 3: "colour"}.get(shape[0], f"{shape[0]} channels")
        text = f"pictures, {channels}, {shape[1]} high, {shape[2]} wide"
    elif kind == "tokens":
        text = f"{count(shape[0], 'token')} of a vocabulary of {each['vocabulary']:,}"
    elif kind == "vector":
        text = f"a vector of {count(shape[0], 'number')}"
    else:
        text = f"an array {shape}"
    return f"{text} ({each['dtype']})" if each["dtype"] else text


def _target(facts: Mapping[str, Any]) -> str:
    target, size = facts["target"], facts["target"]["size"]
    text = {
        "class": f"one of {size} classes",
        "binary": "one of two classes (binary): the positive one is 1",
        "multilabel": f"any of {size} labels",
        "real": count(size, "real number"),
        "distribution": f"probabilities of {size} classes",
        "similarity": "whether two inputs are alike: +1 or -1",
        "none": "none: the inputs themselves",
    }[target["kind"]]
    if target["positions"]:
        text += f" at each position {target['positions']}"
    if target["std"]:
        text += ", trained on (value - mean) / std, shown in its own units"
    return text


def _classes(facts: Mapping[str, Any]) -> str:
    rows = facts["classes"]
    if not rows:
        return ""
    splits = [*facts["splits"]]
    named = any(row["name"] != str(row["number"]) for row in rows)
    heads = ["", *["label" if facts["target"]["kind"] == "multilabel" else "class"] * named, *splits]
    heads[0] = "" if named else "class"
    shown = [
        [str(row["number"]), *[_cut(row["name"])] * named, *(f"{row[split]:,}" for split in splits)] for row in rows
    ]
    text = _right(heads, shown[:MOST_CLASSES], left=1 + named)
    return text + (f"\n  ... and {len(shown) - MOST_CLASSES} more" if len(shown) > MOST_CLASSES else "")


def _targets(facts: Mapping[str, Any]) -> str:
    rows = [
        [split, str(place) if len(found) > 1 else "", *(_number(row[name]) for name in _FIGURES)]
        for split, found in facts["targets"].items()
        for place, row in enumerate(found)
    ]
    return _right(["target", "", "mean", "std", "min", "max"], rows[:MOST_COLUMNS], left=2) if rows else ""


def _columns(facts: Mapping[str, Any], width: int) -> str:
    found = facts["columns"]
    rows = [(_cut(row["name"]), row.get("used_as", ""), _said(row)) for row in found[:MOST_COLUMNS]]
    more = f"\n... and {len(found) - MOST_COLUMNS} more" if len(found) > MOST_COLUMNS else ""
    return _hanging([("column", "used as", "why, and what it holds"), *rows], "  ", width) + more if rows else ""


def _said(row: Mapping[str, Any]) -> str:
    """``all its values are numbers: mean 4.2, std 1, smallest 2, largest 9, values 7``."""
    figures = {key: value for key, value in row.items() if key not in ("name", "used_as", "why")}
    text = ", ".join(f"{key.replace('_', ' ')} {_number(value)}" for key, value in figures.items())
    return ": ".join(filter(None, (row.get("why", ""), text)))


def _training(facts: Mapping[str, Any]) -> str:
    rows = []
    for each in facts["training"]:
        if "mean" not in each:
            continue
        rows.append([each["name"], *(_number(each[name]) for name in _FIGURES)])
        if not facts["columns"]:
            rows += [
                [f"  {place}", *(_number(row[name]) for name in _FIGURES)]
                for place, row in enumerate(each.get("columns", ()))
            ]
    return _right(["training split, as the model sees it", "mean", "std", "min", "max"], rows) if rows else ""


def _listed(title: str, lines: Sequence[str], width: int) -> str:
    return "\n".join([title, *(_hanging([("  " + line,)], "", width, 4) for line in lines)]) if lines else ""


def _hanging(rows: Sequence[Sequence[str]], gap: str, width: int, indent: int = 0) -> str:
    """Aligned cells, the last one of each row in as many lines as it needs; no word is broken."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    lines: list[str] = []
    for row in rows:
        begin = "".join(cell.ljust(size) + gap for cell, size in zip(row[:-1], widths, strict=True))
        after = " " * (indent or len(begin))
        whole = wrap(
            begin + row[-1],
            max(width, len(after) + LONGEST_NAME),
            subsequent_indent=after,
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += whole or [begin.rstrip()]
    return "\n".join(lines)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _right(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose numbers, all but the first columns, stand to the right."""
    table = [list(heads), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return "\n".join(line.rstrip() for line in lines)


def _number(value: Any) -> str:
    if isinstance(value, list):
        return f"({', '.join(map(str, value))})"
    if not isinstance(value, float):
        return str(value)
    if abs(value) < 1e-6:  # what rounding leaves of 0
        return "0"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"
