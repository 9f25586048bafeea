"""How the values of a loss become one, also where that is said in PyTorch's old words. Imports no torch."""

import warnings
from typing import Literal, TypeVar

Reduction = Literal["none", "mean", "sum"]
R = TypeVar("R", bound=str)


def resolve_reduction(reduction: R, size_average: bool | None, reduce: bool | None) -> R | Reduction:
    """The reduction that is meant, with a ``FutureWarning`` where a deprecated setting says it.

    As in PyTorch, either deprecated setting overrides ``reduction``, and the other one then counts as true:
    ``reduce=False`` is ``"none"``, else ``size_average=False`` is ``"sum"``, else it is ``"mean"``.

    Args:
        reduction: what holds where both others are None.
        size_average: deprecated; whether the values are averaged rather than added up.
        reduce: deprecated; whether the values become one at all.
    """
    if size_average is None and reduce is None:
        return reduction
    meant: Reduction = "mean"
    if reduce is not None and not reduce:
        meant = "none"
    elif size_average is not None and not size_average:
        meant = "sum"
    old = {"size_average": size_average, "reduce": reduce}
    written = " with ".join(f"{name}={value}" for name, value in old.items() if value is not None)
    overrides = f", overriding reduction={reduction!r}" if reduction not in ("mean", meant) else ""
    warnings.warn(
        f"{written} is deprecated: it means reduction={meant!r}{overrides}; write that instead",
        FutureWarning,
        stacklevel=3,  # whoever builds the loss
    )
    return meant
