"""What the report's pages share: their template's filters, their assets, and figures inside a page."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from edgedistill.base.units import beginning, format_percent, format_seconds

_FOLDER = Path(__file__).parent


def rendered(template: str, **values: Any) -> str:
    """A page as HTML text, of which Plotly's script is the most. Texts may hold anything: they are escaped in the page, in
    its scripts and in the plots. `figures`, plots by name or None, stand in it as JSON."""
    figures = {name: figure and embedded_json(figure) for name, figure in values.pop("figures").items()}
    return (
        _environment()
        .get_template(template)
        .render(
            figures=figures,
            css=_asset("templates/report.css"),
            js=_asset("templates/report.js"),
            plotly_js=_asset("plotly-basic.min.js"),
            **values,
        )
    )


def embedded_json(figure: go.Figure) -> Markup:
    """A figure as JSON for a `<script>` element. `<`, `>` and `&` are written as escapes, so that no text in it can end the
    element or open a comment; a JSON parser reads the same text back."""
    text: str = figure.to_json(validate=True)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("edgedistill.outputs.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats: dict[str, Callable[..., str]] = {
        "percent": format_percent,
        "seconds": format_seconds,
        "count": "{:,}".format,
        "sentence": beginning,
    }
    environment.filters.update(formats)
    return environment


@cache
def _asset(name: str) -> Markup:
    """The text of a style sheet or script of this folder, to stand in its element as it is."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))
