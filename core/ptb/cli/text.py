"""Text for the terminal: aligned columns, and no control characters."""

from collections.abc import Sequence

from ptb.errors import printable as printable


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """The rows with their cells aligned, without columns that are empty in all rows but the first."""
    rows = [[printable(cell) for cell in row] for row in rows]
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    lines = (zip(line, widths, strict=True) for line in zip(*kept, strict=True))
    return "\n".join((indent + "  ".join(cell.ljust(width) for cell, width in line)).rstrip() for line in lines)
