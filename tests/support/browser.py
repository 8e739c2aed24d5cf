"""A page in a real browser, if there is one: what a script finds in it once it has drawn itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """
<script>const errors = []; addEventListener("error", (event) => errors.push(event.message));
addEventListener("load", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  setTimeout(() => {
    const report = { errors, title: document.title, width: innerWidth };
    report.wide = document.documentElement.scrollWidth > innerWidth;
    report.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
    report.drawn = document.querySelectorAll(".canvas.js-plotly-plot").length;
    report.cut = [...document.querySelectorAll(".canvas :is(.xtitle, .ytitle, .legendtext)")].filter((text) => {
      const [own, whole] = [text, text.closest(".canvas")].map((one) => one.getBoundingClientRect());
      return Math.max(whole.left - own.left, own.right - whole.right, whole.top - own.top, own.bottom - whole.bottom) > 1;
    }).map((text) => text.textContent);
    %s
    parent.postMessage(JSON.stringify(report), "*");
  }, 1000);
})</script>"""
FRAME = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<style>:root { color-scheme: light dark; } body { margin: 0; } iframe { border: 0; width: %dpx; height: 900px; }</style>
<script>addEventListener("message", (event) => document.body.setAttribute("data-probe", event.data));</script>
<body><iframe src="r.html"></iframe></body>"""


def opened(folder: Path, page: str, width: int, dark: bool = False, more: str = "") -> dict[str, Any]:
    """What is found in `page` at that width, in px: in a frame, since a window has a least width of its own. `cut` are the
    texts of plots that reach out of their plot. `more` is script that adds to `report`."""
    (folder / "r.html").write_text(page.replace("<body>", f"<body>{PROBE % more}"), encoding="utf-8")
    (folder / "frame.html").write_text(FRAME % width, encoding="utf-8")
    command = [
        str(BROWSER),
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-sync", "--disable-component-update", f"--user-data-dir={folder / 'browser'}"),
        *("--window-size=1400,950", "--virtual-time-budget=10000", "--dump-dom"),
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        (folder / "frame.html").as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False).stdout
    _, mark, rest = dom.partition('data-probe="')
    assert mark, "the page's scripts did not run to their end"
    found: dict[str, Any] = json.loads(unescape(rest.partition('"')[0]))
    return found
