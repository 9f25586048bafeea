"""Words that several callbacks use."""

from collections.abc import Iterable


def listing(names: Iterable[object], limit: int = 20) -> str:
    """``a, b, c``, cut after ``limit`` names with the number of those left out."""
    texts = [*map(str, names)]
    shown = ", ".join(texts[:limit])
    return f"{shown} and {len(texts) - limit} more" if len(texts) > limit else shown
