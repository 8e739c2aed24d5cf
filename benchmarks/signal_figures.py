"""The section of what `benchmarks/signals.py` found: what stored signals cost, and how true they are."""

from __future__ import annotations

from sections import RESULTS, Section, result

NAME = "signals"


def sections() -> list[Section]:
    """One, where there is a result."""
    if not (RESULTS / f"{NAME}.json").is_file():
        return []
    found = result(NAME)
    speed, size, spread = found["speed"], found["size"], found["speed"]["spread"]
    rows = [
        (
            f"images/s, from {name}",
            f"{speed['images_per_second'][kind]:,.0f} ({spread[kind][0]:,.0f} to {spread[kind][1]:,.0f})",
        )
        for kind, name in (
            ("labels", "labels alone"),
            ("stored", "a teacher's stored logits"),
            (
                "live",
                f"the live teacher, {speed['teacher_by_student_multiply_adds']:.1f} times the student's multiply-adds",
            ),
        )
    ]
    rows += [
        ("stored logits, by labels alone", f"{speed['stored_by_labels']:.2f}"),
        ("stored logits, by the live teacher", f"{speed['stored_by_live']:.2f}"),
        (f"size of {size['classes']:,} logits on {size['views']:,} views", f"{size['bytes'] / 1e9:.2f} GB"),
        ("growth of the process while it reads all of them", f"{size['growth_bytes'] / 1e6:.0f} MB"),
    ]
    rows += [
        (
            f"gradient of bytes beside that of 16 bits, {one['logits']}, T = {one['temperature']:g}: cosine",
            f"{one['cosine']:.5f}",
        )
        for one in found["truth"]
    ]
    return [
        Section(
            "Stored signals",
            "A student of 32 px learns on the same views from labels alone, from a teacher's stored logits and from the "
            "live teacher, in turn: medians, with the least and the most. The gradients are those of `kl` by the student's "
            "logits.",
            "python benchmarks/signals.py --json FILE --weights WEIGHTS --pictures FOLDER",
            ("what", "#figure"),
            tuple(rows),
        )
    ]
