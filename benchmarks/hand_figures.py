"""The section of what `benchmarks/by_hand.py` found: a teacher by a script of timm alone, and by a build."""

from __future__ import annotations

import statistics

from sections import RESULTS, Section, result

SCRIPT, BUILD = "by_hand_teacher", "by_hand_fitted"


def sections() -> list[Section]:
    """One, where there are results."""
    if not all((RESULTS / f"{name}.json").is_file() for name in (SCRIPT, BUILD)):
        return []
    script, build = result(SCRIPT), result(BUILD)
    tried = list(dict.fromkeys(row["rate"] for row in script["rows"]))
    rates = ",".join(f"{rate:g}" for rate in tried)
    own = [(f"timm, rate {rate:g}", [row for row in script["rows"] if row["rate"] == rate]) for rate in tried]
    rows = tuple(
        (
            name,
            f"{len(found)}",
            *(f"{statistics.fmean(row[part] for row in found):.1%}" for part in ("validation", "test")),
        )
        for name, found in (*own, ("a build, default settings", build["rows"]))
    )
    if script["epochs"] != build["epochs"]:
        raise ValueError("the script and the build have fitted for different epochs")
    return [
        Section(
            "A teacher fitted by hand",
            f"`{script['model']}` with weights of ImageNet, fine-tuned at {script['resolution']} px to the clip art of "
            f"`examples/clipart` for {script['epochs']} epochs. `benchmarks/by_hand_timm.py` does it with timm alone: AdamW "
            f"with a layer decay of {script['layer_decay']:g}, RandAugment, random erasing, dropout, label smoothing and an "
            "average of the weights; the best epoch of each run is taken by the validation split. Each rate was tried with "
            f"seed 0, and the one that was best on validation, {script['tuned_rate']:g}, with the others. A build fits as "
            "`[teacher.fit]` does by default. "
            f"A point is {build['test_images'] / 100:.1f} of the {build['test_images']} pictures of the test split.",
            "C=examples/clipart; python $C/prepare.py\n"
            f"    python benchmarks/by_hand.py teacher $C/build.toml --model {script['model']} "
            f"--weights $C/lite2.safetensors --epochs {script['epochs']} --rates {rates} --json TEACHER\n"
            "    python benchmarks/by_hand.py fit $C/build.toml --json FITTED",
            ("fitted by", "#seeds", "#validation", "#test"),
            rows,
        )
    ]
