"""Recognises the data that a run was trained on."""

import hashlib
from collections.abc import Mapping, Sized
from typing import Any, cast

import torch
from torch.utils.data import Dataset

from ptb.data.samples import read_batch
from ptb.data.sources import InMemorySamples
from ptb.storage.digest import update_digest

FINGERPRINT_SAMPLES = 64
# Of more than that a part is looked at: to read it all would cost more than a short training.
SCAN_BYTES = 1 << 30
CHUNK = 4096


def fingerprint(splits: Mapping[str, Dataset[Any]]) -> str:
    """A SHA-256 of each split: of every byte in memory up to 1 GiB, else of its size and 64 evenly spaced samples."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        size = len(cast(Sized, split))
        digest.update(f"{name}\0{size}\0".encode())
        held = InMemorySamples.of(split)
        is_read_whole = held is not None and held.nbytes <= SCAN_BYTES
        chosen = torch.arange(0, size, 1 if is_read_whole else max(size // FINGERPRINT_SAMPLES, 1))
        for indices in torch.split(chosen, CHUNK) if size else ():
            batch = held.take(indices) if held else read_batch(split, name, None, indices.tolist())
            for tensor in batch:
                update_digest(digest, tensor)
    return digest.hexdigest()
