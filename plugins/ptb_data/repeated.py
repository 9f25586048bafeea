"""Finds samples that occur twice: in two splits, or with two targets."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

from torch import Tensor

from ptb.internals import Batch, leaves

SHOWN = 3


class Repeated:
    """Remembers a hash of the inputs of every sample, and of its targets."""

    def __init__(self) -> None:
        self._seen: dict[bytes, list[tuple[str, int, bytes]]] = {}

    def add(self, split: str, numbers: Sequence[int], batch: Batch) -> None:
        """Take in a batch."""
        inputs, targets = (list(zip(*map(_rows, leaves(part)), strict=True)) for part in (batch.inputs, batch.targets))
        for place, number in enumerate(numbers):
            target = _digest(targets[place]) if targets else b""
            self._seen.setdefault(_digest(inputs[place]), []).append((split, number, target))

    def warnings(self) -> Iterator[str]:
        """One line for each two splits that share samples, and one for inputs with several targets."""
        groups = [places for places in self._seen.values() if len(places) > 1]
        shared: dict[tuple[str, str], list[str]] = {}
        for places in groups:
            first: dict[str, int] = {}
            for split, number, _ in places:
                first.setdefault(split, number)
            for one, other in pairwise(first):
                for split, number, _ in places:
                    if split == other:
                        shared.setdefault((one, other), []).append(f"{other} {number} = {one} {first[one]}")
        for (one, other), found in shared.items():
            what = "sample is" if len(found) == 1 else "samples are"
            yield (
                f"{len(found)} {what} in {one} and in {other} ({_first(found)}): the figures of {other} are "
                "better than those of new data"
            )
        torn = [places for places in groups if len({target for *_, target in places}) > 1]
        if torn:
            found = [" and ".join(f"{split} {number}" for split, number, _ in places[:2]) for places in torn]
            what = "input occurs" if len(found) == 1 else "inputs occur"
            yield f"{len(found)} {what} with different targets ({_first(found)}): no model can be right on all of them"


def _rows(tensor: Tensor) -> list[bytes]:
    array: Any = tensor.detach().contiguous().numpy()
    return [row.tobytes() for row in array]


def _digest(parts: Sequence[bytes]) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _first(found: Sequence[str]) -> str:
    return "; ".join(found[:SHOWN]) + ("; ..." if len(found) > SHOWN else "")
