"""MODEL_CARD.md: what the package is, how to call it, and what is known and unknown about it. Nothing but the result's own
figures and words goes in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from edgedistill.base.units import beginning, format_bytes, format_color, format_ms, format_percent
from edgedistill.documents.measurements import Latency, MeasuredLatency, PredictedLatency
from edgedistill.documents.package import About
from edgedistill.documents.results import BuildResult, ShippedArtifact
from edgedistill.documents.specs import Contract, Format, Metric
from edgedistill.outputs.explain.shown import measured_in, quality_text, validation_text
from edgedistill.outputs.package.answers import by_class, confusions, matrix, wrong_pictures
from edgedistill.outputs.package.card_head import card_head
from edgedistill.outputs.package.package import PACKAGE

_MEASURES: Final[dict[Metric, str]] = {
    "accuracy": "Top-1",
    "recall@1": "The share of images whose nearest other image of the split, by cosine, is of their class,",
    "k-NN accuracy": "The share of images whose class the nearest 20 other images of the split vote for, by cosine,",
    "zero-shot accuracy": "The share of images that are nearest, by cosine, to the vector of their class,",
    "neighbour recall@10": "The share of images whose nearest other image of the split by the teacher's vectors is among "
    "the 10 nearest by the file's own, by cosine,",
}
_NOTHING: Final = About()
_ANYWHERE = re.compile(r"([\\`*_\[\]|~])")
_AT_THE_START = re.compile(r"^(\d+(?=[.)](?:\s|$)))?([#+=.)>-])")


class _Verbatim(str):
    """Text that goes into the card as it is: code, and what was escaped already."""


def escape_markdown(text: str) -> str:
    """Any text as one line of plain Markdown: nothing in it becomes markup, HTML, a table cell or a new line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _AT_THE_START.sub(r"\1\\\2", _ANYWHERE.sub(r"\\\1", line))
    return line.replace("&", "&amp;").replace("<", "&lt;")


def model_card(result: BuildResult, contract: Contract, training: Mapping[str, str], about: About = _NOTHING) -> str:
    """The card of what `result` ships. `training` tells how the student was trained (`recipe`, `loss`, `epochs`, ...), shown
    as it is, `about` what the build file says of the model. Raises ValueError for a build that ships nothing."""
    if result.student is None or not result.artifacts:
        raise ValueError("a build that ships nothing has no model card")
    environment = Environment(
        loader=PackageLoader("edgedistill.outputs.package", "templates"),
        autoescape=False,  # the output is Markdown: `finalize` escapes for that instead
        finalize=lambda value: value if isinstance(value, _Verbatim) else escape_markdown(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        ms=format_ms,
        size=format_bytes,
        percent=format_percent,
        latency=_latency_cell,
        name=_name,
        parity=_parity_cell,
        quality=quality_text,
        of_images=validation_text,
        color=format_color,
        sentence=beginning,
    )
    told = result.predictions_on_test
    best = next((a for a in result.artifacts if told and a.sha256 == told.artifact_sha256), None)
    return card_head(result, about, contract.task, best) + environment.get_template("MODEL_CARD.md.j2").render(
        result=result,
        contract=contract,
        training=dict(training),
        about=about,
        told=told,
        best=best,
        classes=by_class(told) if told else (),
        matrix=matrix(told) if told else (),
        confusions=confusions(told) if told else (),
        wrong=wrong_pictures(told) if told else (),
        link=lambda path: _Verbatim(path),
        measure=_MEASURES[result.metric],
        sample=_Verbatim(code_sample(result, contract)),
        not_run=[a for a in result.artifacts if a.verification.kind == "inspected"],
        untimed=[_name(a) for a in result.artifacts if not isinstance(a.latency, MeasuredLatency)],
        proven=[_name(a) for a in result.artifacts if result.proof and a.as_measured == result.proof.artifact_sha256],
    )


def code_sample(result: BuildResult, contract: Contract) -> str:
    """Python that classifies one image with an ONNX file of the package, or gives its vector, run from inside the package:
    with the proven one, else the first; empty if there is none."""
    own = [a for a in result.artifacts if a.format is Format.ONNX]
    if not own:
        return ""
    onnx = next((a for a in own if a.proof is not None and a.proof.met), own[0])
    # The same steps as in data/images.py and data/preprocessing.py: an app with others sees another image.
    cut = """\
side = min(image.size)
left, top = (image.width - side) // 2, (image.height - side) // 2
image = image.crop((left, top, left + side, top + side))
"""
    of_classes = contract.vector is None
    called = f'session.run(["{contract.output_name}"], {{"{contract.input_name}": tensor}})[0][0]'
    if of_classes:
        read = 'labels = json.load(open("contract.json", encoding="utf-8"))["labels"]\n'
        end = f"logits = {called}\nprint(labels[int(logits.argmax())])\n"
    else:
        read, end = "", f"vector = {called}\nprint(vector.shape)\n"
    return f"""\
{"import json" + chr(10) * 2 if of_classes else ""}\
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

{read}\
session = onnxruntime.InferenceSession("{_name(onnx)}")
opened = ImageOps.exif_transpose(Image.open("golden/picture-000.png")).convert("RGBA")
image = Image.new("{contract.color}", opened.size, {contract.background})
image.paste(opened, mask=opened)
{cut if contract.crop == "center" else ""}\
side, resize_filter = {contract.resolution}, Image.Resampling.{contract.resize_filter.upper()}
image = image.resize((side, image.height), resize_filter).resize((side, side), resize_filter)
tensor = np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)[None]
{end}"""


def _name(artifact: ShippedArtifact) -> str:
    return artifact.path.removeprefix(f"{PACKAGE}/")


def _parity_cell(artifact: ShippedArtifact) -> str:
    if (parity := artifact.parity) is None:
        return "unknown"
    return f"{parity.max_abs_error:.2g}, {parity.agreement}"


def _latency_cell(latency: Latency) -> str:
    if isinstance(latency, MeasuredLatency):
        figures = ", ".join(
            f"{name} {format_ms(value)}"
            for name, value in (("p50", latency.p50_ms), ("p95", latency.p95_ms), ("p99", latency.p99_ms))
        )
        return f"{figures}; measured, {latency.samples} runs in {measured_in(latency)} on {latency.device}"
    if isinstance(latency, PredictedLatency):
        calibrated = "90% interval" if latency.calibrated else "uncalibrated interval"
        return (
            f"{latency.percentile} {format_ms(latency.latency_ms)} predicted for {latency.device}, not measured "
            f"({calibrated} {format_ms(latency.low_ms)} to {format_ms(latency.high_ms)}; {latency.basis})"
        )
    return f"unknown on {latency.device}: {latency.reason}"
