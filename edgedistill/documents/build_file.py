"""The build file: TOML as frozen pydantic models, every problem reported at once with its line.

Relative paths are relative to the build file's folder. Quantities with units are strings in TOML (`"5ms"`, `"1%"`)
and plain numbers with the unit in their name everywhere else.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.paths import nearest
from edgedistill.documents.fields import (
    Area,
    AskedBudget,
    Background,
    Bytes,
    BytesOrOff,
    Certain,
    DurationMs,
    LocalPath,
    Percent,
    Rate,
    Ratio,
    Seed,
    Share,
    TargetName,
    TimmModel,
    read_in,
    rising_pair,
)
from edgedistill.documents.lengths import BatchSize, Rungs, Views
from edgedistill.documents.package import About
from edgedistill.documents.problems import explain_problems
from edgedistill.documents.recipes import DEFAULT, EMBEDDING, RECIPES, TermConfig, unknown_recipe
from edgedistill.documents.specs import Format, Frozen, Kernel, Objective, Precision, ProofLevel, Score, TaskName
from edgedistill.documents.teachers import EnsembleConfig, TeacherConfig
from edgedistill.documents.toml_lines import line_of

M = TypeVar("M", bound=BaseModel)


NO_SLOWER = "100%"
"""The budget of a build file that asks for the fastest student and gives none: the teacher's own latency."""


class SplitConfig(Frozen):
    """`[data] split`: how validation and test are drawn where they are not given. Stratified by class."""

    seed: Seed = 0
    validation: Share = 0.15
    test: Share = 0.15


class DataConfig(Frozen):
    """`[data]`. `digits`: scikit-learn's. `folder`: `path` with a folder of images a class, or `train`, `validation`,
    `test` folders of such. `idx`: `path` with MNIST's four files, gzipped or not. `huggingface`: `path` is a folder
    saved with `save_to_disk`, or `name` a data set on the hub. `unlabelled` is a folder of further images to train on,
    which the teacher alone labels. What is transparent is put on `background`. With `skip_broken` images that cannot be used
    are left out, where without it they are an error. Training images are kept decoded while they take no more than
    `decoded_cache` bytes, 0 for `off`, and so is each set of images that networks are judged by."""

    source: Literal["digits", "folder", "idx", "huggingface"] = "digits"
    path: LocalPath | None = None
    name: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    unlabelled: LocalPath | None = None
    split: SplitConfig = SplitConfig()
    limit: Annotated[int, Field(ge=1)] | None = None
    background: Background = (255, 255, 255)
    skip_broken: bool = False
    crop: Literal["stretch", "center"] = "stretch"
    resize_filter: Literal["bilinear", "bicubic"] = "bilinear"
    decoded_cache: BytesOrOff = 8_000_000_000

    @model_validator(mode="after")
    def _located(self) -> DataConfig:
        if self.source in ("folder", "idx") and self.path is None:
            raise ValueError(f'source = "{self.source}" has no folder; add path = "FOLDER"')
        if self.source == "huggingface" and (self.path is None) == (self.name is None):
            raise ValueError(
                'source = "huggingface" has no data set, or two; write path = "FOLDER" or name = "DATASET"'
            )
        return self


class AugmentationConfig(Frozen):
    """`[augmentation]`: what a view may be. `views` stored views a training image, with `auto` more where images are few;
    `scale` is the share of the image's area that a crop keeps, `ratio` its aspect; `operations` from the list, each with a
    magnitude up to `magnitude`;
    `mix` is the share of views blended with a partner (mixup, lambda drawn from Beta(`mix_alpha`, `mix_alpha`)), by default
    what the recipe asks for, which is 0 for most; `cutmix` is the share of the others that have a box of a partner's."""

    views: Views = "auto"
    scale: Annotated[tuple[Area, Area], AfterValidator(rising_pair)] = (0.7, 1.0)
    ratio: Annotated[tuple[Ratio, Ratio], AfterValidator(rising_pair)] = (0.8, 1.25)
    flip: bool = False
    operations: Annotated[int, Field(ge=0, le=2)] = 1
    magnitude: Annotated[float, Field(ge=0, le=1)] = 0.3
    mix: Annotated[float, Field(ge=0, le=1)] | None = None
    mix_alpha: Annotated[float, Field(gt=0)] = 0.2
    cutmix: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Seed = 0


class SpaceConfig(Frozen):
    """`[space]`: which candidates there are. An empty list leaves the family's own range, and no families the default
    ones. Of `kernels` and `expansions` an empty list leaves the family's own single one: each value given multiplies
    the space. Families without such a choice are not concerned. `max_bytes` holds the weights against a size, in the
    smallest precision worth trying.

    `models` are timm's, as they are and cut down. With `pretrained` their training starts from timm's weights, and a space
    that names no students has some of them; `auto` is where that is worth it and they can be had. With `checkpoints` it
    starts from a file's."""

    families: tuple[str, ...] = ()
    widths: tuple[Annotated[float, Field(gt=0, le=8)], ...] = ()
    depths: tuple[Annotated[float, Field(gt=0, le=8)], ...] = ()
    resolutions: tuple[Annotated[int, Field(ge=8, le=1024)], ...] = ()
    kernels: tuple[Kernel, ...] = ()
    expansions: tuple[Annotated[float, Field(gt=0, le=16)], ...] = ()
    models: tuple[TimmModel, ...] = ()
    pretrained: bool | Literal["auto"] = "auto"
    checkpoints: dict[TimmModel, LocalPath] = {}
    max_parameters: Annotated[int, Field(ge=1)] | None = None
    max_bytes: Bytes | None = None

    @model_validator(mode="after")
    def _models_named_once(self) -> SpaceConfig:
        for name in self.families:
            if name.startswith("timm:"):
                raise ValueError(f"{name} is no family; write it in models")
        for name in self.checkpoints:
            if name not in self.models:
                raise ValueError(f"checkpoints has {name}, which models does not; add it there")
        return self


class TrainConfig(Frozen):
    """`[train]`: one recipe for all students, by name, or composed of `terms`. Images without a label are left out where the
    teacher's mean confidence over their views is below `min_confidence`, or the share of views of which it names the same
    class below `min_agreement`. With `assistant` it is tried whether students learn more from one of a size between theirs
    and the teacher's; `auto` is where they are much smaller than the teacher. `processes` train one student together, each
    on a part of every batch."""

    recipe: str = DEFAULT
    terms: tuple[TermConfig, ...] = ()
    assistant: bool | Literal["auto"] = "auto"
    min_confidence: Certain = 0.0
    min_agreement: Certain = 0.0
    batch_size: BatchSize = "auto"
    learning_rate: Rate | Literal["auto"] = "auto"
    weight_decay: Annotated[float, Field(ge=0, lt=10)] = 0.02
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    mixed_precision: Literal["auto", "off"] = "auto"
    workers: Annotated[int, Field(ge=0, le=128)] | Literal["auto"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 30.0
    seed: Seed = 0

    @field_validator("recipe")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in RECIPES and value != DEFAULT:
            raise ValueError("; ".join(unknown_recipe(value)) + ", default, or write [[train.terms]]")
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> TrainConfig:
        if self.terms and "recipe" in self.model_fields_set:
            raise ValueError("recipe and terms are both there; remove one: the terms are a recipe of their own")
        return self

    @property
    def recipe_name(self) -> str:
        """`composed` for terms."""
        return "composed" if self.terms else self.recipe

    @property
    def composition(self) -> tuple[TermConfig, ...]:
        """The terms of the loss. Raises ValueError for `default`, of which they are not known yet."""
        if not self.terms and self.recipe == DEFAULT:
            raise ValueError("which recipe the default is has not been settled")
        return self.terms or RECIPES[self.recipe].terms


class EmbeddingConfig(Frozen):
    """`[embedding]`: how the quality of vectors is told, see `networks.tasks.Embedding`; `auto` is `retrieval`, or
    `neighbours` where no image has a label. `zero_shot` compares them with those of the classes in the file `class_vectors`,
    by default the `text_vectors` of the teacher."""

    score: Score | Literal["auto"] = "auto"
    class_vectors: LocalPath | None = None

    @model_validator(mode="after")
    def _compared(self) -> EmbeddingConfig:
        if self.class_vectors is not None and self.score != "zero_shot":
            raise ValueError('class_vectors are what score = "zero_shot" compares with; write that, or leave them out')
        return self


class SearchConfig(Frozen):
    """`[search]`: successive halving. `probes` models with random weights are measured before the first proposal;
    `candidates` are trained to the first of `rungs` (epochs or steps); the `keep` share of them goes on to the next. At most
    `trials` candidates are begun, and no further batch of them after `time` (ms). Of two files inside all limits the
    faster one wins that is no less accurate by more than `quality_margin` (see Goal). With `folds` a pilot's recipes and the
    finalists are compared by cross-validation. With `warm_start` the search begins with what the cache has of earlier
    searches with this teacher, data and recipe: it may then go another way than from an empty cache."""

    probes: Annotated[int, Field(ge=2, le=200)] = 8
    candidates: Annotated[int, Field(ge=1, le=1000)] = 8
    rungs: Rungs = None
    keep: Share = 0.5
    trials: Annotated[int, Field(ge=1, le=100_000)] = 24
    time: DurationMs | None = None
    quality_margin: Percent = 0.005
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    warm_start: bool = False


class ExportConfig(Frozen):
    """`[export]`: `formats` and `precisions` narrow the target's own; `allow_fallbacks` takes files of which the
    target's accelerator leaves operations to the CPU. A precision stays only if it is `margin_speed` faster or
    `margin_size` smaller than fp32 and loses at most `max_quality_loss` of the validation quality. The ranges of int8 are
    read off `calibration_images` training images."""

    formats: tuple[Format, ...] = ()
    precisions: tuple[Precision, ...] = ()
    margin_speed: Percent = 0.05
    margin_size: Percent = 0.10
    max_quality_loss: Percent = 0.01
    calibration_images: Annotated[int, Field(ge=8, le=100_000)] = 256
    allow_fallbacks: bool = False

    @field_validator("precisions")
    @classmethod
    def _asked_for(cls, value: tuple[Precision, ...]) -> tuple[Precision, ...]:
        if Precision.MIXED in value:
            raise ValueError("mixed is what int8 becomes where it loses too much; write int8")
        return value

    @field_validator("formats")
    @classmethod
    def _shippable(cls, value: tuple[Format, ...]) -> tuple[Format, ...]:
        if Format.NULL in value:
            raise ValueError("null ships nothing; use onnx, coreml, tensorrt, litert or executorch")
        return value


class PackageConfig(About):
    """`[package]`: what the package tells of the model, see `About`. With `none_of_these` an app has that answer, for
    pictures of which no class is probable enough: such a share of the right answers to the validation split is given up for
    it."""

    none_of_these: Percent | None = None

    @property
    def about(self) -> About:
        return About.model_validate(self.model_dump(exclude={"none_of_these"}))


class LimitsConfig(Frozen):
    """`[limits]`: what the shipped file keeps beside the budget. `max_size` in bytes of the file, `max_memory` of the
    peak memory of a process that runs it, the runtime's own included; `min_quality` of the validation split."""

    max_size: Bytes | None = None
    max_memory: Bytes | None = None
    min_quality: Percent | None = None


class ProfileConfig(Frozen):
    """`[profile]`: how latency is measured; every run counts. A file is compared with the search's anchor network for
    `compare`, the two in turn for `burst` each. `proof` is how much is claimed of the winner: that 80% (`quick`), 90%
    (`standard`) or 95% (`thorough`) of its sessions keep the budget; a session lasts `session`, with `pause` between
    two. `sustained` runs the winner for so long without a pause. All in ms."""

    proof: ProofLevel = ProofLevel.QUICK
    session: Annotated[DurationMs, Field(ge=500, le=600_000)] = 3000.0
    pause: Annotated[DurationMs, Field(le=600_000)] = 500.0
    compare: Annotated[DurationMs, Field(ge=200, le=600_000)] = 1000.0
    burst: Annotated[DurationMs, Field(le=10_000)] = 40.0
    sustained: Annotated[DurationMs, Field(ge=3000, le=3_600_000)] | None = None


class BuildConfig(Frozen):
    """A whole build file. `objective` says which student wins of those inside all limits: the most accurate, or the
    fastest; then `[limits] min_quality` is needed, and without a budget the teacher's own latency is it. `targets` are
    several in one build, in the place of `target`; `budgets` gives those that it names their own. With `one_student`
    the same student serves them all, instead of a winner each. `teachers` are further ones beside `teacher`, of which the
    `ensemble` is learnt from; a share of the teacher's latency is of `teacher` alone."""

    task: TaskName = "classification"
    teacher: TeacherConfig
    teachers: tuple[TeacherConfig, ...] = ()
    ensemble: EnsembleConfig = EnsembleConfig()
    target: TargetName = "host"
    targets: tuple[TargetName, ...] = ()
    one_student: bool = False
    budget: AskedBudget
    budgets: dict[str, AskedBudget] = {}
    objective: Objective = Objective.QUALITY
    limits: LimitsConfig = LimitsConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    space: SpaceConfig = SpaceConfig()
    train: TrainConfig = TrainConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    search: SearchConfig = SearchConfig()
    export: ExportConfig = ExportConfig()
    package: PackageConfig = PackageConfig()
    profile: ProfileConfig = ProfileConfig()

    @model_validator(mode="after")
    def _bounded(self) -> BuildConfig:
        if self.objective is Objective.LATENCY and self.limits.min_quality is None:
            raise ValueError('objective = "latency" has no lower end; add min_quality = "90%" to [limits]')
        return self

    @model_validator(mode="after")
    def _weighed(self) -> BuildConfig:
        count, weights = 1 + len(self.teachers), self.ensemble.weights
        if isinstance(weights, tuple) and len(weights) != count:
            raise ValueError(f"[ensemble] weights has {len(weights)} numbers for {count} teachers; give one for each")
        if not self.teachers and self.ensemble != EnsembleConfig():
            raise ValueError("[ensemble] has one teacher alone; add [[teachers]], or leave it out")
        return self

    @model_validator(mode="after")
    def _of_one_task(self) -> BuildConfig:
        wrong = [*self._of_another_task(), *(self._without_classes() if self.task == "embedding" else ())]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _of_another_task(self) -> Iterator[str]:
        recipe = RECIPES.get(self.train.recipe)
        if recipe is not None and not self.train.terms and recipe.task != self.task:
            known = ", ".join(one.name for one in RECIPES.values() if one.task == self.task)
            yield f"[train] recipe {recipe.name} is for {recipe.task}; use one for {self.task}: {known}"
        for term in self.train.terms:
            if (term.tap == EMBEDDING) != (self.task == "embedding"):
                yield f"[[train.terms]] {term.loss} of {term.tap} is not for {self.task}; leave tap out"
        if self.task == "classification" and self.embedding != EmbeddingConfig():
            yield '[embedding] is for task = "embedding"; write that, or leave it out'

    def _without_classes(self) -> Iterator[str]:
        if self.train.min_confidence or self.train.min_agreement:
            yield "[train] min_confidence and min_agreement are of classes, and a vector has none; leave them out"
        if self.ensemble.weights == "fitted":
            yield "[ensemble] weights are fitted to classes, and a vector has none; write numbers, or equal"
        if any(teacher.fit is not None for teacher in self.all_teachers):
            what = "[teacher] fit trains a classifier, and vectors are asked for"
            yield f"{what}; fit it in a build for classification and name its weights as checkpoint"
        if self.package.none_of_these is not None:
            yield "[package] none_of_these is an answer beside classes, and a vector has none; leave it out"
        if self.embedding.score == "zero_shot" and self.class_vectors is None:
            yield "zero_shot needs a vector for each class; add class_vectors = FILE to [embedding]"
        if self.embedding.score == "neighbours" and self.search.folds is not None:
            yield "[search] folds are of images with labels, and neighbours are judged without; leave folds out"
        if self.embedding.score != "zero_shot" and any(teacher.text_vectors for teacher in self.all_teachers):
            yield '[teacher] text_vectors are what score = "zero_shot" compares with; write that in [embedding]'

    @property
    def class_vectors(self) -> Path | None:
        """The file of the vectors of classes; None where none are compared with."""
        if self.embedding.score != "zero_shot":
            return None
        return self.embedding.class_vectors or self.teacher.text_vectors

    @property
    def all_teachers(self) -> tuple[TeacherConfig, ...]:
        """`teacher` first."""
        return (self.teacher, *self.teachers)

    @property
    def view_augmentation(self) -> AugmentationConfig:
        """`[augmentation]` for what students see: `mix` is the recipe's where it is not given."""
        recipe = None if self.train.terms else RECIPES.get(self.train.recipe)
        if self.augmentation.mix is not None or recipe is None or recipe.mix is None:
            return self.augmentation
        return self.augmentation.model_copy(update={"mix": recipe.mix})


def load_toml(path: Path, what: str) -> tuple[dict[str, Any], str]:
    """A TOML file's content and text. Raises InputError for a missing file, a folder, a wrong encoding or broken TOML,
    with the line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # editors on Windows write a byte order mark, TOML allows none
        return tomllib.loads(text), text
    except FileNotFoundError:
        raise InputError(f"{what} {path} does not exist", fix=nearest(path, "check the path")) from None
    except IsADirectoryError:
        inside = path / "build.toml"
        fix = f"name the file: {inside}" if inside.is_file() else "name a TOML file"
        raise InputError(f"{path} is a folder, not {what}", fix=fix) from None
    except OSError as error:
        raise InputError(
            f"{what} {path} cannot be read: {error.strerror}", fix="check its path and permissions"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = Problem(f"{path}:{line}", f"byte 0x{error.object[error.start]:02x} is not UTF-8")
        raise InputError(f"{path.name} is not UTF-8 text", problems=[problem], fix="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(match[1]) if match else text.count("\n") + (not text.endswith("\n"))
        message = re.sub(r" \(at .*\)", "", str(error))
        twice = message.startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate"))
        problem = Problem(f"{path}:{line}", message, "this key or section is given twice" if twice else "")
        raise InputError(f"{path.name} is not valid TOML", problems=[problem], fix="correct that line") from None
    except RecursionError:
        raise InputError(f"{path.name} is nested too deeply", fix="a build file has no such depth") from None


def load_build_file(path: Path) -> tuple[dict[str, Any], str]:
    """A build file's content, with what other keys of it say of those that are left out, and its text. Raises InputError as
    `load_toml` does."""
    content, text = load_toml(path, "the build file")
    if content.get("objective") == Objective.LATENCY:
        content.setdefault("budget", NO_SLOWER)
    train = content.get("train")
    terms = train.get("terms") if isinstance(train, dict) and content.get("task") == "embedding" else None
    for term in terms if isinstance(terms, list) else ():
        if isinstance(term, dict):
            term.setdefault("tap", EMBEDDING)  # a term without one is of the task's output
    return content, text


def load_config(path: Path) -> BuildConfig:
    """Read a build file. Raises InputError listing every problem with `file:line`; unknown keys come with a
    suggestion."""
    return validate(BuildConfig, *load_build_file(path), path)


def as_json(content: object) -> str:
    """TOML's content for pydantic's strict mode (no `true` for 1, no `"8"` for 8), which takes enums, tuples and paths from
    nothing else than JSON. A date becomes an object, which no field takes."""
    return json.dumps(content, default=lambda value: {"a date or time": str(value)})


def validate(model: type[M], content: dict[str, Any], text: str, path: Path) -> M:
    """`content` as a `model`, relative paths in it from the folder of `path`; a ValidationError becomes an InputError with
    the line in `text` of each problem."""
    try:
        return model.model_validate_json(as_json(content), strict=True, context=read_in(path.parent))
    except ValidationError as error:
        problems = explain_problems(model, error, content, path, lambda location: line_of(text, location))
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise InputError(f"{path.name} has {count}", problems=problems) from None
