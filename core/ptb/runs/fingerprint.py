"""Recognises the data that a run was trained on."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset

from ptb.data.samples import BatchReader, Collate, split_size
from ptb.data.sources import InMemorySamples
from ptb.storage.digest import update_digest

FINGERPRINT_SAMPLES = 64
# Of more than that a part is looked at: to read it all would cost more than a short training.
SCAN_BYTES = 1 << 30
CHUNK = 4096


def fingerprint(splits: Mapping[str, Dataset[Any]], collate: Collate | None = None) -> str:
    """A SHA-256 of each split: of every byte in memory up to 1 GiB, else of its size and 64 samples."""
    digest = hashlib.sha256()
    reader = BatchReader(splits, collate)
    for name, split in splits.items():
        size = split_size(split, name)
        digest.update(f"{name}\0{size}\0".encode())
        held = None if collate else InMemorySamples.of(split)
        is_read_whole = held is not None and held.nbytes <= SCAN_BYTES
        chosen = torch.arange(0, size, 1 if is_read_whole else max(size // FINGERPRINT_SAMPLES, 1))
        if isinstance(split, IterableDataset):  # it can only be read from its beginning
            chosen = torch.arange(min(size, FINGERPRINT_SAMPLES))
        for indices in torch.split(chosen, CHUNK) if size else ():
            batch = held.take(indices) if held else reader.take(name, indices.tolist())
            for tensor in batch.tensors():
                update_digest(digest, tensor)
    return digest.hexdigest()
