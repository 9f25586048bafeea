"""Fetches one file whose size and SHA-256 are known, or leaves everything as it was."""

import hashlib
import http.client
import secrets
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from ptb import DataError

CHUNK = 1 << 16
STALL_SECONDS = 30.0  # without a byte
TOTAL_SECONDS = 1800.0
USER_AGENT = "ptb (pytorch-basics)"


class RefusedRedirect(urllib.error.URLError):
    """A redirect to anything but https."""


class OnlyToHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and no others."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request; see ``urllib.request.HTTPRedirectHandler``."""
        if not _is_https(newurl):
            raise RefusedRedirect(f"it redirects to {newurl}, and only https is followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(
    url: str,
    sha256: str,
    size: int,
    path: Path,
    opener: urllib.request.OpenerDirector | None = None,
    stall_seconds: float = STALL_SECONDS,
    total_seconds: float = TOTAL_SECONDS,
) -> None:
    """Puts the file behind ``url`` at ``path``, if it is the one that is expected.

    It is written beside ``path`` under a name of its own, checked, and moved there in one step: ``path`` is at every
    moment what it was before or the whole, right file. No more than ``size`` + 1 bytes are read.

    Args:
        url: https only, unless an opener is given.
        sha256: of the file, in hexadecimal.
        size: of the file in bytes.
        path: where it goes; its folder is made.
        opener: what opens the address; left out, one that knows https and nothing else.
        stall_seconds: the longest wait for the next bytes.
        total_seconds: the longest wait for the whole file.

    Raises:
        DataError: there is no network, the server refuses or redirects away from https, or what came is not the file,
            or it cannot be written. Nothing is left behind.
    """
    if opener is None and not _is_https(url):
        raise DataError(f"will not download {url}: only https addresses are used")
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
    try:
        with (opener or https_opener()).open(request, timeout=stall_seconds) as response, _place(path) as target:
            _copy(url, response, target, sha256, size, time.monotonic() + total_seconds)
    except urllib.error.HTTPError as error:
        with error:
            raise DataError(f"cannot download {url}: the server answers {error.code} {error.reason}") from error
    except TimeoutError as error:
        _no_network(url, f"no answer within {stall_seconds:g} seconds", error)
    except RefusedRedirect as error:
        raise DataError(f"will not download {url}: {error.reason}") from error
    except urllib.error.URLError as error:
        _no_network(url, str(error.reason), error)
    except http.client.HTTPException as error:
        raise DataError(f"cannot download {url}: the answer is damaged: {error!r}") from error
    except (ConnectionError, ssl.SSLError) as error:
        _no_network(url, str(error), error)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def https_opener() -> urllib.request.OpenerDirector:
    """An opener that speaks https and nothing else, through the proxy of the environment if there is one."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        OnlyToHttps(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def _place(path: Path) -> Iterator[IO[bytes]]:
    """A file that becomes ``path`` when the block ends well, and disappears when it does not."""
    made = _make_folder(path.parent)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as stream:
            yield stream
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()  # only if nobody has put anything there
        raise


def _make_folder(folder: Path) -> list[Path]:
    """Makes ``folder``, and gives the folders that were made for it, the innermost first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _copy(url: str, response: Any, target: IO[bytes], sha256: str, size: int, deadline: float) -> None:
    digest, received = hashlib.sha256(), 0
    while chunk := response.read1(min(CHUNK, size + 1 - received)):
        received += len(chunk)
        if received > size:
            raise DataError(f"{url} gives more than the {size:,} bytes that are expected; nothing was kept")
        if time.monotonic() > deadline:
            raise DataError(f"{url} is too slow: {received:,} of {size:,} bytes in the time allowed; nothing was kept")
        digest.update(chunk)
        target.write(chunk)
    target.flush()
    if received < size:
        raise DataError(f"{url} ended after {received:,} of {size:,} bytes; nothing was kept: try again")
    if digest.hexdigest() != sha256:
        raise DataError(
            f"{url} is not the file that is expected: its SHA-256 is {digest.hexdigest()}, expected {sha256}; "
            "nothing was kept"
        )


def _is_https(url: str) -> bool:
    return url.lower().startswith("https://")


def _no_network(url: str, reason: str, error: Exception) -> NoReturn:
    raise DataError(f"cannot download {url}: {reason}; is there a network?") from error
