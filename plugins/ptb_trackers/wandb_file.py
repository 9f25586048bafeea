"""Reads the files that wandb writes: which steps of a run are in them.

A file is a LevelDB log: a head of 7 bytes (``:W&B``, a magic number, a version), then blocks of 32 KiB that hold pieces
of records. A piece is its CRC-32 (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last), and its data.
Source: wandb's ``sdk/internal/datastore.py`` and LevelDB's ``log_format.md``.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEAD, PIECE_HEAD = 1 << 15, 7, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path: Path) -> Iterator[Any]:
    """The records of a file, up to where it was cut off."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    data, offset, parts = path.read_bytes(), HEAD, b""
    while offset + PIECE_HEAD <= len(data):
        left = BLOCK - offset % BLOCK
        if left < PIECE_HEAD:  # the rest of a block is padding
            offset += left
            continue
        length, kind = struct.unpack("<HB", data[offset + 4 : offset + PIECE_HEAD])
        offset += PIECE_HEAD
        if offset + length > len(data) or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            return
        parts = data[offset : offset + length] if kind in (WHOLE, FIRST) else parts + data[offset : offset + length]
        offset += length
        if kind in (WHOLE, LAST):
            yield messages.Record.FromString(parts)


def read_history(path: Path) -> dict[int, dict[str, Any]]:
    """The figures of each step in a file."""
    history: dict[int, dict[str, Any]] = {}
    for record in read_records(path):
        if record.HasField("history"):
            step = history.setdefault(record.history.step.num, {})
            step |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
    return history
