"""Whether an exported file says what the run says, on real samples; what does not is not kept."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ptb import DataSpec, NumericalError
from ptb.internals import map_leaves
from ptb_export.formats import Run

SAMPLES = 256  # that are looked at, if there are so many
SIZES = (1, 2, 3, 257)  # of batches
TOLERANCE = 1e-5  # of the largest absolute score


def check(run: Run, reference: Callable[[Any], tuple[Tensor, Tensor]], inputs: Any, spec: DataSpec) -> float:
    """The largest difference between the file and the run, as a part of the largest absolute score.

    Args:
        run: the file: inputs to scores and what they say.
        reference: the run itself.
        inputs: real samples as one batch, before ``transform``.
        spec: what they look like.

    Raises:
        NumericalError: the file says something else.
    """
    worst = 0.0
    # Of all samples: one alone may have a score near 0.
    scales = [float(each.abs().max()) or 1.0 for each in reference(inputs)]
    for size in SIZES:
        for batch in _batches(inputs, size):
            given, wanted = run(batch), reference(batch)
            for name, ours, theirs, largest in zip(("scores", "results"), wanted, given, scales, strict=True):
                worst = max(worst, _difference(name, ours, theirs, largest, size))
            _check_classes(wanted[0], given[0], spec, size, scales[0])
    return worst


def _batches(inputs: Any, size: int) -> Sequence[Any]:
    """The samples in batches of one size; they are repeated where they do not fill one."""
    count = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
    starts = range(0, count, size)
    rows = [torch.arange(start, start + size) % count for start in starts]
    return [map_leaves(lambda each, chosen=chosen: each[chosen], inputs) for chosen in rows]  # type: ignore[misc]


def _difference(name: str, ours: Tensor, theirs: Tensor, largest: float, size: int) -> float:
    if ours.shape != theirs.shape:
        raise NumericalError(
            f"the exported file gives {name} of shape {list(theirs.shape)} at batch size {size}, the run "
            f"{list(ours.shape)}; nothing was written"
        )
    difference = float((ours - theirs).abs().max()) / largest
    if not difference <= TOLERANCE:
        raise NumericalError(
            f"the exported file does not say what the run says: at batch size {size} its {name} differ by "
            f"{difference:.1e} of the largest, and {TOLERANCE:.0e} is allowed; nothing was written"
        )
    return difference


def _check_classes(ours: Tensor, theirs: Tensor, spec: DataSpec, size: int, largest: float) -> None:
    if spec.target != "class":
        return
    chosen = theirs.argmax(1, keepdim=True)
    best = ours.max(1, keepdim=True).values
    # Another class only where both are as probable, as far as 32 bits say.
    if bool((best - ours.gather(1, chosen) > TOLERANCE * largest).any()):
        raise NumericalError(f"the exported file chooses other classes at batch size {size}; nothing was written")
