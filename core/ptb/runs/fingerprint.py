"""Recognises the data that a run was trained on."""

import hashlib
from collections.abc import Mapping, Sized
from typing import Any, cast

import torch
from torch.utils.data import Dataset

from ptb.data.samples import read_batch
from ptb.data.sources import InMemorySamples
from ptb.storage.digest import update_bytes, update_digest, update_header

FINGERPRINT_SAMPLES = 64
# Of more than that a part is looked at: to read it all would cost more than a short training.
SCAN_BYTES = 1 << 30
# Samples that are read at once where all are read and none is kept.
CHUNK = 4096


def fingerprint(splits: Mapping[str, Dataset[Any]]) -> str:
    """Returns a SHA-256 of the data.

    It covers every byte of a split that is in memory and has at most 1 GiB, else sizes and 64 evenly spaced samples.
    """
    digest = hashlib.sha256()
    for name, split in splits.items():
        size = len(cast(Sized, split))
        digest.update(f"{name}\0{size}\0".encode())
        held = InMemorySamples.of(split)
        if held is not None and size and held.nbytes <= SCAN_BYTES:
            for tensor in (held.inputs, held.targets):
                update_header(digest, tensor.dtype, (size, *tensor.shape[1:]))
                for start in range(0, size, CHUNK):
                    stop = min(start + CHUNK, size)
                    chunk = tensor[start:stop] if held.rows is None else tensor[held.rows[start:stop]]
                    update_bytes(digest, chunk)
        elif size:
            chosen = torch.arange(0, size, max(size // FINGERPRINT_SAMPLES, 1))
            some = held.take(chosen) if held else read_batch(split, name, None, chosen.tolist())
            for tensor in some:
                update_digest(digest, tensor)
    return digest.hexdigest()
