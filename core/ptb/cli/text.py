"""Plain columns: they read well on a terminal, and cut well in a pipe."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """The rows with their cells aligned; columns that are empty throughout are left out."""
    rows = [[printable(cell) for cell in row] for row in rows]
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    lines = (zip(line, widths, strict=True) for line in zip(*kept, strict=True))
    return "\n".join((indent + "  ".join(cell.ljust(width) for cell, width in line)).rstrip() for line in lines)


def printable(text: str, kept: str = "") -> str:
    """The text without signs that steer a terminal but for those of ``kept``, so on one line: a stranger wrote it."""
    return "".join(sign if sign.isprintable() or sign in kept else " " for sign in text)
