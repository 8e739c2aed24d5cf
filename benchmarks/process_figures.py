"""The section of what `benchmarks/processes.py` found: one student trained by one process and by several."""

from __future__ import annotations

from sections import RESULTS, Section, result

NAME = "processes"
_SLOWER = (
    " They are slower here: at every batch norm they wait for each other, and it takes several operations where one process "
    "has a single one. They are meant for GPUs, which were not measured."
)


def sections() -> list[Section]:
    """One, where there are results."""
    if not (RESULTS / f"{NAME}.json").is_file():
        return []
    document = result(NAME)
    settings, rows = document["settings"], document["rows"]
    several = rows[0]["processes"]
    fashion = settings["data"] != "None"
    given = settings | {"data": "FASHION_MNIST"}
    options = "".join(f" --{key} {value}" for key, value in given.items() if key != "data" or fashion)
    slower = all(row["images_per_second"][f"{several}"] < row["images_per_second"]["1"] for row in rows)
    of = "Fashion-MNIST" if fashion else "scikit-learn's digits"
    return [
        Section(
            "One student by several processes",
            f"`{settings['student']}` on {int(settings['images']):,} images of {of} for {settings['epochs']} epochs in "
            f"batches of {settings['batch']}, by one process and by {several} (`[train] processes`), which see the same "
            "batches in the same order. The difference is the greatest one of the two loss curves over all steps. Beside it "
            "stands that of one process to itself from initial weights that were changed by 1e-7 of their size each, as "
            "rounding does. Images a second are of the whole training without the start of the processes, which have the "
            f"threads of the one between them.{_SLOWER if slower else ''}",
            f"python benchmarks/processes.py --json FILE{options}",
            ("recipe", "#steps", "#difference", "#of rounding", "#images/s by 1", f"#by {several}"),
            tuple(
                (
                    f"`{row['recipe']}`",
                    f"{row['steps']}",
                    f"{row['difference']:.1e}",
                    f"{row['difference_of_rounding']:.1e}",
                    *(f"{value:,.0f}" for value in row["images_per_second"].values()),
                )
                for row in rows
            ),
        )
    ]
