"""Files that survive a power cut: written whole or not at all, flushed to the disk, locked.

Every call to the disk is spelled ``os.name(...)``, so that a test can replace functions of ``os``: to record the calls,
or to let one of them fail. Imports no torch.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ptb.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PIECE = 1 << 23  # bytes read at once
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path``, text as UTF-8: all of it or nothing, even if the machine stops in between.

    The content goes to a temporary file beside ``path``, is flushed to the disk, read back, compared and renamed.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with storage_errors(path, len(data)):
        try:
            with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
                _write_all(descriptor, data)
                _flush(descriptor)
            if not _holds(temporary, data):
                raise OSError(errno.EIO, "what is read back is not what was written")
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def append(path: Path, text: str) -> None:
    """Add to the end of a file, created if missing; ``sync_file`` brings it to the disk."""
    data = text.encode(errors="backslashreplace")  # a file name in it may not be UTF-8
    with storage_errors(path, len(data)), _opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
        _write_all(descriptor, data)


def sync_file(path: Path) -> None:
    """Wait until a file and its name are on the disk, or raise ``StorageError``."""
    with storage_errors(path):
        with _opened(path, os.O_WRONLY) as descriptor:
            _flush(descriptor)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can do that."""
    if os.name == "nt":  # Windows cannot open a folder; it logs the rename itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def read(path: Path, limit: int = sys.maxsize) -> bytes:
    """The bytes of a file, or the first ``limit`` of them; a pipe or a device is refused, because it may never end."""
    return b"".join(_pieces(path, limit))


def make_folders(path: Path) -> None:
    """Create a folder and those above it, and wait until they are on the disk."""
    if not path.is_dir():
        make_folders(path.parent)
        path.mkdir(exist_ok=True)  # another run may have created it since
        sync_folder(path.parent)


def is_temporary(name: str) -> bool:
    """Whether ``write_atomically`` uses such a name."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path) -> None:
    """Delete what killed writers have left; call it only where nobody else writes."""
    for name in os.listdir(folder):
        if is_temporary(name):
            os.unlink(folder / name)


@contextmanager
def storage_errors(path: Path, size: int | None = None, verb: str = "write") -> Iterator[None]:
    """Turn an ``OSError`` into a ``StorageError`` that names the file, and the bytes that were to be written."""
    try:
        yield
    except OSError as error:
        amount = "" if size is None else f" ({size:,} bytes)"
        free = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            with suppress(OSError):
                free = f"; {shutil.disk_usage(path.parent).free:,} bytes are free there"
        raise StorageError(f"cannot {verb} {path}{amount}: {error.strerror or error}{free}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs. The system frees it when the process ends, in whatever way."""
    if fcntl is None:
        yield
        return
    with storage_errors(path):
        descriptor = _lock(path)
    try:
        yield
    finally:  # whatever fails here, the lock is free
        with suppress(OSError):
            os.unlink(path)
        with suppress(OSError):
            os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take_lock(descriptor, path)
            with suppress(FileNotFoundError):  # whoever had it may have removed the file since it was opened
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take_lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise StorageError(
                f"another process writes the run {path.parent}; wait for it, or end it, and try again"
            ) from error
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system without locks
            raise


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """The descriptor of a regular file while the block runs."""
    # O_NONBLOCK: a pipe would wait for its other end. O_BINARY: Windows would change line ends.
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def _pieces(path: Path, limit: int = sys.maxsize) -> Iterator[bytes]:
    with _opened(path, os.O_RDONLY) as descriptor:
        while piece := os.read(descriptor, min(limit, PIECE)):
            yield piece
            limit -= len(piece)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest)  # the system may take fewer bytes than there are
        if not written:
            raise OSError(errno.EIO, "the system takes no more bytes")
        rest = rest[written:]


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync leaves the data in the cache of the drive
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file has this content; it is read in pieces, so a large one is not in memory twice."""
    whole, end = memoryview(data), 0
    for piece in _pieces(path):
        start, end = end, end + len(piece)
        if piece != whole[start:end]:
            return False
    return end == len(data)
