"""Sections of what `benchmarks/rates.py` found: the learning rate that suits each family of students."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sections import RESULTS, Section, result

Row = dict[str, Any]
COMMAND = "python benchmarks/rates.py FASHION_MNIST --work DIR --json FILE"


@dataclass(frozen=True)
class Trial:
    """A result of `benchmarks/rates.py`: `name` is its file in benchmarks/results, without the suffix; `options` are those
    of the command, `text` says what it is for."""

    name: str
    title: str
    text: str
    options: str

    @property
    def found(self) -> bool:
        return (RESULTS / f"{self.name}.json").is_file()

    def section(self) -> Section:
        document = result(self.name)
        rates = list(document["compared"][0]["quality"])
        pairs = max(row["pairs"] for row in document["compared"])
        return Section(
            self.title,
            f"{self.text} Batches of {document['batch']}, {document['steps']:,} steps on {document['images']:,} images of "
            f"Fashion-MNIST, from labels alone; validation accuracy of the averaged weights, the mean of {_runs(pairs)}. "
            "The optimum is the top of a parabola through the best rate and its neighbours.",
            f"{COMMAND} {self.options}",
            ("family", "student", *(f"#{rate}" for rate in rates), "#optimum"),
            tuple(
                (
                    row["family"],
                    ", ".join(name.removeprefix(f"{row['family']} ") for name in row["optimum_by_student"]),
                    *("failed" if row["quality"][rate] is None else f"{row['quality'][rate]:.1%}" for rate in rates),
                    f"{row['optimum']:.2g}",
                )
                for row in document["compared"]
            ),
        )


TRIALS = (
    Trial(
        "rates",
        "Learning rates by family",
        "One rate for all families favours some of them. The rates are those of `[train] learning_rate`.",
        "--steps 700 --seeds 1 --sizes 3 --rates 0.001,0.002,0.004,0.008,0.016,0.032",
    ),
    Trial(
        "rates_large",
        "Learning rates of larger students",
        "Students of about 60 million multiply-adds, twenty times those above. Wide networks need lower rates.",
        "--steps 300 --seeds 1 --sizes 60 --families mobilenetv4,mobileone,vit,resnet --rates 0.002,0.004,0.008,0.016,0.032",
    ),
    Trial(
        "rates_small_batches",
        "Learning rates in small batches",
        "Few images are learnt in small batches. Much the same rates are best there.",
        "--images 400 --batch 16 --steps 512 --sizes 3 --families mobilenetv4,resnet,vit,mobileone,efficientnet_lite "
        "--rates 0.001,0.002,0.004,0.008,0.016",
    ),
)


def sections() -> list[Section]:
    """Those that have results."""
    return [one.section() for one in TRIALS if one.found]


def _runs(pairs: int) -> str:
    return "one run" if pairs == 1 else f"{pairs} runs"
