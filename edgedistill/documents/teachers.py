"""`[teacher]`, `[[teachers]]` and `[ensemble]` of the build file: what students learn from."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edgedistill.documents.fields import Deviation, Epochs, Level, LocalPath, Rate, Ratio, Seed
from edgedistill.documents.lengths import BatchSize
from edgedistill.documents.specs import Frozen


class FitConfig(Frozen):
    """`[teacher] fit`: train or fine-tune the teacher on the training split. With `crossfit` so many more are fitted, each
    without a part of the labelled images, and each labels that part: of images that it was fitted to, a teacher repeats
    the labels.

    What was trained before is changed with care: with `head_first` its classifier is fitted alone before the first epoch,
    and with a `layer_decay` below 1 each layer learns at the rate of the layer behind it times that. `auto` does both where
    there are weights to begin with. `keep` says which epoch's weights the teacher has in the end: the most accurate one's
    on the validation split, or the last one's."""

    epochs: Epochs = 10
    batch_size: BatchSize = "auto"
    learning_rate: Rate | Literal["auto"] = "auto"
    layer_decay: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = "auto"
    head_first: bool | Literal["auto"] = "auto"
    keep: Literal["best", "last"] = "best"
    weight_decay: Annotated[float, Field(ge=0, lt=10)] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    crossfit: Annotated[int, Field(ge=2, le=20)] | None = None
    seed: Seed = 0


class TeacherConfig(Frozen):
    """`[teacher]`: `model` is `timm:NAME`, `transformers:NAME`, `open_clip:NAME`, `onnx:FILE`, `outputs:FILE` or
    `module:function`; `arguments` go to its builder. `pretrained` takes the library's weights, or says that the function
    returns trained ones. `mean` and `std` are those that the weights were trained with, as model cards give them, for pixels
    in 0..1; without them a library's weights have their own and others the data's. `text_vectors` is a file of vectors by
    which an image tower of open_clip tells classes apart."""

    model: str
    checkpoint: LocalPath | None = None
    text_vectors: LocalPath | None = None
    pretrained: bool = False
    resolution: Annotated[int, Field(ge=8, le=1024)] | None = None
    mean: tuple[Level, Level, Level] | None = None
    std: tuple[Deviation, Deviation, Deviation] | None = None
    arguments: dict[str, bool | int | float | str | list[int]] = {}
    fit: FitConfig | None = None

    @field_validator("model")
    @classmethod
    def _named(cls, value: str) -> str:
        if not re.fullmatch(r"timm:\S+|(transformers|open_clip|onnx|outputs):\S.*|[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
            known = "timm:NAME, transformers:NAME, open_clip:NAME, onnx:FILE, outputs:FILE or module:function"
            raise ValueError(f"{value!r} is not a model; write {known}")
        return value

    @model_validator(mode="after")
    def _both_statistics(self) -> TeacherConfig:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together; give both or neither")
        return self

    @model_validator(mode="after")
    def _of_a_tower(self) -> TeacherConfig:
        if self.text_vectors is not None and not self.model.startswith("open_clip:"):
            raise ValueError(
                "text_vectors are compared with an image tower; name one, open_clip:NAME, or leave them out"
            )
        return self


class EnsembleConfig(Frozen):
    """`[ensemble]`: how the probabilities of several teachers become one. `weights` are those of `[teacher]` and of
    `[[teachers]]` in their order: `equal`, or `fitted` to the labels of the validation split. With `drop` each of them is
    left out of that share of all views, drawn for each image; one always stays."""

    weights: Literal["equal", "fitted"] | tuple[Ratio, ...] = "equal"
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Seed = 0
