"""The build file: TOML as frozen pydantic models, every problem reported at once with its line.

Relative paths are relative to the build file's folder. Quantities with units are strings in TOML (`"5ms"`, `"1%"`)
and plain numbers with the unit in their name everywhere else.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from edgedistill.errors import InputError, Problem
from edgedistill.specs import BudgetRequest, Format, Frozen, Precision
from edgedistill.units import parse_duration_ms, parse_fraction

M = TypeVar("M", bound=BaseModel)


def _reworded(parse: Any) -> BeforeValidator:
    """A unit parser as a validator: its error text and fix become one message of the field."""

    def validate(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError('give a string with its unit, e.g. "5ms" or "1%"')
        try:
            return parse(value)
        except InputError as error:
            raise ValueError(f"{error.message}; {error.fix}") from None

    return BeforeValidator(validate)


Percent = Annotated[float, _reworded(parse_fraction), Field(ge=0, lt=1)]
DurationMs = Annotated[float, _reworded(parse_duration_ms)]
Share = Annotated[float, Field(gt=0, lt=1)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]


class FitConfig(Frozen):
    """`[teacher] fit`: train or fine-tune the teacher on the training split."""

    epochs: Epochs = 10
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0, lt=10)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0, lt=10)] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: int = 0


class TeacherConfig(Frozen):
    """`[teacher]`: `model` is `timm:NAME` or `module:function`; `arguments` go to its builder."""

    model: str
    checkpoint: Path | None = None
    pretrained: bool = False
    resolution: Annotated[int, Field(ge=8, le=1024)] | None = None
    arguments: dict[str, bool | int | float | str | list[int]] = {}
    fit: FitConfig | None = None

    @field_validator("model")
    @classmethod
    def _named(cls, value: str) -> str:
        if not re.fullmatch(r"timm:\S+|[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
            raise ValueError(f"{value!r} is not a model; write timm:NAME or module:function")
        return value


class SplitConfig(Frozen):
    """`[data] split`: how validation and test are drawn where they are not given. Stratified by class."""

    seed: int = 0
    validation: Share = 0.15
    test: Share = 0.15


class DataConfig(Frozen):
    """`[data]`. `digits`: scikit-learn's. `folder`: `path` with a folder of images a class, or `train`, `validation`, `test`
    folders of such. `idx`: `path` with MNIST's four files, gzipped or not. `huggingface`: `path` is a folder saved with
    `save_to_disk`, or `name` a data set on the hub."""

    source: Literal["digits", "folder", "idx", "huggingface"] = "digits"
    path: Path | None = None
    name: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    split: SplitConfig = SplitConfig()
    limit: Annotated[int, Field(ge=1)] | None = None
    crop: Literal["stretch", "center"] = "stretch"
    resize_filter: Literal["bilinear", "bicubic"] = "bilinear"

    @model_validator(mode="after")
    def _located(self) -> DataConfig:
        if self.source in ("folder", "idx") and self.path is None:
            raise ValueError(f'source = "{self.source}" needs path = "FOLDER"')
        if self.source == "huggingface" and (self.path is None) == (self.name is None):
            raise ValueError('source = "huggingface" needs either path = "FOLDER" or name = "DATASET"')
        return self


class AugmentationConfig(Frozen):
    """`[augmentation]`: what a view may be. `views` stored views a training image; `scale` is the share of the image's area
    that a crop keeps, `ratio` its aspect; `operations` from the list, each with a magnitude up to `magnitude`; `mix`
    is the share of views blended with a partner (mixup, lambda drawn from Beta(`mix_alpha`, `mix_alpha`))."""

    views: Annotated[int, Field(ge=1, le=1000)] = 4
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.7, 1.0)
    ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.8, 1.25)
    flip: bool = False
    operations: Annotated[int, Field(ge=0, le=2)] = 1
    magnitude: Annotated[float, Field(ge=0, le=1)] = 0.3
    mix: Annotated[float, Field(ge=0, le=1)] = 0.0
    mix_alpha: Annotated[float, Field(gt=0)] = 0.2
    seed: int = 0


class SpaceConfig(Frozen):
    """`[space]`: narrows the candidates. An empty list leaves the family's own range."""

    families: tuple[str, ...] = ()
    widths: tuple[Annotated[float, Field(gt=0, le=8)], ...] = ()
    depths: tuple[Annotated[float, Field(gt=0, le=8)], ...] = ()
    resolutions: tuple[Annotated[int, Field(ge=8, le=1024)], ...] = ()
    max_parameters: Annotated[int, Field(ge=1)] | None = None


class TrainConfig(Frozen):
    """`[train]`: one recipe for all students. `distill` is KL on the teacher's stored logits at `temperature` with hard
    labels mixed in at `hard_label_weight`; `cross_entropy` uses labels only."""

    recipe: Literal["distill", "cross_entropy"] = "distill"
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    hard_label_weight: Annotated[float, Field(ge=0, le=1)] = 0.1
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0, lt=10)] = 4e-3
    weight_decay: Annotated[float, Field(ge=0, lt=10)] = 0.02
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    mixed_precision: Literal["auto", "off"] = "auto"
    workers: Annotated[int, Field(ge=0, le=128)] | Literal["auto"] = "auto"
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 30.0
    seed: int = 0


class SearchConfig(Frozen):
    """`[search]`: successive halving. `probes` models with random weights are measured before the first proposal;
    `candidates` are trained to the first of `rungs` (epochs); the `keep` share of them goes on to the next."""

    probes: Annotated[int, Field(ge=2, le=200)] = 8
    candidates: Annotated[int, Field(ge=1, le=1000)] = 8
    rungs: tuple[Epochs, ...] = (4, 8, 16)
    keep: Share = 0.5
    seed: int = 0

    @field_validator("rungs")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or list(value) != sorted(set(value)):
            raise ValueError("rungs are epochs in rising order, e.g. [4, 8, 16]")
        return value


class ExportConfig(Frozen):
    """`[export]`: `formats` and `precisions` narrow the target's own. A precision stays only if it is `margin_speed` faster
    or `margin_size` smaller than fp32 and loses at most `max_accuracy_loss` (all in validation accuracy)."""

    formats: tuple[Format, ...] = ()
    precisions: tuple[Precision, ...] = ()
    margin_speed: Percent = 0.05
    margin_size: Percent = 0.10
    max_accuracy_loss: Percent = 0.01
    calibration_images: Annotated[int, Field(ge=8, le=100_000)] = 256

    @field_validator("formats")
    @classmethod
    def _shippable(cls, value: tuple[Format, ...]) -> tuple[Format, ...]:
        if Format.NULL in value:
            raise ValueError("use onnx, coreml or tensorrt")
        return value


class ProfileConfig(Frozen):
    """`[profile]`: candidates get one session, the winner `sessions` with `pause` between."""

    sessions: Annotated[int, Field(ge=1, le=20)] = 3
    pause: DurationMs = 2000.0
    max_samples: Annotated[int, Field(ge=100, le=1_000_000)] = 2000
    max_seconds: Annotated[float, Field(gt=0, le=600)] = 6.0


class BuildConfig(Frozen):
    """A whole build file."""

    teacher: TeacherConfig
    target: str = "host"
    budget: Annotated[BudgetRequest, _reworded(BudgetRequest.parse)]
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    space: SpaceConfig = SpaceConfig()
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    export: ExportConfig = ExportConfig()
    profile: ProfileConfig = ProfileConfig()


def load_toml(path: Path, what: str) -> tuple[dict[str, Any], str]:
    """A TOML file's content and text. Raises InputError for a missing file, a folder, a wrong encoding or broken TOML, with
    the line."""
    try:
        text = path.read_bytes().decode("utf-8")
        return tomllib.loads(text), text
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.toml")], 1)
        raise InputError(
            f"{what} {path} does not exist", fix=f"did you mean {path.parent / near[0]}?" if near else "check the path"
        ) from None
    except IsADirectoryError:
        inside = path / "build.toml"
        fix = f"name the file: {inside}" if inside.is_file() else "name a TOML file"
        raise InputError(f"{path} is a folder, not {what}", fix=fix) from None
    except PermissionError:
        raise InputError(f"{path} cannot be read", fix="check its permissions") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", fix="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"\(at line (\d+), column \d+\)", str(error))
        where = f"{path}:{match[1]}" if match else str(path)
        problem = Problem(where, re.sub(r" \(at .*\)", "", str(error)))
        raise InputError(f"{path.name} is not valid TOML", problems=[problem], fix="correct that line") from None


def load_config(path: Path) -> BuildConfig:
    """Read a build file. Raises InputError listing every problem with `file:line`; unknown keys come with a suggestion."""
    content, text = load_toml(path, "the build file")
    config = validate(BuildConfig, content, text, path)
    return _absolute(config, path.parent.absolute())


def validate(model: type[M], content: dict[str, Any], text: str, path: Path) -> M:
    """`content` as a `model`; a ValidationError becomes an InputError with the line in `text` of each problem."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [
            Problem(f"{path}:{_line_of(text, found['loc'])}", *_explain(model, found["type"], found["loc"], found))
            for found in error.errors()
        ]
        raise InputError(
            f"{path.name} has {len(problems)} problem{'s' * (len(problems) > 1)}", problems=problems
        ) from None


def _explain(model: type[BaseModel], kind: str, location: Sequence[str | int], found: Any) -> tuple[str, str]:
    """What is wrong and the fix, for one pydantic error."""
    name = ".".join(str(part) for part in location if not (isinstance(part, str) and part.startswith("function-")))
    if kind == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, 1)
        fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
        return f"unknown key {name}", fix
    if kind == "missing":
        return f"{name} is missing", f"add {location[-1]} = ..."
    message = found["msg"].removeprefix("Value error, ")
    message, _, fix = message.partition("; ")
    given = found.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) and repr(given) not in message else ""
    return (f"{name}: {message}{shown}" if name else f"{message}{shown}"), fix


def _fields_at(model: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    current: type[BaseModel] = model
    for part in location:
        field = current.model_fields.get(str(part))
        inner = field.annotation if field else None
        options = [t for t in (inner, *get_args(inner)) if isinstance(t, type) and issubclass(t, BaseModel)]
        if not options:
            return []
        current = options[0]
    return list(current.model_fields)


def _line_of(text: str, location: Sequence[str | int]) -> int:
    """Line of the deepest key of `location` that stands in the text (1-based). TOML parsers of the standard library keep
    no positions, so this reads headers and keys itself; a key inside an inline table is found on its table's line."""
    wanted = [str(part) for part in location if isinstance(part, str)]
    table: list[str] = []
    best, best_depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([^\]#]+?)\s*\]\]?\s*(?:#.*)?$", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            found = table
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            found = table + [part.strip("\"'") for part in key[1].split(".")]
        else:
            continue
        depth = next(
            (i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted))
        )
        if depth == len(found) and depth > best_depth:
            best, best_depth = number, depth
    return best


def _absolute(config: BuildConfig, base: Path) -> BuildConfig:
    """Relative paths made absolute against the build file's folder."""

    def fix(path: Path | None) -> Path | None:
        return None if path is None else (base / path.expanduser())

    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"path": fix(config.data.path)}),
            "teacher": config.teacher.model_copy(update={"checkpoint": fix(config.teacher.checkpoint)}),
        }
    )
