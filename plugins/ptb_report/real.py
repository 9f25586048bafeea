"""Real targets: what was predicted against what is true, target by target."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any


def targets(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Pairs of truth and prediction by target; a single target has no name. Those that are not finite are left out."""
    names = [key.partition(":")[2] for key in rows[0] if key.startswith("prediction:")]
    columns = {name: f"prediction:{name}" for name in names} or {"": "prediction"}
    found: dict[str, list[tuple[float, float]]] = {}
    for place, (name, column) in enumerate(columns.items()):
        pairs = []
        for row in rows:
            truth = row.get("truth")
            truth = truth[place] if isinstance(truth, list) else truth
            pairs.append((float(truth), float(row[column])))  # type: ignore[arg-type]  # a text such as "nan" too
        found[name] = [pair for pair in pairs if all(map(isfinite, pair))]
    return found


def histogram(values: Sequence[float], bins: int = 24) -> tuple[list[str], list[int]]:
    """Names and counts of ``bins`` stretches of equal width; one, where all values are the same."""
    low, high = min(values), max(values)
    if not isfinite(high - low) or high == low:
        return [f"{low:.4g}"], [len(values)]
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    middles = [low + (high - low) * (place + 0.5) / bins for place in range(bins)]
    return [f"{middle:.4g}" for middle in middles], counts
