"""A page as one HTML file: the template filled in, the charts' data and ECharts packed into it."""

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ptb_report import about
from ptb_report.blocks import Page
from ptb_report.words import Words

LONG_TEXT = 80  # characters from which a text in a cell is cut after three lines, and
LONG_NAME = 12  # characters from which a name in a head is cut, with the whole of it in its title


def rendered(page: Page, words: Words, live: float = 0) -> str:
    """The file. It loads nothing from anywhere: its policy forbids that, and any script but its own two.

    ``live`` is after how many seconds it loads itself anew; 0 never.
    """
    payload = json.dumps({"charts": page.charts, "samples": page.samples}, ensure_ascii=False, separators=(",", ":"))
    script, echarts = _text("page.js"), _echarts()
    scripts = (script, gzip.decompress(echarts).decode())
    status = words(page.status) if page.status in about.STATUSES else page.status
    return str(
        _template().render(
            page=page,
            words=words,
            status=status,
            live=live,
            hashes=Markup(" ".join(f"'sha256-{_sha256(text)}'" for text in scripts)),
            style=Markup(_text("page.css")),
            script=Markup(script),
            payload=_packed(payload),
            echarts=base64.b64encode(echarts).decode(),
        )
    )


def shown(value: Any) -> Markup:
    """A value of a table: numbers short, with all of their digits for those who point at them or copy the page."""
    if value is None or value == "":
        return Markup("-" if value is None else "")
    if isinstance(value, float):
        whole = repr(value)
        return Markup('<data value="{0}" title="{0}">{1}</data>').format(whole, _short(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Markup('<data value="{}">{}</data>').format(value, f"{value:,}")
    text = str(value)
    if len(text) < LONG_TEXT:
        return Markup("<bdi>{}</bdi>").format(text)
    return Markup('<bdi class="long" title="{0}">{0}</bdi>').format(text)


def name(value: Any) -> Markup:
    """A name in a head, cut where it is long."""
    text = str(value)
    if len(text) < LONG_NAME:
        return Markup("<bdi>{}</bdi>").format(text)
    return Markup('<bdi class="clip" title="{0}">{0}</bdi>').format(text)


def _short(value: float) -> str:
    """Four digits, so that figures of one column can be compared."""
    return f"{value:#.4g}".rstrip(".") if 1e-3 <= abs(value) < 1e5 else f"{value:z.4g}"


def _packed(text: str) -> str:
    """Compressed, the same bytes for the same text."""
    return base64.b64encode(gzip.compress(text.encode(errors="replace"), 9, mtime=0)).decode()


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, trim_blocks=False)
    environment.filters |= {"shown": shown, "name": name}
    return environment.from_string(_text("page.html"))


@cache
def _text(file: str) -> str:
    return files("ptb_report").joinpath("data", file).read_text(encoding="utf-8")


@cache
def _echarts() -> bytes:
    """The charts' library as it is shipped: compressed."""
    return files("ptb_report").joinpath("data/echarts.min.js.gz").read_bytes()
