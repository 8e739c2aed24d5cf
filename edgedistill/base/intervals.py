"""How sure an accuracy is: intervals of a share of images, and bounds of a difference on the same images. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_TWO_SIDED = 1.959963984540054
Z_ONE_SIDED = 1.6448536269514722
SMALL_SPLIT = 200
"""With fewer images one is more than half a point: what is seen of them ranks students only roughly."""


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95% interval of a share seen on `count` images (Wilson 1927, score interval)."""
    return _wilson(share, count, Z_TWO_SIDED)


def lower_bound(share: float, count: int) -> float:
    """What the true share is above with 95% confidence, `share` being seen on `count` images (Wilson 1927, one-sided)."""
    return _wilson(share, count, Z_ONE_SIDED)[0]


def _wilson(share: float, count: int, z: float) -> tuple[float, float]:
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(max(0.0, share * (1 - share) / count + z * z / (4 * count * count)))
    scale = 1 + z * z / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def paired_lower_bound(gained: float, lost: float, count: int) -> float:
    """What the difference of two qualities on the same `count` images is above with 95% confidence, where one is right and
    the other wrong on `gained` images, the other way round on `lost` (Tango 1998, one-sided score interval). In -1..1.

    With nothing gained and nothing lost it is not 0: 300 images on which two files agree leave room for 0.9 points.
    """
    low, high = -1.0, (gained - lost) / count
    for _ in range(60):
        middle = (low + high) / 2
        if _score(middle, gained, lost, count) > Z_ONE_SIDED:
            low = middle
        else:
            high = middle
    return high


def _score(difference: float, gained: float, lost: float, count: int) -> float:
    """Tango's statistic for a true `difference`: by how many standard errors what was seen is above it. The standard error
    is that of the likeliest share of `lost` images under that difference, the root of a quadratic."""
    a = 2.0 * count
    b = -gained - lost + (2 * count - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    likeliest = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = count * (2 * likeliest + difference * (1 - difference))
    above = gained - lost - count * difference
    if variance <= 0:
        return 0.0 if above <= 0 else math.inf
    return above / math.sqrt(variance)


def resolves_share(limit: float, count: int) -> bool:
    """Whether `count` images can tell a share at `limit` from one with half of its errors: whether the latter's bound is
    above it."""
    return lower_bound((1 + limit) / 2, count) >= limit


def resolves_loss(limit: float, count: int) -> bool:
    """Whether `count` images can tell a file that loses `limit` from one that loses half of it."""
    return paired_lower_bound(0, limit * count / 2, count) >= -limit


def images_of(limit: float, count: int) -> int:
    """The images that a loss of `limit` is of `count` ones. Of a limit above zero it is at least one: a single image is what
    chance may take."""
    whole = math.floor(limit * count + 1e-9)
    return max(1, whole) if limit > 0 else whole


def pack(right: list[bool]) -> str:
    """One bit an image, in order, as hexadecimal digits; the last byte is filled up with zeros."""
    bits = "".join("1" if one else "0" for one in right)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).hex()


def unpack(right: str, images: int) -> list[bool]:
    """What was packed, of so many images."""
    bits = "".join(f"{byte:08b}" for byte in bytes.fromhex(right))
    return [bit == "1" for bit in bits[:images]]


def compare(ours: str, theirs: str) -> tuple[int, int]:
    """From two packed records of the same images: on how many ours is right and theirs wrong, and the other way round."""
    mine, others = int(ours or "0", 16), int(theirs or "0", 16)
    return (mine & ~others).bit_count(), (others & ~mine).bit_count()


@dataclass(frozen=True)
class Answers:
    """How a file answered `images` images: its `quality` (0 to 1), and which it got `right` (see `pack`; empty where that
    was not kept)."""

    quality: float
    images: int
    right: str = ""

    def above(self, limit: float) -> bool:
        """Whether the true quality reaches `limit` with 95% confidence; where the images are too few to tell, whether the
        quality seen does."""
        return (lower_bound(self.quality, self.images) if resolves_share(limit, self.images) else self.quality) >= limit

    def lower_difference(self, other: Answers) -> float | None:
        """What the true difference to `other` is above with 95% confidence; None where the two did not answer the same
        images, or it was not kept which were right."""
        if not self.right or len(self.right) != len(other.right) or self.images != other.images:
            return None
        return paired_lower_bound(*compare(self.right, other.right), self.images)

    def loses(self, before: Answers, limit: float) -> str:
        """Why this file loses more than `limit` of the quality `before`, empty if it does not: by the bound of the paired
        difference. Where the images are too few to tell, what is seen decides, in whole images (`images_of`)."""
        loss = before.quality - self.quality
        if not resolves_loss(limit, self.images):
            lost, may_be_lost = round(loss * self.images), images_of(limit, self.images)
            told = f"loses {lost} of {self.images} validation images, more than the {may_be_lost} allowed"
            return told if lost > may_be_lost else ""
        words, bound = f"loses {loss * 100:.2f} points", self.lower_difference(before)
        allowed = f"more than the {limit * 100:.2f} allowed"
        # Qualities are shares of whole images: a loss of exactly what is allowed must not fail by the last bit.
        if loss > limit + 1e-9:
            return f"{words}, {allowed}"
        if bound is not None and -bound > limit:
            return f"{words}, and with 95% confidence no more than {-bound * 100:.2f}, which is {allowed}"
        return ""
