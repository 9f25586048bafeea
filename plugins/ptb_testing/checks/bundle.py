"""What checks of a data set look at: its bundle, and batches of it."""

import torch
from torch import Tensor

from ptb import DataBundle
from ptb.internals import BatchLoader, make_sources
from ptb_testing.case import Case
from ptb_testing.outcome import CheckFailed
from ptb_testing.trial import CPU

SAMPLES = 8
MANY = 10_000


def bundle_of(case: Case) -> DataBundle:
    """The data set, built.

    Raises:
        CheckFailed: it is something else.
    """
    bundle = case.build()
    if not isinstance(bundle, DataBundle):
        raise CheckFailed(f"it gives a {type(bundle).__name__}; the core needs a ptb.DataBundle")
    return bundle


def loaders_of(bundle: DataBundle) -> dict[str, BatchLoader]:
    """Batches of each split, read in this process."""
    sources = make_sources(bundle.splits, CPU, num_workers=0, collate=bundle.collate)
    return {
        name: BatchLoader(source, batch_size=SAMPLES, transform=bundle.transform) for name, source in sources.items()
    }


def places_of(loader: BatchLoader) -> Tensor:
    """Some samples from the beginning, the middle and the end; the first ones of a stream."""
    size = loader.size
    wanted = set(range(4)) if loader.source.is_stream else {0, 1, size // 2, size - 2, size - 1}
    return torch.tensor(sorted(wanted & set(range(size))))
