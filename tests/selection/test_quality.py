"""The quality model on made-up students whose final accuracy follows a law, seen through early rungs that blur it."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest
from made_up_lab import made_candidate

from edgedistill.networks.space import Candidate
from edgedistill.selection.quality import LEAST_FINISHED, Curve, QualityModel, scored, unscored

FAMILIES = {"convnext": -0.10, "repvgg": 0.0, "resnet": 0.10}
SPACE = [made_candidate(f, 0.1 * n, 10_000 * 2**n, 16) for f in FAMILIES for n in range(1, 11)]


def final(candidate: Candidate) -> float:
    """Score after the last rung: a line in log work, an offset for the family."""
    return 1.5 + 0.08 * math.log2(candidate.multiply_adds / 10_000) + FAMILIES[candidate.spec.family]


def curve(candidate: Candidate, *epochs: int, noise: float = 0.0, seed: int = 0) -> Curve:
    drawn = random.Random(f"{candidate.spec.label} {seed}")
    worth = {2: lambda s: 1.6 * s - 1.4, 4: lambda s: 1.2 * s - 0.6, 8: lambda s: s}
    return Curve(candidate, {e: unscored(worth[e](final(candidate)) + drawn.gauss(0, noise)) for e in epochs})


def test_nothing_is_said_before_anyone_has_finished() -> None:
    early = [curve(candidate, 2, 4) for candidate in SPACE[:10]]
    assert QualityModel.fit(early, SPACE, 8) is None
    enough = [*early, *(curve(c, 2, 4, 8) for c in SPACE[10 : 10 + LEAST_FINISHED])]
    assert QualityModel.fit(enough, SPACE, 8) is not None


@pytest.mark.parametrize("quality", [0.0, 0.5, 0.9, 0.97, 0.9989])
def test_scores_and_qualities_go_back_and_forth(quality: float) -> None:
    assert unscored(scored(quality)) == pytest.approx(quality)


def test_perfect_quality_has_a_score() -> None:
    assert math.isfinite(scored(1.0)) and unscored(-0.3) == 0.0


def test_the_untrained_are_ranked_by_what_the_trained_showed() -> None:
    trained = SPACE[::3]
    model = QualityModel.fit([curve(c, 2, 4, 8, noise=0.01) for c in trained], SPACE, 8)
    assert model is not None
    fresh = [c for c in SPACE if c not in trained]
    mean, _ = model.predict(fresh)
    true = np.array([final(c) for c in fresh])
    assert np.corrcoef(mean, true)[0, 1] > 0.95
    assert np.abs(mean - true).mean() < 0.06


@pytest.mark.parametrize("noise", [0.03, 0.08])
def test_intervals_hold_what_comes(noise: float) -> None:
    held = total = 0
    for seed in range(6):
        order = random.Random(seed).sample(SPACE, len(SPACE))
        curves = [curve(c, 2, 4, 8, noise=noise, seed=seed) for c in order[:8]]
        curves += [curve(c, 2, noise=noise, seed=seed) for c in order[8:12]]
        model = QualityModel.fit(curves, SPACE, 8)
        assert model is not None
        for candidate, (low, _, high) in zip(order[8:], model.intervals(order[8:]), strict=True):
            came = curve(candidate, 8, noise=noise, seed=seed).quality[8]
            held += low <= came <= high
            total += 1
    assert held / total > 0.85


def test_an_early_rung_tells_of_its_own_student() -> None:
    """Of two students of one size and family the one with the better first rung is expected to end better."""
    twins = [made_candidate("resnet", width, 200_000, 16) for width in (0.31, 0.32)]
    curves = [curve(c, 2, 4, 8) for c in SPACE[::4]]
    model = QualityModel.fit([*curves, Curve(twins[0], {2: 0.60}), Curve(twins[1], {2: 0.75})], [*SPACE, *twins], 8)
    assert model is not None
    (worse, better), (spread, _) = model.predict(twins)
    assert better > worse
    unseen = made_candidate("resnet", 0.33, 200_000, 16)
    _, (alone,) = model.predict([unseen])
    assert spread < alone, "what was seen of a student makes one surer of it"


def test_chances_fall_with_what_is_asked() -> None:
    model = QualityModel.fit([curve(c, 2, 4, 8) for c in SPACE[::4]], SPACE, 8)
    assert model is not None
    chances = [float(model.reach([SPACE[1]], [quality])[0]) for quality in (0.5, 0.7, 0.8, 0.9, 0.99)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.95 and chances[-1] < 0.05


def test_each_candidate_has_its_own_quality_to_reach() -> None:
    """What a file loses of its torch model's accuracy differs with the precision that each should do best in."""
    model = QualityModel.fit([curve(c, 2, 4, 8) for c in SPACE[::4]], SPACE, 8)
    assert model is not None
    wanted = [0.7, 0.9, 1.0, 1.3]
    together = model.reach(SPACE[:4], wanted)
    alone = [float(model.reach([c], [quality])[0]) for c, quality in zip(SPACE[:4], wanted, strict=True)]
    assert together.tolist() == pytest.approx(alone)
    assert together[2:].tolist() == [0.0, 0.0], "no student is right more than always"


def test_no_student_beats_one_that_is_always_right() -> None:
    """Errors below a floor count alike, so that by the score alone many would."""
    perfect = [Curve(c, {2: 0.99, 4: 0.999, 8: 1.0}) for c in SPACE[::4]]
    model = QualityModel.fit(perfect, SPACE, 8)
    assert model is not None
    assert model.reach(SPACE, [1.0] * len(SPACE)).tolist() == [0.0] * len(SPACE)
    assert model.reach(SPACE, [0.99] * len(SPACE)).min() > 0.5


def test_hundreds_of_earlier_students_are_all_known_and_take_little_time() -> None:
    """They come by a warm start."""
    space = [made_candidate(f, 0.02 * n, 10_000 * n, 16) for f in FAMILIES for n in range(1, 201)]
    curves = [curve(c, 2, 4, *([8] if n % 2 else []), noise=0.01) for n, c in enumerate(space[::2])]
    lucky = curves[7].candidate
    curves[7] = Curve(lucky, {8: unscored(final(lucky) + 0.5)})
    began = time.monotonic()
    model = QualityModel.fit(curves, space, 8)
    assert model is not None and len(curves) == 300
    fresh = space[1::2]
    mean, _ = model.predict(fresh)
    assert time.monotonic() - began < 5, "it takes a tenth of a second"
    assert np.abs(mean - np.array([final(c) for c in fresh])).mean() < 0.06
    without = QualityModel.fit([c for c in curves if c.candidate is not lucky], space, 8)
    assert without is not None
    assert model.predict([lucky])[0][0] > without.predict([lucky])[0][0] + 0.01


def test_a_rung_from_which_no_student_went_on_says_nothing() -> None:
    """Of an earlier search that had other rungs."""
    curves = [curve(c, 2, 4, 8) for c in SPACE[::4]]
    model = QualityModel.fit(curves, SPACE, 8)
    more = QualityModel.fit([*curves, Curve(SPACE[1], {3: 0.2})], SPACE, 8)
    assert model is not None and more is not None
    assert more.predict(SPACE)[0].tolist() == pytest.approx(model.predict(SPACE)[0].tolist())


def test_how_far_students_lie_apart_is_learnt() -> None:
    """Data sets differ in how much a family and a size are worth."""
    order = random.Random(0).sample(SPACE, len(SPACE))
    deviations = []
    for stretch in (0.3, 1.0, 3.0):
        seen = [curve(c, 2, 4, 8, noise=0.03) for c in order]
        drawn = [Curve(c.candidate, {e: unscored(stretch * scored(a)) for e, a in c.quality.items()}) for c in seen]
        model = QualityModel.fit(drawn[:12], SPACE, 8)
        assert model is not None
        mean, deviation = model.predict(order[12:])
        missed = np.array([scored(c.quality[8]) for c in drawn[12:]]) - mean
        assert np.mean(np.abs(missed) < 2 * deviation) > 0.85
        deviations.append(float(deviation.mean()))
    assert deviations[0] < deviations[1] < deviations[2] / 1.2
