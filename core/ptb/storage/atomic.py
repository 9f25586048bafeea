"""Every call by which ptb reads or changes a run on the disk.

Nothing else in the core touches files of a run, so whoever wants to record these calls, or to let one of them fail,
puts another function in its place here. Imports no torch.
"""

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ptb.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PIECE = 1 << 23
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def create(path: Path) -> int:
    """Opens a new file for writing, and tells its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def write(descriptor: int, data: memoryview) -> int:
    """Writes from the beginning of ``data``, and tells how many bytes; the system may take fewer than there are."""
    return os.write(descriptor, data)


def sync(descriptor: int) -> None:
    """Waits until what was written is on the disk."""
    if fcntl is not None and hasattr(fcntl, "F_FULLFSYNC"):  # macOS leaves it in the cache of the disk otherwise
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def close(descriptor: int) -> None:
    """Closes a file."""
    os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Gives a file another name in one step, in the place of the file that had it."""
    os.replace(source, target)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the file system can do that."""
    if os.name == "nt":  # Windows cannot open a folder; there the rename itself is logged
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # some network file systems cannot wait for a folder
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Deletes a file."""
    os.unlink(path)


def read(path: Path, start: int = 0, size: int = -1) -> bytes:
    """So many bytes of a file from a place on; all that there are where ``size`` is -1.

    A pipe or a device is refused: it might never end, or never begin.
    """
    with open(path, "rb", opener=_open_at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        stream.seek(start)
        return stream.read(size)


def size_of(path: Path) -> int:
    """Bytes of a file."""
    return os.stat(path).st_size


def changed_at(path: Path) -> int:
    """When a file, or the link that has its name, was changed last, in nanoseconds."""
    return os.lstat(path).st_mtime_ns


def cut(path: Path, size: int) -> None:
    """Shortens a file to so many bytes, and waits until that is on the disk."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.ftruncate(descriptor, size)
        sync(descriptor)
    finally:
        close(descriptor)


def make_folder(path: Path) -> None:
    """Makes one folder in a folder that there is."""
    os.mkdir(path)


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return os.listdir(folder)


def open_end(path: Path) -> int:
    """Opens a file for writing at its end, and makes it if there is none; a pipe or a device is refused."""
    descriptor = _open_at_once(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file")


def append(path: Path, text: str) -> None:
    """Adds to the end of a file, made if there is none; on the disk it is after ``sync_file``.

    What UTF-8 has no bytes for, as in the name of a file that is not UTF-8 itself, is written as an escape.

    Raises:
        StorageError: it cannot be written; the message names the file and how much was to be written.
    """
    data = text.encode(errors="backslashreplace")
    with told(path, len(data)):
        descriptor = open_end(path)
        try:
            _write_all(descriptor, data)
        finally:
            close(descriptor)


def sync_file(path: Path) -> None:
    """Waits until a file, and its name, are on the disk.

    Raises:
        StorageError: that cannot be had.
    """
    with told(path):
        descriptor = open_end(path)
        try:
            sync(descriptor)
        finally:
            close(descriptor)
        sync_folder(path.parent)


def make_folders(path: Path) -> None:
    """Makes a folder and those above it; they are on the disk afterwards."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            make_folder(folder)
        except FileExistsError:  # another run may have made it since
            if not folder.is_dir():
                raise
        sync_folder(folder.parent)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Puts ``content`` under ``path``, text as UTF-8: whole or not at all, also when the machine stops in between.

    It is written under a name of its own beside ``path``, waited for, read back and compared, and renamed.

    Raises:
        StorageError: it cannot be written, or not be waited for; there is then what was there before, or all of it.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with told(path, len(data)):
        try:
            descriptor = create(temporary)
            try:
                _write_all(descriptor, data)
                sync(descriptor)
            finally:
                close(descriptor)
            if not _holds(temporary, data):
                raise OSError(errno.EIO, "what is read back is not what was written")
            replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                remove(temporary)
            raise


def remove_temporaries(folder: Path) -> None:
    """Deletes what writers that were killed have left; call it only where nobody else writes."""
    for name in names(folder):
        if is_temporary(name):
            remove(folder / name)


def is_temporary(name: str) -> bool:
    """Whether ``write_atomically`` writes under such a name."""
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def told(path: Path, size: int | None = None, verb: str = "write") -> Iterator[None]:
    """Turns an ``OSError`` into a ``StorageError`` that names the file, and how much was to be written."""
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
    """Holds a lock file while the block runs; it is free again when the process ends, in whatever way.

    Raises:
        StorageError: another process holds it, or it cannot be made.
    """
    if fcntl is None:
        yield
        return
    with told(path):
        descriptor = _lock(path)
    try:
        yield
    finally:
        with suppress(OSError):
            remove(path)
        os.close(descriptor)


def _open_at_once(path: str | Path, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):  # the one who had it may just have removed the file
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(descriptor)
                raise StorageError(
                    f"another process writes the run {path.parent}; wait for it, or end it, and try again"
                ) from error
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system without locks
                return descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        written = write(descriptor, rest)
        if not written:
            raise OSError(errno.EIO, "the system takes no more bytes")
        rest = rest[written:]


def _holds(path: Path, data: bytes) -> bool:
    if size_of(path) != len(data):
        return False
    whole = memoryview(data)
    return all(read(path, start, PIECE) == whole[start : start + PIECE] for start in range(0, len(data), PIECE))
