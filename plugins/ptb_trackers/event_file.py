"""TensorBoard event files: records that are added to one file, which a crash may have cut off.

A record is its length (uint64), the masked CRC-32C of these bytes, the data, and their masked CRC-32C; all numbers are
little-endian. Source: tensorboard/summary/writer/record_writer.py. The library's own ``EventFileWriter`` puts the name
of the host into that of the file, begins a new file each time, and raises errors of its thread at the next call only.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter

HEAD, CRC = 12, 4  # bytes
FIRST = "brain.Event:2"  # the version that the first event of a file has


def read_events(stream: BinaryIO) -> Iterator[tuple[Any, int]]:
    """The events of a file up to the first that is damaged, each with the offset of its end."""
    size = os.fstat(stream.fileno()).st_size
    while len(head := stream.read(HEAD)) == HEAD:
        (length,), (crc,) = struct.unpack("<Q", head[:8]), struct.unpack("<I", head[8:])
        if crc != masked_crc32c(head[:8]) or length > size:
            return
        data, tail = stream.read(length), stream.read(CRC)
        if len(tail) < CRC or struct.unpack("<I", tail)[0] != masked_crc32c(data):
            return
        yield Event.FromString(data), stream.tell()


class EventFile:
    """One file of events, to which one process at a time adds.

    Attributes:
        written: pairs of tag and step that it has.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written: set[tuple[str, int]] = set()
        self._stream = open(path, "a+b")  # noqa: SIM115  # closed by close
        end = 0
        try:
            self._stream.seek(0)
            for event, end in read_events(self._stream):  # noqa: B007  # the last end counts
                self.written |= {(value.tag, event.step) for value in event.summary.value}
            self._stream.truncate(end)  # what a crash has cut off
            self._records = RecordWriter(self._stream)
            if end == 0:
                self._records.write(Event(file_version=FIRST).SerializeToString())
        except BaseException:
            self.close()
            raise

    def add(self, event: Any) -> None:
        """Add an event, but for the values that are there already."""
        new = [value for value in event.summary.value if (value.tag, event.step) not in self.written]
        if new:
            event.ClearField("summary")
            event.summary.value.extend(new)
            self._records.write(event.SerializeToString())
            self.written |= {(value.tag, event.step) for value in new}

    def flush(self) -> None:
        """Hand it to the system, and wait for the disk; raises OSError where it is full."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
