"""The sections of what `benchmarks/embedding.py` found: students of a teacher's vectors by recipe, and the files of one."""

from __future__ import annotations

from typing import Any

from sections import RESULTS, Section, result

NAME = "embedding"
BUILD = "embedding_build"
BUILD_FILE = "benchmarks/clip_art_embedding.toml"


def sections() -> list[Section]:
    """Two, where there are results."""
    if not (RESULTS / f"{NAME}.json").is_file():
        return []
    document = result(NAME)
    built = [_built(result(BUILD))] if (RESULTS / f"{BUILD}.json").is_file() else []
    return [_recipes(document), _files(document), *built]


def _built(found: dict[str, Any]) -> Section:
    low, high = found["quality_interval"]
    row = (
        f"`{found['student']}`, {found['precision']}",
        f"{found['quality']:.1%} ({low:.1%} to {high:.1%})",
        f"{found['teacher_quality']:.1%}",
        f"{found['p95_ms']:.3f}",
        f"{found['share']:.1%}",
        f"{found['bytes'] / 1e6:.2f}",
    )
    return Section(
        "Vectors: a build under a budget",
        f"A build of vectors for a budget of {found['budget']}: {found['status'].replace('_', ' ')}, after "
        f"{found['trials']} trials, by {found['sessions']} sessions. The {found['metric']} is on {found['test_images']} "
        "test pictures, with its 95% interval. The share is the median session's.",
        f"edgedistill build {BUILD_FILE} --target host --out OUT\n"
        "    python benchmarks/recorded_build.py OUT --json benchmarks/results/embedding_build.json",
        ("student", f"#{found['metric']}", "#the teacher's", "#p95 in ms", "#of the teacher's p95", "#MB"),
        (row,),
    )


def _command(document: dict[str, Any]) -> str:
    recipes = [row["recipe"] for row in document["compared"][1:]]
    seeds = max(row["seeds"] for row in document["compared"])
    return (
        "python examples/clipart/prepare.py\n"
        f"    python benchmarks/embedding.py {BUILD_FILE} --student {document['student_option']} "
        f"--recipes {','.join(recipes)} --seeds {seeds} --json FILE"
    )


def _recipes(document: dict[str, Any]) -> Section:
    teacher, first, *_ = document["compared"]
    cosine = {
        row["recipe"]: [one["cosine"] for one in document["rows"] if one["recipe"] == row["recipe"]]
        for row in document["compared"]
    }
    rows = tuple(
        (
            f"`{row['recipe']}`" if row is not teacher else "the teacher itself",
            *(_cell(row, figure) for figure in ("knn", "probe", "recall")),
            f"{sum(cosine[row['recipe']]) / len(cosine[row['recipe']]):.3f}",
        )
        for row in document["compared"]
    )
    return Section(
        "Vectors: students by recipe",
        f"The teacher is `{document['teacher']}` as it is after ImageNet; its vectors have {document['dimension']:,} "
        f"numbers. Students (`{document['student']}`) learnt those of {document['train_images']:,} pictures of clip art for "
        f"{document['epochs']} epochs, without labels, {first['seeds']} seeds by each recipe. The "
        f"figures are of the {document['test_images']} pictures of the test split, in {document['classes']} classes. "
        "k-NN is the accuracy of a vote of the 20 nearest training pictures. The probe is a logistic regression on the "
        "vectors of the training split; its strength was chosen on the validation split. Recall is how often the nearest "
        "other test picture is of the same class. The cosine is the mean one to the teacher's vectors. Behind a figure "
        f"stands its difference to `{first['recipe']}` by pairs of a seed, in points, with the 95% interval.",
        _command(document),
        ("learnt by", "#k-NN", "#probe", "#recall", "#cosine"),
        rows,
    )


def _cell(row: dict[str, Any], figure: str) -> str:
    text, points = f"{row[figure]:.1%}", row.get(f"{figure}_points")
    half = row.get(f"{figure}_half_width_points")
    return text if points is None or half is None else f"{text} ({points - half:+.1f} to {points + half:+.1f})"


def _files(document: dict[str, Any]) -> Section:
    first = document["compared"][1]["recipe"]
    own = next(row for row in document["rows"] if row["recipe"] == first and row["seed"] == 0)
    rows = tuple(
        (
            f"`{row['recipe'].partition(' ')[0]}`",
            row["recipe"].partition(" ")[2],
            *_of_file(row, own["recall_validation"]),
        )
        for row in document["rows"]
        if row["seed"] < 0
    )
    return Section(
        "Vectors: one student in five formats",
        f"The student by `{first}` with seed 0, whose recall on the validation split is {own['recall_validation']:.2%} as a "
        "torch program in fp32. Of each file: the mean and the least cosine of its vectors to those of that program, over "
        "the validation split, and what recall it loses beside it, in points, both on the same images. Another program may "
        "compute a file where the format's own runtime cannot run here, on fewer images; it is named.",
        _command(document),
        ("format", "precision", "#MB", "#cosine, mean", "#cosine, least", "#recall lost", "computed by"),
        rows,
    )


def _of_file(row: dict[str, Any], recall: float) -> tuple[str, ...]:
    if "problem" in row:
        return ("-", "-", "-", "-", row["problem"])
    size = f"{row['bytes'] / 1e6:.2f}"
    if "not_run" in row:
        other = row["stand_in_recall"]
        loses = "" if other is None else f"; a stand-in for it loses {_lost(recall, other)}"
        return (size, "-", "-", "-", f"not run: {row['not_run']}{loses}")
    lost = _lost(row["recall_program"], row["recall_validation"])
    told = f"{row['computed_by']}, {row['images']} images"
    return (size, f"{row['cosine_mean']:.5f}", f"{row['cosine_least']:.5f}", lost, told)


def _lost(recall: float, left: float) -> str:
    """In points."""
    return f"{100 * (recall - left):.2f}"
