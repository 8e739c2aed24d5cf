"""Which students start from pretrained weights: what `[space] pretrained` comes to, with the weights fetched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from edgedistill.base.errors import Collected, InputError, NotFetchedError, Problem
from edgedistill.base.progress import Note
from edgedistill.base.store import Store, stage_key, write_atomic
from edgedistill.distill.start import StartWeights, start_of, whole_network
from edgedistill.distill.train import weights_bytes
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.specs import StudentSpec
from edgedistill.networks import timm_weights
from edgedistill.networks.families.registry import DEFAULT, TIMM
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.bench import Bench
from edgedistill.pipeline.workbench import Workbench

STAGE: Final = "pretrained"
MODELS: Final = ("timm:mobilenetv4_conv_small", "timm:efficientnet_lite0", "timm:resnet18")
"""Those of a space that names no students: inverted bottlenecks, with the operations that int8 likes, residual blocks."""
MOST_IMAGES: Final = 20_000
"""Of `auto`: with more images, weights that were trained on other pictures are worth less than their size costs."""
SMALLEST_SIDE: Final = 48
"""Of `auto`, in pixels: timm's models halve maps five times, and smaller images leave nothing of them."""
OF_ONE_SIZE: Final = (
    "ask in [space] resolutions for the one that the weights were trained at, or let the model start from random weights "
    "(pretrained = false, no checkpoints)"
)


def settle_space(benches: Sequence[Workbench], *, fetch: bool = True) -> None:
    """Put into all `benches` the space with the weights that its students start from, and which could not be fetched. `auto`
    asks for them where there are few images, which are large enough, and goes on without those that cannot be had. With
    `fetch` off the space has all candidates, but not their weights. Raises InputError where weights that were asked for
    cannot be had."""
    space, not_fetched = settled(benches[0], fetch=fetch)
    for bench in benches:
        bench.space, bench.not_fetched = space, not_fetched
        bench.config = bench.config.model_copy(update={"space": space})


def settled(bench: Bench, *, fetch: bool = True) -> tuple[SpaceConfig, tuple[str, ...]]:
    """The space of `bench`, with a file of weights for each model that starts from such, and the models of which it could
    not be fetched; without `fetch` as if all of them were fetched, and what a build will fetch is told."""
    config, asked = bench.space, bench.space.pretrained
    own = not config.families and not config.models
    plain = config.model_copy(update={"pretrained": False})
    if asked is False or (asked == "auto" and not (worth_having(bench) and (own or config.models))):
        return plain, ()
    models = config.models or MODELS
    without = "it is left out" if own else "its students start from random weights"
    files, missing, not_fetched, later = dict(config.checkpoints), Collected(), [], []
    for name in models:
        if name in files:
            continue
        with missing:
            try:
                timm_weights.pretrained_settings(name.removeprefix(TIMM))
                if fetch:
                    files[name] = fetched(bench.store, name.removeprefix(TIMM))
                elif bench.store.find(STAGE, _key(name.removeprefix(TIMM))) is None:
                    later.append(name)
            except NotFetchedError:
                not_fetched.append(name)
                raise
    if asked is True:
        missing.raise_any()
    for error in missing.errors:
        bench.store.listener(Note(f"{error.message}: {without}", warning=not own))
    if later:
        without = "the build ends" if asked is True else without
        told = f"a build fetches the weights of {', '.join(later)}; where those of one cannot be had, {without}"
        bench.store.listener(Note(told))
    if own:
        models = tuple(name for name in models if name in files or not fetch)
    families = config.families or own * DEFAULT
    return plain.model_copy(update={"models": models, "checkpoints": files, "families": families}), tuple(not_fetched)


def require_starts(bench: Bench, candidates: Sequence[Candidate]) -> None:
    """See that students can start from their weights: they are loaded only after hours of the teacher's work.
    Raises InputError with each model, and where its shapes depend on that each resolution, whose weights do not fit."""
    found: dict[tuple[str, int | None], tuple[StartWeights, StudentSpec]] = {}
    for spec in (candidate.spec for candidate in candidates):
        if (start := start_of(bench.space, spec.family)) is not None:
            found[spec.family, spec.resolution if start.of_one_size else None] = start, spec
    problems = []
    for start, spec in found.values():
        try:
            whole_network(start, bench.contract_of(spec), seed=0)
        except InputError as error:
            first = f", such as {error.problems[0]}" if error.problems else ""
            fix = OF_ONE_SIZE if start.of_one_size else error.fix
            problems.append(Problem(f"{spec.family} at {spec.resolution} px", f"{error.message}{first}", fix))
    if problems:
        raise InputError("students cannot start from their weights", problems=problems)


def worth_having(bench: Bench) -> bool:
    """Whether `auto` wants them for this data."""
    return len(bench.dataset.splits.train) <= MOST_IMAGES and bench.source_side >= SMALLEST_SIDE


def fetched(store: Store, name: str) -> Path:
    """The file of the weights of timm's model `name`: fetched once, and called as timm calls them. Raises InputError."""

    def make(folder: Path) -> None:
        network = timm_weights.pretrained_network(name)
        settings: Any = network.pretrained_cfg
        own = ".".join(filter(None, (settings["architecture"], settings["tag"])))
        write_atomic(folder / f"{own}.safetensors", weights_bytes(network))

    folder = store.stage(STAGE, _key(name), make, subject=name)
    (file,) = folder.glob("*.safetensors")
    return file


def _key(name: str) -> str:
    return stage_key({"model": name}, tools=("timm",))
