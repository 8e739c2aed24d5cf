"""Images that tell which of them were decoded."""

from __future__ import annotations

from edgedistill.data.sources import ImageSource, Pixels


class Counting:
    """`images`, and which of them were asked for."""

    decoded = False

    def __init__(self, images: ImageSource) -> None:
        self.images = images
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Pixels:
        self.asked.append(index)
        return self.images[index]
