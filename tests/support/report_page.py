"""The report's page as a browser would see it, the profiles that it is drawn from, and a build full of markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

from edgedistill.outputs.explain.build_folder import ReportProfiles

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


class Page(HTMLParser):
    """What a browser would see: elements with attributes, the text of headings, JSON scripts, text outside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: dict[str, list[str]] = {"h1": [], "h2": [], "h3": []}
        self.figures: list[Any] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img", "input", "link"):
            self._open.append(tag)
        if tag in self.headings:
            self.headings[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            if self.elements[-1][1].get("type") == "application/json":
                self.figures.append(json.loads(data))
        elif self._open and self._open[-1] != "style":
            self.text += data
            for tag in self.headings:
                if tag in self._open:
                    self.headings[tag][-1] += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def profiles_for(result: Any, realistic: ModuleType) -> ReportProfiles:
    proof = result.proof
    anchor_ms = 1.94 if proof and proof.share else None
    winner = realistic.make_profile(proof.artifact_sha256, 0.198, anchor_ms=anchor_ms) if proof else None
    return ReportProfiles(winner, realistic.make_profile("t" * 64, 1.94, seed=1, sessions=6))


def hostile(value: Any) -> Any:
    """The document with every free text replaced by markup; what other fields refer to (hashes, kinds) stays."""
    kept = {
        "kind",
        "objective",
        "metric",
        "computed_by",
        "calibration",
        "format",
        "precision",
        "runtime",
        "agent",
        "percentile",
        "state",
        "status",
        "sha256",
        "artifact_sha256",
        "anchor_sha256",
        "at",
        "began_at",
        "right",
        "build_key",
    }
    if isinstance(value, dict):
        return {k: v if k in kept and isinstance(v, str) else hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) and value else value
