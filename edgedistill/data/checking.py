"""Which files of a folder can be used as images.

Every file is decoded once before anything is built on it, and what was found is remembered by the hash of its content.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image

from edgedistill.base.errors import Problem
from edgedistill.base.progress import Listener, Note
from edgedistill.base.store import tool_version
from edgedistill.base.units import format_color
from edgedistill.data.content import Scan, Verdict, known_verdicts, remember_verdicts
from edgedistill.data.images import CHECK_VERSION, check_image
from edgedistill.data.labelling import is_image
from edgedistill.data.problems import listed, some_of
from edgedistill.data.threads import in_threads, told_if_slow
from edgedistill.documents.build_file import DataConfig


def usable(
    paths: Sequence[str], found: Scan, config: DataConfig, problems: list[Problem], listener: Listener
) -> frozenset[str]:
    """Those of `paths` that can be used as images. The others are added to `problems`, or `listener` is warned of them where
    `config.skip_broken` leaves them out. It also hears how many are transparent, and how far a long check is."""
    names = [path for path in paths if is_image(path)]
    verdicts = _verdicts(names, found, listener)
    strangers = {path: Verdict("is not an image by its name") for path in paths if path not in verdicts}
    faults = {path: verdict.fault for path, verdict in {**verdicts, **strangers}.items() if verdict.fault}
    broken = [
        Problem(
            path, fault, "save it as JPEG or PNG, or move it away" if path in strangers else "replace it or remove it"
        )
        for path, fault in sorted(faults.items())
    ]
    if not config.skip_broken:
        problems += broken
    elif broken:
        told = f"{len(broken)} files are left out" if len(broken) > 1 else "1 file is left out"
        seen = some_of([f"{found.relative(problem.where)} {problem.what}" for problem in broken])
        listener(Note("; ".join(filter(None, (f"{told}: {seen}", listed(broken)))), warning=True))
    transparent = sum(verdict.transparent for verdict in verdicts.values())
    if transparent:
        what = f"put on {format_color(config.background)} ([data] background)"
        listener(Note(f"{transparent} of {len(names)} images are transparent in parts: they are {what}"))
    return frozenset(paths) - faults.keys()


def _verdicts(paths: Sequence[str], found: Scan, listener: Listener) -> dict[str, Verdict]:
    """What was found of each file. Contents decoded before, by the same Pillow, are not decoded again."""
    contents = found.contents
    checker = f"image {CHECK_VERSION} pillow {tool_version('pillow')}"
    path_of = {contents[path].sha256: path for path in paths if not contents[path].fault}
    known = known_verdicts(checker, path_of)
    unknown = [sha256 for sha256 in path_of if sha256 not in known]
    files = [Path(path_of[sha256]) for sha256 in unknown]
    new: dict[str, Verdict] = {}
    try:
        # Pillow decodes outside the interpreter's lock, so threads do it in parallel. What it warns of, too large an image,
        # is a fault of its own here.
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            told_if_slow(listener, "decode", found.folder.name, len(files)) as advance,
            closing(in_threads(check_image, files, advance)) as results,
        ):
            new.update(zip(unknown, results, strict=True))
    finally:
        remember_verdicts(checker, new)
    return {path: _verdict(found, path, {**known, **new}) for path in paths}


def _verdict(found: Scan, path: str, by_content: Mapping[str, Verdict]) -> Verdict:
    content = found.contents[path]
    return Verdict(content.fault) if content.fault else by_content[content.sha256]
