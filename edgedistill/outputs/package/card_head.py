"""The head of a model card, as the Hugging Face hub reads it: licence, data, metrics, what the model was made from.

Nothing of it is guessed: what the build file does not say is not there.
"""

from __future__ import annotations

from typing import Final

from edgedistill.documents.package import About
from edgedistill.documents.results import BuildResult, ShippedArtifact
from edgedistill.documents.specs import Format, TaskName

_PIPELINES: Final[dict[TaskName, str]] = {
    "classification": "image-classification",
    "embedding": "image-feature-extraction",
}
_TAGS: Final = {
    Format.ONNX: "onnx",
    Format.COREML: "coreml",
    Format.LITERT: "tflite",
    Format.EXECUTORCH: "executorch",
    Format.TENSORRT: "tensorrt",
}


def card_head(result: BuildResult, about: About, task: TaskName, best: ShippedArtifact | None) -> str:
    """YAML between lines of three dashes. `best` is the file that figures are given of, None where none ran on the test
    split."""
    from huggingface_hub import EvalResult, ModelCardData

    pipeline, name = _PIPELINES[task], about.name or None
    figures = None
    if best is not None and best.quality is not None and name is not None:
        figures = [
            EvalResult(
                task_type=pipeline,
                dataset_type=about.dataset or result.data.source,
                dataset_name=about.dataset or result.data.source,
                dataset_split="test",
                metric_type=result.metric,
                metric_value=round(best.quality, 4),
                metric_name=result.metric,
            )
        ]
    formats = dict.fromkeys(artifact.format for artifact in result.artifacts)
    data = ModelCardData(
        model_name=name if figures else None,
        license=about.license or None,
        library_name="edgedistill",
        pipeline_tag=pipeline,
        tags=["edge", *(_TAGS[format] for format in formats if format in _TAGS)],
        datasets=[about.dataset] if about.dataset else None,
        metrics=[result.metric],
        base_model=about.base_model or None,
        eval_results=figures,
    )
    return f"---\n{data.to_yaml()}\n---\n"
