import errno
import hashlib
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ptb import DataError
from ptb_datasets.download import OnlyToHttps, fetch, https_opener

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MIB = 1 << 20


class Server(ThreadingHTTPServer):
    daemon_threads = True
    sent = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        getattr(self, self.path.strip("/").replace("-", "_"))()

    def answer(self, content, length=None, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def good(self):
        self.answer(CONTENT)

    def wrong(self):
        self.answer(CONTENT[:-1] + b"!")

    def short(self):
        self.answer(CONTENT[:-1])

    def cut(self):
        self.answer(CONTENT[:1000], length=len(CONTENT))

    def empty(self):
        self.answer(b"")

    def one_more(self):
        self.answer(CONTENT + b"!")

    def endless(self):
        self.send_response(200)
        self.end_headers()
        try:
            while self.server.sent < 512 * MIB:
                self.server.sent += self.wfile.write(CONTENT)
        except OSError:
            pass

    def missing(self):
        self.answer(b"not here", status=404)

    def broken(self):
        self.answer(b"", status=503)

    def noise(self):
        self.wfile.write(b"\x00\x01\x02 no http at all\r\n\r\n")

    def hangs_up(self):
        self.wfile.close()

    def silent(self):
        time.sleep(1)

    def stalls(self):
        self.answer(CONTENT[:1000], length=len(CONTENT))
        self.wfile.flush()
        time.sleep(1)

    def drips(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        try:
            for start in range(100):
                self.wfile.write(CONTENT[start : start + 1])
                time.sleep(0.05)
        except OSError:
            pass

    def to(self, address):
        self.send_response(302)
        self.send_header("Location", address)
        self.end_headers()

    def to_http(self):
        self.to(f"http://127.0.0.1:{self.server.server_port}/good")

    def to_file(self):
        self.to("file:///etc/hostname")

    def to_ftp(self):
        self.to("ftp://127.0.0.1/good")

    def to_https(self):
        self.to("https://127.0.0.1:1/good")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def get(server, tmp_path):
    """Fetches a page of the server, over plain http because the opener is the test's own."""

    def run(page, path=tmp_path / "new" / "folder" / "file", **options):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), OnlyToHttps())
        fetch(f"http://127.0.0.1:{server.server_port}/{page}", SHA256, len(CONTENT), path, opener=opener, **options)
        return path

    return run


def files_under(folder):
    return sorted(path for path in Path(folder).rglob("*"))


def test_the_right_file_arrives_and_nothing_else(get):
    path = get("good")
    assert path.read_bytes() == CONTENT
    assert files_under(path.parent) == [path]


FAULTS = {
    "wrong": "is not the file that is expected: its SHA-256 is [0-9a-f]{64}, expected " + SHA256,
    "short": r"ended after 255,999 of 256,000 bytes",
    "cut": r"ended after 1,000 of 256,000 bytes",
    "empty": r"ended after 0 of 256,000 bytes",
    "one-more": "gives more than the 256,000 bytes",
    "missing": "the server answers 404",
    "broken": "the server answers 503",
    "noise": "cannot download",
    "hangs-up": "cannot download",
    "to-http": r"redirects to http://127.0.0.1:\d+/good, and only https is followed",
    "to-file": "Redirection to url 'file:///etc/hostname' is not allowed",
    "to-ftp": "redirects to ftp://127.0.0.1/good, and only https is followed",
    "to-https": "https|refused|SSL|network",
}


@pytest.mark.parametrize(("page", "message"), FAULTS.items(), ids=FAULTS)
def test_what_goes_wrong_is_told_and_leaves_nothing_behind(get, tmp_path, page, message):
    with pytest.raises(DataError, match=message):
        get(page)
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("page", ["wrong", "short", "one-more", "missing", "to-http"])
def test_a_good_file_is_never_replaced_by_a_bad_one(get, tmp_path, page):
    path = tmp_path / "file"
    path.write_bytes(b"as it was")
    with pytest.raises(DataError):
        get(page, path)
    assert path.read_bytes() == b"as it was"
    assert files_under(tmp_path) == [path]


def test_no_more_than_the_size_is_read(get, server):
    with pytest.raises(DataError, match="more than the 256,000 bytes"):
        get("endless")
    assert server.sent < 64 * MIB  # what fits into the buffers of the two sockets


@pytest.mark.parametrize("page", ["silent", "stalls"])
def test_a_server_that_falls_silent_is_given_up(get, tmp_path, page):
    with pytest.raises(DataError, match=r"no answer within 0\.2 seconds"):
        get(page, stall_seconds=0.2)
    assert files_under(tmp_path) == []


def test_a_server_that_drips_is_given_up(get, tmp_path):
    with pytest.raises(DataError, match="too slow"):
        get("drips", total_seconds=0.2)
    assert files_under(tmp_path) == []


def test_no_network_is_told(tmp_path):
    with pytest.raises(DataError, match=r"cannot download https://127\.0\.0\.1:1/file: .*; is there a network\?"):
        fetch("https://127.0.0.1:1/file", SHA256, 1, tmp_path / "file", opener=None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/file", "ftp://127.0.0.1/file", "file:///etc/hostname", "file"])
def test_only_https_is_asked(tmp_path, url):
    with pytest.raises(DataError, match="only https addresses are used"):
        fetch(url, SHA256, 1, tmp_path / "file")


@pytest.mark.parametrize("scheme", ["http", "ftp", "file", "data"])
def test_the_opener_of_a_run_knows_no_other_scheme(scheme):
    with pytest.raises(urllib.error.URLError, match=f"unknown url type: {scheme}"):
        https_opener().open(f"{scheme}://127.0.0.1/")


def test_a_disk_that_is_full_is_told_and_left_clean(get, tmp_path, monkeypatch):
    opened = Path.open

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda path, mode: Full(opened(path, mode)))
    with pytest.raises(DataError, match=r"cannot write .*file: No space left on device"):
        get("good")
    monkeypatch.undo()
    assert files_under(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no resource limits on Windows")
def test_a_limit_on_file_sizes_is_told_and_left_clean(server, tmp_path):
    code = (
        "import resource, urllib.request\nfrom pathlib import Path\nfrom ptb_datasets.download import fetch\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"fetch('http://127.0.0.1:{server.server_port}/good', '{SHA256}', {len(CONTENT)}, Path('file'), "
        "opener=urllib.request.build_opener(urllib.request.ProxyHandler({})))"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "DataError: cannot write file: File too large" in done.stderr
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("what", ["a-file-where-the-folder-belongs", "a-folder-where-the-file-belongs"])
def test_a_place_that_is_taken_is_told(get, tmp_path, what):
    place = tmp_path / "place"
    if what.startswith("a-file"):
        place.write_text("mine")
        path = place / "file"
    else:
        path = place
        (place / "mine").mkdir(parents=True)
    before = files_under(tmp_path)
    with pytest.raises(DataError, match="cannot write"):
        get("good", path)
    assert files_under(tmp_path) == before


class Response:
    """An answer that gives as many zeros as it is asked for, and counts them."""

    given = 0

    def read1(self, count):
        self.given += count
        return bytes(count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Opener(urllib.request.OpenerDirector):
    def __init__(self, response):
        super().__init__()
        self.response = response

    def open(self, *_, **__):
        return self.response


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_one_byte_more_than_the_size_is_read_and_no_more(tmp_path, size):
    response = Response()
    with pytest.raises(DataError, match="gives more than"):
        fetch("https://127.0.0.1/file", SHA256, size, tmp_path / "file", opener=Opener(response))
    assert response.given == size + 1


def test_a_run_that_is_stopped_leaves_nothing_behind(tmp_path):
    class Stopped(Response):
        def read1(self, _):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("https://127.0.0.1/file", SHA256, 1, tmp_path / "folder" / "file", opener=Opener(Stopped()))
    assert files_under(tmp_path) == []
