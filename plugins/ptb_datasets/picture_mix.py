"""Mixes pictures of classes: mixup and cutmix, with partners from the whole training split."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from ptb import SampleGenerator
from ptb_datasets.picture_cache import in_threads

# Of Marsaglia and Tsang's method, each of which fails for fewer than one in twenty: all of them for one in 10**10.
TRIES = 8


@dataclass(frozen=True)
class Mix:
    """Mixes each picture with another one of the training split, chosen by the generator of the sample.

    So a picture has the same partner in whatever batch it is. Partners in memory are looked up; others are read and
    decoded, in the process that trains, which costs as much as reading the batch.

    Args:
        train: the training split: uint8 pictures and their classes.
        transform: of the data set.
        classes: how many there are.
        mixup: a of Beta(a, a), whose number l weighs pictures and targets by l and 1 - l (Zhang et al., 2017,
            arXiv:1710.09412).
        cutmix: a of Beta(a, a), whose number is the share of the picture that is left when a box of the partner is put
            into it, anywhere (Yun et al., 2019, arXiv:1905.04899). With ``mixup``, either for half of the samples.
    """

    train: Dataset[Any]
    transform: Callable[[Tensor], Tensor]
    classes: int
    mixup: float | None = None
    cutmix: float | None = None

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        generator: SampleGenerator,
        alone: Callable[[Tensor, SampleGenerator], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Float32 ``[B, C, H, W]`` and ``[B, classes]`` of rows that sum to 1.

        Args:
            inputs: normalised pictures ``[B, C, H, W]``.
            targets: int64 ``[B]``.
            generator: of the samples.
            alone: what is done to each picture by itself, and so to the partners too.
        """
        size = len(self.train)  # type: ignore[arg-type]  # map-style: it has a length
        chosen = generator.integers(0, size, 1).flatten()
        pictures, labels = self._partners(chosen.cpu())
        partners = alone(self.transform(pictures.to(inputs.device)), generator)
        first = F.one_hot(targets, self.classes).float()
        second = F.one_hot(labels.to(targets.device), self.classes).float()
        mixed: list[tuple[Tensor, Tensor]] = []  # pictures, and the share of the first, [B, 1, 1, 1]
        if self.mixup is not None:
            share = beta(self.mixup, generator)
            mixed.append((inputs * share + partners * (1 - share), share))
        if self.cutmix is not None:
            mixed.append(_cut(inputs, partners, beta(self.cutmix, generator), generator))
        made, share = mixed[0]
        if len(mixed) == 2:
            either = generator.uniform(1, 1, 1) < 0.5
            made, share = torch.where(either, made, mixed[1][0]), torch.where(either, share, mixed[1][1])
        share = share.view(-1, 1)
        return made, first * share + second * (1 - share)

    def _partners(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Uint8 pictures and int64 classes of samples of the training split."""
        if isinstance(self.train, Subset) and isinstance(self.train.dataset, TensorDataset):
            rows = torch.as_tensor(self.train.indices)[chosen]
            pictures, labels = self.train.dataset.tensors
            return pictures[rows], labels[rows]
        read = list(in_threads(self.train.__getitem__, chosen.tolist()))
        return torch.stack([picture for picture, _ in read]), torch.tensor([int(label) for _, label in read])


def beta(a: float, generator: SampleGenerator) -> Tensor:
    """Float32 ``[B, 1, 1, 1]`` from Beta(a, a): G / (G + H) of two gamma numbers, by their logarithms."""
    return torch.sigmoid(_log_gamma(a, generator) - _log_gamma(a, generator))


def _log_gamma(a: float, generator: SampleGenerator) -> Tensor:
    """Logarithms of numbers from Gamma(a), ``[B, 1, 1, 1]``, with as many random numbers for each sample.

    Marsaglia and Tsang, 2000, doi:10.1145/358407.358414; for a < 1 through a + 1.
    """
    d = (a + 1 if a < 1 else a) - 1 / 3
    normal, uniform = generator.normal(TRIES), generator.uniform(TRIES)  # [B, TRIES]
    cube = (1 + normal / (9 * d) ** 0.5) ** 3
    safe = cube.clamp(min=1e-30)
    accepted = (cube > 0) & (torch.log(1 - uniform) < normal**2 / 2 + d * (1 - cube + safe.log()))
    first = accepted.int().argmax(1, keepdim=True)  # the first of equals
    logarithm: Tensor = (d * safe.gather(1, first)).log()
    if a < 1:
        logarithm = logarithm + torch.log1p(-generator.uniform(1)) / a
    return logarithm.view(-1, 1, 1, 1)


def _cut(inputs: Tensor, partners: Tensor, share: Tensor, generator: SampleGenerator) -> tuple[Tensor, Tensor]:
    """Puts boxes of the partners into pictures; the share of what is left is counted in pixels."""
    height, width = inputs.shape[-2:]
    side = (1 - share).sqrt()
    middle = generator.uniform(2, 1, 1)  # [B, 2, 1, 1]
    bounds = []
    for place, length in enumerate((height, width)):
        centre, half = middle[:, place : place + 1] * length, side * length / 2
        bounds.append(((centre - half).round().clamp(0, length), (centre + half).round().clamp(0, length)))
    (top, bottom), (left, right) = bounds
    rows = torch.arange(height, device=inputs.device)[:, None]
    columns = torch.arange(width, device=inputs.device)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return torch.where(inside, partners, inputs), kept
