"""A headless Chromium without a network, driven through its DevTools protocol over a pipe; no library is needed."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


class Tab:
    """One page. ``requests`` and ``troubles`` fill while it is open: every URL asked for, what the console has."""

    def __init__(self, out: Any, answers: Any, process: Any) -> None:
        self._out, self._answers, self._process = out, answers, process
        self._number = 0
        self.requests: list[str] = []
        self.troubles: list[str] = []
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Load a file, and wait until its script has drawn."""
        self.requests.clear()
        self.troubles.clear()
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.send("Page.navigate", {"url": path.resolve().as_uri()})
        wait = (
            "new Promise(done => { const look = () => document.body && document.body.dataset.drawn ? done(1) "
            ": setTimeout(look, 30); look(); setTimeout(() => done(0), 20000); })"
        )
        assert self.value(wait) == 1, f"the page of {path} was not drawn: {self.troubles}"

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, awaited."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = self.send("Runtime.evaluate", asked)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """A real click in the middle of an element."""
        middle = (
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2];"
        )
        box = self.value(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); {middle} }})()")
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent", {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            )

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page."""
        data = self.send("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})["data"]
        path.write_bytes(base64.b64decode(data))

    def send(self, method: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """A command to the page, and its answer."""
        return self._ask(method, values or {}, self._session)

    def _ask(self, method: str, values: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": values} | ({"sessionId": session} if session else {})
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            found = json.loads(self._message())
            if found.get("id") == self._number:
                assert "error" not in found, found["error"]
                return found["result"]
            self._note(found)

    def _message(self) -> bytes:
        piece = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            piece += byte
        return bytes(piece)

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                url = values["request"]["url"]
                if not url.startswith("data:"):  # a picture in the page itself
                    self.requests.append(url)
            case "Runtime.exceptionThrown":
                self.troubles.append(values["exceptionDetails"].get("exception", {}).get("description", "exception"))
            case "Runtime.consoleAPICalled":
                self.troubles.append(" ".join(str(each.get("value")) for each in values["args"]))
            case "Log.entryAdded":
                self.troubles.append(values["entry"]["text"])


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A tab of a browser of its own, which ends with the block."""
    to_browser, out = os.pipe()
    answers, from_browser = os.pipe()

    def place() -> None:  # the protocol is spoken over these two
        first, second = os.dup(to_browser), os.dup(from_browser)
        os.dup2(first, 3)
        os.dup2(second, 4)

    command = [str(CHROMIUM), *SWITCHES, f"--user-data-dir={profile}", "about:blank"]
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    process = subprocess.Popen(command, preexec_fn=place, close_fds=False, **quiet)
    os.close(to_browser)
    os.close(from_browser)
    try:
        with os.fdopen(out, "wb") as writing, os.fdopen(answers, "rb", buffering=1 << 20) as reading:
            yield Tab(writing, reading, process)
    finally:
        process.kill()
        process.wait(timeout=30)
