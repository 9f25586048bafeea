"""The weights of the first layer, which sees the inputs themselves: noise in them is a layer that learnt nothing."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ptb import ConfigError, RunRecord
from ptb_plots.drawing import panels, text
from ptb_plots.runs import one

MOST = 64
ACROSS = 8


def filters(records: Sequence[RunRecord], *, count: int = MOST) -> Figure:
    """The filters of the first convolution; of a first linear layer over pictures, its rows in their shape.

    All have one scale: white is 0, blue above and red below it; filters with three input channels are in colour, each
    between its smallest and its largest weight.

    Raises:
        ConfigError: there are several runs, or no layer looks at pictures.
    """
    record = one(records, "filters")
    name, weights = _first(record)
    shown = weights[: min(count, MOST)]
    drawn, axes = panels(len(shown), width=1.1, height=1.15, most=min(ACROSS, len(shown)))
    bound = float(np.abs(shown).max()) or 1.0
    for place, (each, weight) in enumerate(zip(axes, shown, strict=True)):
        each.grid(False)
        each.set(xticks=[], yticks=[])
        each.spines[:].set_visible(False)
        each.set_title(str(place), fontsize=6, pad=2)
        if weight.shape[0] == 3:
            low, high = float(weight.min()), float(weight.max())
            each.imshow(((weight - low) / max(high - low, 1e-12)).transpose(1, 2, 0))
        else:
            each.imshow(weight.mean(0), cmap="RdBu", vmin=-bound, vmax=bound)
    drawn.suptitle(f"{text(name)}: {len(shown)} of {len(weights)} filters, largest |weight| {bound:.3g}", fontsize=9)
    return drawn


def _parameters(record: RunRecord) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The weights in the order of the model; by name for a run that has no preprocessor, and so cannot be loaded."""
    from safetensors.torch import load_file

    from ptb import checkpoint_path, load

    if (record.path / "preprocessor.json").is_file():
        model: Any = load(record.path, device="cpu").model
        yield from ((name, each.detach().float().numpy()) for name, each in model.named_parameters())
        return
    saved = load_file(checkpoint_path(record.path))
    for name in sorted(name for name in saved if name.startswith("model.")):
        yield name.removeprefix("model."), saved[name].float().numpy()


def _first(record: RunRecord) -> tuple[str, NDArray[np.float32]]:
    """The weights ``[N, C, H, W]`` of the first layer with a picture for each output."""
    shape = tuple(record.manifest.get("data", {}).get("input_shape", ()))
    for name, weights in _parameters(record):
        if weights.ndim == 4:
            return name, weights
        if weights.ndim == 2 and len(shape) == 3 and weights.shape[1] == np.prod(shape):
            return name, weights.reshape(-1, *shape)
        if weights.ndim > 1:
            break
    raise ConfigError(f"the first layer of {record.path} does not look at pictures: it has no filters to show")
