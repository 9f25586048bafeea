"""Weights and gradients over the run, layer by layer, as the callback `weight-histograms` has recorded them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptb import ConfigError, RunRecord
from ptb_plots.drawing import panels, text, whole_numbers
from ptb_plots.runs import one

FILE = "histograms.jsonl"
MOST_LAYERS = 6


def histograms(records: Sequence[RunRecord], *, layers: tuple[str, ...] = ()) -> Figure:
    """How the weights, and beside them the gradients, of each layer are spread at each recorded step.

    Darker is more; a column is a step. Without ``layers`` at most six are drawn, spread over the model, no biases.

    Raises:
        ConfigError: there are several runs, no histograms are recorded, or not of these layers.
    """
    record = one(records, "histograms")
    rows = _rows(record)
    known = [*rows[0]["weights"]]
    if unknown := [name for name in layers if name not in known]:
        raise ConfigError(f"no histograms of '{unknown[0]}' are recorded; there are {', '.join(known[:20])}")
    layered = [name for name in known if not name.endswith("bias")] or known
    chosen = [*layers] or [layered[place] for place in _spread(len(layered), MOST_LAYERS)]
    both = any(row.get("gradients") for row in rows)
    drawn, axes = panels(len(chosen) * (1 + both), width=4.4, height=2.2, most=2 if both else 3)
    for place, name in enumerate(chosen):
        for column, what in enumerate(("weights", "gradients")[: 1 + both]):
            each = axes[place * (1 + both) + column]
            _picture(each, [(row["step"], row[what][name]) for row in rows if name in row.get(what, {})])
            each.set(title=f"{text(name, 32)}: {what}", xlabel="step")
    return drawn


def _rows(record: RunRecord) -> list[dict[str, Any]]:
    path = record.path / FILE
    if not path.is_file():
        raise ConfigError(
            f"{record.path} has recorded no histograms: train with --callback weight-histograms, then they are there"
        )
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break  # cut off by a crash
    if not rows:
        raise ConfigError(f"{path} holds no histograms yet")
    return rows


def _picture(axes: Axes, found: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """One column for each step, all over the same range."""
    axes.grid(False)
    if not found:
        axes.text(0.5, 0.5, "none recorded", ha="center", va="center", transform=axes.transAxes)
        return
    low, high = min(each["low"] for _, each in found), max(each["high"] for _, each in found)
    edges = np.linspace(low, high if high > low else low + 1e-12, 61)
    density = np.stack([_spread_over(each, edges) for _, each in found], 1)
    steps = np.array([step for step, _ in found], float)
    middles = (steps[1:] + steps[:-1]) / 2
    first = steps[0] - (middles[0] - steps[0] if len(middles) else 0.5)
    last = steps[-1] + (steps[-1] - middles[-1] if len(middles) else 0.5)
    axes.pcolormesh([first, *middles, last], edges, density, cmap="Blues", vmin=0, rasterized=True)
    whole_numbers(axes)


def _spread_over(found: Mapping[str, Any], edges: np.ndarray) -> np.ndarray:
    """The counts of a histogram in other bins, each bin's part in proportion, the largest 1; by its root."""
    counts = np.array(found["counts"], float)
    own = np.linspace(found["low"], max(found["high"], found["low"] + 1e-12), len(counts) + 1)
    below = np.interp(edges, own, np.concatenate([[0], counts.cumsum()]))
    parts = np.diff(below)
    found_parts: np.ndarray = np.sqrt(parts / max(parts.max(), 1e-12))  # a root, so that the tails are seen
    return found_parts


def _spread(size: int, most: int) -> list[int]:
    return [place * size // min(size, most) for place in range(min(size, most))]
