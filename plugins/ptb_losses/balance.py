"""Class weights, given or from how often each class is seen in training, and a place for them on the device."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ptb import DataSpec


class DeviceNumbers:
    """Numbers as a tensor, brought to a device once.

    Args:
        numbers: at least one; None stands for all 1.
    """

    def __init__(self, numbers: Sequence[float] | None) -> None:
        self.numbers = numbers
        self._held: Tensor | None = None

    def on(self, like: Tensor) -> Tensor | None:
        """The numbers ``[n]`` on the device and in the type of ``like``; None where there are none."""
        held = self._held
        if self.numbers is not None and (held is None or held.dtype != like.dtype or held.device != like.device):
            with torch.inference_mode(False):  # made in an evaluation, it must still serve in training
                self._held = torch.tensor(self.numbers, dtype=like.dtype, device=like.device)
        return self._held


def class_weights(
    spec: DataSpec, weight: Sequence[float] | Literal["balanced"] | None, setting: str
) -> list[float] | None:
    """One number a class or label; None where every one is 1.

    Args:
        spec: of the data set.
        weight: as given; ``"balanced"`` is n / (C * n_c), with n_c samples of class c and n the sum of all n_c.
        setting: what the weights are called, for messages.

    Raises:
        ValueError: there are not as many as classes; or ``"balanced"``, and the data set does not count its classes or
            lacks one.
    """
    if weight is None:
        return None
    if isinstance(weight, str):
        counts = counts_for_balance(spec, setting)
        return [sum(counts) / (len(counts) * count) for count in counts]
    if len(weight) != spec.target_size:
        what = "labels" if spec.target == "multilabel" else "classes"
        raise ValueError(
            f"{setting} has {len(weight)} numbers for {spec.target_size} {what}; give one for each, or 'balanced'"
        )
    return [float(number) for number in weight]


def counts_for_balance(spec: DataSpec, setting: str) -> tuple[int, ...]:
    """The training samples of each class, every number above 0.

    Args:
        spec: of the data set.
        setting: what is to be balanced, for messages.

    Raises:
        ValueError: the data set does not count its classes, or has none of some class.
    """
    if not spec.class_counts:
        raise ValueError(
            f"{setting}='balanced' needs the training samples of each class, and this data set does not count them "
            f"(DataSpec.class_counts is empty); give {setting} in numbers"
        )
    missing = [number for number, count in enumerate(spec.class_counts) if count == 0]
    if missing:
        raise ValueError(
            f"{setting}='balanced' cannot balance what is not there: of the {len(spec.class_counts)} classes "
            f"{_listed(spec, missing)} no training samples; give {setting} in numbers, or another data set"
        )
    return spec.class_counts


def _listed(spec: DataSpec, missing: list[int]) -> str:
    names = [repr(spec.class_names[n]) if n < len(spec.class_names) else str(n) for n in missing[:5]]
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"{', '.join(names)}{more} {'has' if len(missing) == 1 else 'have'}"
