"""Intervals of accuracies against published values, against another way to compute them, and against what happens."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from edgedistill.base.intervals import (
    Z_ONE_SIDED,
    Z_TWO_SIDED,
    Answers,
    compare,
    images_of,
    lower_bound,
    pack,
    paired_lower_bound,
    resolves_loss,
    resolves_share,
    unpack,
    wilson_interval,
)

# -- one share ------------------------------------------------------------------------------------------------------


def test_the_quantiles() -> None:
    assert pytest.approx(stats.norm.ppf(0.975)) == Z_TWO_SIDED
    assert pytest.approx(stats.norm.ppf(0.95)) == Z_ONE_SIDED


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_wilson_intervals(right: int, count: int, low: float, high: float) -> None:
    """Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3."""
    assert wilson_interval(right / count, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_is_the_share_at_which_the_score_test_turns(count: int, part: float) -> None:
    share = round(part * count) / count
    low, high = wilson_interval(share, count)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            statistic = abs(share - end) / math.sqrt(end * (1 - end) / count)
            assert statistic == pytest.approx(Z_TWO_SIDED, rel=1e-6)
    assert low - 1e-12 <= lower_bound(share, count) <= share + 1e-12, "one side asks for less"


# -- a difference on the same images --------------------------------------------------------------------------------


def tango_by_another_way(gained: int, lost: int, count: int, z: float) -> float:
    """The lower end of Tango's interval as a root of his statistic with the restricted likelihood maximised numerically."""

    def statistic(difference: float) -> float:
        # Of the cells (gained, lost, neither) the shares are lost + difference, lost, and the rest.
        low, high = max(0.0, -difference), (1 - difference) / 2

        def loss(p: float) -> float:
            terms = ((gained, p + difference), (lost, p), (count - gained - lost, 1 - 2 * p - difference))
            return -sum(n * math.log(max(share, 1e-300)) for n, share in terms if n)

        found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
        p = min((low, high, float(found.x)), key=loss)
        variance = count * (2 * p + difference * (1 - difference))
        return (gained - lost - count * difference) / math.sqrt(variance)

    seen = (gained - lost) / count
    return float(optimize.brentq(lambda d: statistic(d) - z, -1 + 1e-9, seen - 1e-9, xtol=1e-10))


def test_a_published_paired_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airway hyper-responsiveness before and after, 1 and 7 discordant pairs of 21: Tango's two-sided 95% interval is -0.517
    to -0.026 (Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33)."""
    monkeypatch.setattr("edgedistill.base.intervals.Z_ONE_SIDED", Z_TWO_SIDED)
    assert paired_lower_bound(1, 7, 21) == pytest.approx(-0.517, abs=5e-4)
    assert -paired_lower_bound(7, 1, 21) == pytest.approx(-0.026, abs=5e-4), (
        "the upper end is that of the other way round"
    )


@pytest.mark.parametrize(
    ("gained", "lost", "count"), [(1, 7, 21), (40, 20, 160), (3, 12, 300), (0, 5, 300), (6, 0, 360), (90, 100, 10_000)]
)
def test_the_paired_bound_by_another_way(gained: int, lost: int, count: int) -> None:
    bound = paired_lower_bound(gained, lost, count)
    assert bound == pytest.approx(tango_by_another_way(gained, lost, count, Z_ONE_SIDED), abs=2e-6)


@pytest.mark.parametrize("count", [100, 300, 360, 10_000])
def test_of_two_files_that_agree_on_every_image_little_is_left(count: int) -> None:
    """Nothing gained and nothing lost: z^2 / (n + z^2), 0.9 points of 300 images."""
    assert paired_lower_bound(0, 0, count) == pytest.approx(-(Z_ONE_SIDED**2) / (count + Z_ONE_SIDED**2), abs=1e-9)
    if count == 300:
        assert -paired_lower_bound(0, 0, count) == pytest.approx(0.0089, abs=5e-5)


cells = st.integers(1, 2000).flatmap(
    lambda count: st.tuples(st.integers(0, count), st.integers(0, count), st.just(count)).filter(
        lambda of: of[0] + of[1] <= of[2]
    )
)


@given(cells)
def test_the_bound_is_below_what_was_seen(of: tuple[int, int, int]) -> None:
    gained, lost, count = of
    assert -1 <= paired_lower_bound(gained, lost, count) <= (gained - lost) / count


@given(cells)
def test_the_bound_rises_with_what_is_gained_and_falls_with_what_is_lost(of: tuple[int, int, int]) -> None:
    gained, lost, count = of
    if gained + lost < count:
        assert paired_lower_bound(gained + 1, lost, count) >= paired_lower_bound(gained, lost, count) - 1e-9
        assert paired_lower_bound(gained, lost + 1, count) <= paired_lower_bound(gained, lost, count) + 1e-9


@given(cells, st.integers(2, 20))
def test_more_images_bound_the_same_difference_closer(of: tuple[int, int, int], times: int) -> None:
    gained, lost, count = of
    more = paired_lower_bound(gained * times, lost * times, count * times)
    assert more >= paired_lower_bound(gained, lost, count) - 1e-9


@pytest.mark.parametrize(
    ("count", "gained", "lost"), list(product((300, 1000), (0.005, 0.02, 0.1), (0.005, 0.02, 0.1)))
)
def test_the_bound_covers_the_true_difference_as_often_as_it_says(count: int, gained: float, lost: float) -> None:
    """Of so many pairs of files. Where few images differ a score interval is a little off for the file that is the better
    one, which is where the bound decides nothing."""
    trials = 20_000
    drawn = np.random.default_rng(1).multinomial(count, [gained, lost, 1 - gained - lost], trials)
    pairs, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    covered = sum(
        n
        for (g, m), n in zip(pairs.tolist(), times.tolist())
        if paired_lower_bound(g, m, count) <= gained - lost + 1e-12
    )
    assert covered / trials >= (0.945 if gained <= lost else 0.92)


# -- whether a split is large enough --------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.8, 0.9, 0.97])
def test_a_share_is_resolved_from_some_count_on(limit: float) -> None:
    resolved = [resolves_share(limit, count) for count in range(10, 3000)]
    first = resolved.index(True)
    assert not any(resolved[:first]) and all(resolved[first:])
    count = 10 + first
    half = (1 + limit) / 2
    # Of the errors half are left: by so many standard errors of the limit's own.
    assert (half - limit) / math.sqrt(limit * (1 - limit) / count) == pytest.approx(Z_ONE_SIDED, rel=0.01)


@pytest.mark.parametrize("limit", [0.005, 0.01, 0.02, 0.05])
def test_a_loss_is_resolved_from_some_count_on(limit: float) -> None:
    counts = list(range(10, 6000, 7))
    resolved = [resolves_loss(limit, count) for count in counts]
    first = resolved.index(True)
    assert not any(resolved[:first]) and all(resolved[first:])
    assert 1 < counts[first] * limit < 20, "a handful of images are the loss"


def test_half_a_point_is_not_resolved_by_a_small_split() -> None:
    assert not resolves_loss(0.005, 360)
    assert resolves_loss(0.005, 10_000)
    assert not resolves_share(0.97, 50)
    assert resolves_share(0.97, 1000)


# -- answers --------------------------------------------------------------------------------------------------------

rights = st.lists(st.booleans(), min_size=1, max_size=200)


@given(rights, st.data())
def test_packed_answers_are_compared_image_by_image(ours: list[bool], data: st.DataObject) -> None:
    theirs = data.draw(st.lists(st.booleans(), min_size=len(ours), max_size=len(ours)))
    packed = pack(ours)
    assert len(packed) == 2 * math.ceil(len(ours) / 8)
    bits = bin(int(packed, 16))[2:].zfill(4 * len(packed))
    assert [bit == "1" for bit in bits][: len(ours)] == ours and "1" not in bits[len(ours) :]
    expected = sum(a and not b for a, b in zip(ours, theirs)), sum(b and not a for a, b in zip(ours, theirs))
    assert compare(packed, pack(theirs)) == expected
    assert compare(packed, packed) == (0, 0)


def answered(count: int, wrong: set[int], kept: bool = True) -> Answers:
    """Answers to so many images, those with these numbers wrong."""
    right = [image not in wrong for image in range(count)]
    return Answers(sum(right) / count, count, pack(right) if kept else "")


def test_a_difference_is_of_the_same_images() -> None:
    one, other = answered(1000, set(range(10))), answered(1000, set(range(5, 20)))
    assert one.lower_difference(other) == paired_lower_bound(10, 5, 1000)
    assert other.lower_difference(one) == paired_lower_bound(5, 10, 1000)
    assert one.lower_difference(answered(999, set())) is None
    assert one.lower_difference(answered(1000, set(), kept=False)) is None
    assert answered(1000, set(), kept=False).lower_difference(one) is None


BEFORE = answered(10_000, set(range(300)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (range(300), ""),
        (range(310), ""),
        (range(340), "loses 0.40 points, and with 95% confidence no more than"),
        (range(351), "loses 0.51 points, more than the 0.50 allowed"),
        (range(250), ""),
    ],
    ids=["the same", "a tenth of a point", "too close", "too much", "better"],
)
def test_what_is_lost_of_ten_thousand_images(wrong: range, said: str) -> None:
    found = answered(10_000, set(wrong)).loses(BEFORE, 0.005)
    assert found.startswith(said) and bool(found) is bool(said)


def test_the_bound_is_told_where_it_decides() -> None:
    bound = paired_lower_bound(0, 40, 10_000)
    assert answered(10_000, set(range(340))).loses(BEFORE, 0.005) == (
        f"loses 0.40 points, and with 95% confidence no more than {-bound * 100:.2f}, "
        "which is more than the 0.50 allowed"
    )


def test_as_many_right_on_other_images_may_still_be_a_loss() -> None:
    """Five hundred errors each, none in common: the difference seen is 0, and not known to half a point."""
    one, other = answered(10_000, set(range(500))), answered(10_000, set(range(2000, 2500)))
    assert one.loses(other, 0.005).startswith("loses 0.00 points, and with 95% confidence no more than 0.52")
    assert one.loses(other, 0.01) == ""


@pytest.mark.parametrize(("lost", "loses"), [(0, False), (1, False), (2, True)])
def test_where_the_split_is_too_small_what_was_seen_decides(lost: int, loses: bool) -> None:
    """Of 360 images one is 0.28 points: no bound of half a point could be kept."""
    before, after = answered(360, set(range(10))), answered(360, set(range(10 + lost)))
    assert bool(after.loses(before, 0.005)) is loses


@pytest.mark.parametrize(
    ("lost", "count", "said"),
    [
        (1, 54, ""),
        (2, 54, "loses 2 of 54 validation images, more than the 1 allowed"),
        (-3, 54, ""),
        (3, 360, ""),
        (4, 360, "loses 4 of 360 validation images, more than the 3 allowed"),
        (1, 1, ""),
    ],
)
def test_of_few_images_whole_ones_are_counted_and_one_may_be_lost(lost: int, count: int, said: str) -> None:
    """A hundredth of 54 images is less than one: a single image decided nothing but chance."""
    wrong = min(5, count - 1)
    before, after = answered(count, set(range(wrong))), answered(count, set(range(wrong + lost)))
    assert after.loses(before, 0.01) == said


@given(st.integers(1, 5000), st.floats(0, 0.2))
def test_images_that_may_be_lost_are_whole_ones_within_the_limit(count: int, limit: float) -> None:
    allowed = images_of(limit, count)
    assert allowed >= (limit > 0), "a limit of nothing lets nothing be lost"
    assert allowed == 1 or allowed / count <= limit + 1e-9
    assert (allowed + 1) / count > limit


def test_a_loss_of_exactly_what_is_allowed_is_allowed() -> None:
    before, after = answered(300, set()), answered(300, set(range(3)))
    assert before.quality - after.quality > 0.01 - 1e-12
    assert after.loses(before, 0.01) == ""


def test_where_it_was_not_kept_which_were_right_the_difference_decides() -> None:
    before = answered(10_000, set(range(300)), kept=False)
    assert answered(10_000, set(range(340))).loses(before, 0.005) == ""
    assert answered(10_000, set(range(351))).loses(before, 0.005)


@pytest.mark.parametrize(
    ("wrong", "count", "limit", "above"),
    [
        (20, 1000, 0.97, True),
        (28, 1000, 0.97, False),
        (1, 50, 0.97, True),
        (2, 50, 0.97, False),
    ],
    ids=["with confidence", "seen alone", "too few to tell", "too few and too low"],
)
def test_a_limit_is_reached_with_confidence_or_where_that_cannot_be_by_what_was_seen(
    wrong: int, count: int, limit: float, above: bool
) -> None:
    assert answered(count, set(range(wrong))).above(limit) is above


@given(st.integers(1, 2000), st.data(), st.floats(0.5, 0.99))
def test_what_is_above_a_limit_was_seen_above_it(count: int, data: st.DataObject, limit: float) -> None:
    answers = answered(count, set(range(data.draw(st.integers(0, count)))))
    assert answers.quality >= limit or not answers.above(limit)


@given(st.lists(st.booleans(), max_size=40))
def test_what_is_packed_is_unpacked(right: list[bool]) -> None:
    assert unpack(pack(right), len(right)) == right
