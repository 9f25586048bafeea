"""Decodes all pictures of a folder at once: into memory, or into a file that later runs map and do not decode again."""

import hashlib
import json
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from math import prod
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np
import platformdirs

from ptb import StorageError
from ptb_datasets.mapped import expect_random_reads
from ptb_datasets.npy import BadNpy, map_npy
from ptb_datasets.picture_file import UNREADABLE, BadPicture, Facts, Form, inspect_picture, opencv, read_bytes
from ptb_datasets.picture_warnings import Seen

S = TypeVar("S")
T = TypeVar("T")
FORMAT = 2  # of the files below; also to be raised when pictures of the same files come out otherwise
MOST_THREADS = 8
AT_ONCE = 16  # pictures of one task
TASKS_AHEAD = 4  # of each thread
LEFT_BEHIND = 24 * 3600  # seconds after which an unfinished file belongs to no process any more


class Decoded(NamedTuple):
    """Pictures in the order of their files, and why some rows of them are 0: no good.

    Args:
        pixels: uint8 ``[N, C, H, W]``; None where they are not kept.
        refused: the reasons by rows.
        seen: what the pixels do not show.
    """

    pixels: np.ndarray | None
    refused: dict[int, str]
    seen: Seen


def keep(paths: Sequence[str], form: Form, pixels: np.ndarray | None) -> Decoded:
    """Decodes the pictures into memory, or only looks at them where ``pixels`` is None."""
    refused: dict[int, str] = {}
    seen = Seen()
    for row, picture in enumerate(decoded(paths, form)):
        if isinstance(picture, str):
            refused[row] = picture
            continue
        seen.add(paths[row], picture[1])
        if pixels is not None:
            pixels[row] = picture[0]
    return Decoded(pixels, refused, seen)


def cached(top: Path, paths: Sequence[str], form: Form) -> Decoded:
    """The pictures mapped from a file in ``cache_folder()``, which is made where it is not there or is damaged.

    Its name is a hash of whatever the pixels depend on, files by their names, sizes and times of change. Its header and
    its length are checked, and not its pixels.

    Args:
        top: the folder that all ``paths`` are in.
        paths: at least one.
        form: of the pictures.

    Raises:
        StorageError: the file cannot be written.
    """
    start = len(str(top)) + 1
    names = [path[start:].replace(os.sep, "/") for path in paths]
    file = cache_folder() / f"{_fingerprint(paths, names, form)}.npy"
    try:
        return _load(file, paths, names, form)
    except (BadNpy, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass  # none there, or a damaged one
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(file.parent)
        refused, seen = _write(file, paths, names, form)
        pixels = map_npy(file)
    except (BadNpy, OSError) as error:
        raise StorageError(
            f"cannot keep the decoded pictures in {file}: {error}; make room there, or leave dataset.cache out"
        ) from error
    expect_random_reads(pixels)
    return Decoded(pixels, refused, seen)


def cache_folder() -> Path:
    """Where decoded pictures are kept; files stay there until someone deletes them."""
    return platformdirs.user_cache_path("ptb") / "image-folder"


def decoded(paths: Sequence[str], form: Form) -> Iterator[tuple[np.ndarray, Facts] | str]:
    """The pictures in order, uint8 ``[C, H, W]``, decoded by a pool of threads; for one that is no good, the reason."""
    opencv(form.max_pixels)

    def read(path: str) -> tuple[np.ndarray, Facts] | str:
        try:
            return inspect_picture(path, form)
        except BadPicture as error:
            return str(error)

    return in_threads(read, paths)


def in_threads(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """What ``work`` makes of each item, in order; OpenCV decodes without holding the interpreter."""
    threads = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_THREADS
    )
    rest = iter(items)
    tasks: deque[Future[list[T]]] = deque()
    with ThreadPoolExecutor(threads, "ptb-decode") as pool:
        try:
            while some := [*islice(rest, AT_ONCE)]:
                tasks.append(pool.submit(lambda some: [work(each) for each in some], some))
                if len(tasks) > threads * TASKS_AHEAD:
                    yield from tasks.popleft().result()
            while tasks:
                yield from tasks.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _fingerprint(paths: Sequence[str], names: Sequence[str], form: Form) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, opencv(form.max_pixels).__version__, *form]).encode())
    for path, name in zip(paths, names, strict=True):
        try:
            status = os.stat(path)
            # Size and time may be those of another picture; its number and when it was put there are its own.
            seen = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        except OSError:
            seen = (-1, -1, -1, -1)
        digest.update(json.dumps([name, *seen]).encode())
    return digest.hexdigest()


def _load(file: Path, paths: Sequence[str], names: Sequence[str], form: Form) -> Decoded:
    """Raises all sorts of errors where there is no whole cache."""
    pixels = map_npy(file)
    if pixels.dtype != np.uint8 or pixels.shape != (len(paths), *form.shape):
        raise ValueError(f"{file} holds {pixels.dtype} {pixels.shape}")
    rows = {name: row for row, name in enumerate(names)}
    beside = json.loads(file.with_suffix(".json").read_text())
    reasons, seen = beside["refused"], Seen(**beside["seen"])
    refused = {rows[name]: str(reason) for name, reason in reasons.items()}
    for row, reason in refused.items():
        # A permission that was given since leaves no trace in size and time.
        if reason.startswith(UNREADABLE) and _readable(paths[row], form):
            raise ValueError(f"{paths[row]} can be read now")
    expect_random_reads(pixels)
    return Decoded(pixels, refused, seen)


def _readable(path: str, form: Form) -> bool:
    try:
        read_bytes(path, form.max_pixels)
    except BadPicture as error:
        return not str(error).startswith(UNREADABLE)
    return True


def _write(file: Path, paths: Sequence[str], names: Sequence[str], form: Form) -> tuple[dict[int, str], Seen]:
    """Writes what was refused and seen, then the pixels: where these are, all is there."""
    refused: dict[int, str] = {}
    seen = Seen()
    with _replacing(file) as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *form.shape)}
        np.lib.format.write_array_header_1_0(stream, header)
        for row, picture in enumerate(decoded(paths, form)):
            if isinstance(picture, str):
                refused[row] = picture
                stream.write(bytes(prod(form.shape)))
            else:
                stream.write(picture[0].data)
                seen.add(names[row], picture[1])
        with _replacing(file.with_suffix(".json")) as beside:
            reasons = {names[row]: reason for row, reason in refused.items()}
            beside.write(json.dumps({"refused": reasons, "seen": asdict(seen)}, indent=1).encode())
    return refused, seen


@contextmanager
def _replacing(file: Path) -> Iterator[IO[bytes]]:
    """A file under another name that takes this one once it is whole and on the disk; after an error it is removed."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f"{file.name}.", suffix=".tmp", delete=False) as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            os.replace(stream.name, file)
        except BaseException:
            stream.close()
            with suppress(OSError):
                os.unlink(stream.name)
            raise


def _remove_left_behind(folder: Path) -> None:
    """What processes that were killed have left."""
    for path in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                path.unlink()
