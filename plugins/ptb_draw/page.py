"""A chart of pyecharts as one HTML file that asks no network: ECharts itself is in it."""

import base64
import html
import importlib.resources
import re
from typing import Any

from ptb import PluginError

# Chart and page name no address. The script is unpacked by the browser; ECharts draws when it is there.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
body {{ margin: 0; font-family: system-ui, sans-serif; }}
#chart {{ width: 100vw; height: 100vh; min-height: 320px; }}
</style>
</head>
<body>
<div id="chart" role="img" aria-label="{title}"></div>
<noscript>This chart is drawn by a script; allow scripts to see it.</noscript>
<script>
const packed = "{script}";
const unpacked = new Response(
  new Blob([Uint8Array.from(atob(packed), (each) => each.charCodeAt(0))]).stream()
    .pipeThrough(new DecompressionStream("gzip")));
unpacked.text().then((source) => {{
  const script = document.createElement("script");
  script.textContent = source;
  document.head.appendChild(script);
  const chart = echarts.init(document.getElementById("chart"));
  chart.setOption({options});
  addEventListener("resize", () => chart.resize());
}});
</script>
</body>
</html>
"""


def page(chart: Any, title: str) -> str:
    """The page; the same chart gives the same page.

    Raises:
        PluginError: ECharts is not installed.
    """
    packed = importlib.resources.files("ptb_report") / "data" / "echarts.min.js.gz"
    if not packed.is_file():
        raise PluginError(f"{packed} is missing, which draws charts; install pytorch-basics again")
    # The parser of HTML looks for these in a script, whatever they are in it.
    options = re.sub(r"<(?=/?script|!--)", r"\\x3c", str(chart.dump_options()), flags=re.IGNORECASE)
    script = base64.b64encode(packed.read_bytes()).decode()
    return PAGE.format(title=html.escape(title), script=script, options=options)
