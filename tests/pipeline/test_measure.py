"""Sessions on a device that answers what a test says: compared with the anchor, taken for a proof, kept, and taken again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from factories import make_artifact, make_profile, make_session

from edgedistill.base import store
from edgedistill.base.errors import TrialFailure, UnsupportedError
from edgedistill.base.progress import Event, Note, StageFinished
from edgedistill.base.store import Store
from edgedistill.data.synthetic import synthetic_dataset
from edgedistill.devices.proof import CONFIDENCE, HEADROOM, ProofPlan
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError
from edgedistill.documents.artifacts import CompiledArtifact, Inspected, SchemeResult, TrainedStudent
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.measurements import MeasuredLatency, Moment, Percentiles, Profile, Proof, UnknownLatency
from edgedistill.documents.specs import Budget, Format, Percentile, Precision, ProofLevel, StudentSpec, Target
from edgedistill.pipeline import measure as measuring
from edgedistill.pipeline.bench import Data, Source
from edgedistill.pipeline.lab import Laboratory, goal_of
from edgedistill.pipeline.measure import (
    SCALE_SESSIONS,
    anchor_source,
    compared,
    comparison,
    first_sessions,
    latency_of,
    profile_key,
    relative_p50,
    scale_alone,
    scale_beside,
    sessions,
)
from edgedistill.pipeline.meter import Meter, Scale
from edgedistill.pipeline.workbench import Workbench

TARGET = Target(
    name="board",
    title="A board",
    runtime=Format.NULL,
    formats=(Format.NULL,),
    precisions=(Precision.FP32,),
    transport="local",
)
FILE, ANCHOR, TEACHER = (make_artifact(sha256=name, target="board") for name in ("file", "anchor", "teacher"))
RUNS = 400
P95 = Percentile.P95


class Device:
    """What a key asks of it."""

    def __init__(self) -> None:
        self.memory = "4 GiB"

    def facts(self, runtime: str = "") -> dict[str, str]:
        return {"memory": self.memory}


class Board:
    """A runtime whose sessions last as long as `latency_ms` says of a file's hash and the session's place. A tenth of a
    file's runs takes longer, by its factor of `tails` with each session."""

    def __init__(self, latency_ms: Callable[[str, int], float]) -> None:
        self.latency_ms = latency_ms
        self.taken: list[tuple[str, str | None]] = []
        self.asked: list[MeasurementProtocol] = []
        self.lost_after: int | None = None
        self.tails: dict[str, float] = {}

    def profile(self, artifact: CompiledArtifact, inputs: Any, protocol: MeasurementProtocol) -> Profile:
        if self.lost_after is not None and len(self.taken) >= self.lost_after:
            raise NotRunnableError("the board is gone")
        place, anchor = len(self.taken), protocol.anchor
        self.taken.append((artifact.sha256, anchor.sha256 if anchor else None))
        self.asked.append(protocol)
        mine = [round(self.latency_ms(artifact.sha256, place) * 1e6)] * RUNS
        longer = self.tails.get(artifact.sha256, 1.0) ** (place + 1)
        mine[-RUNS // 10 :] = [round(ns * longer) for ns in mine[-RUNS // 10 :]]
        its = [round(self.latency_ms(anchor.sha256, place) * 1e6)] * RUNS if anchor else []
        session = make_session(mine, its, start=moment(place, 0), end=moment(place, 3), peak_memory_bytes=100 + place)
        taken = make_profile(session, artifact_sha256=artifact.sha256, target="board")
        return taken.model_copy(update={"anchor_sha256": anchor.sha256 if anchor else None})


def moment(place: int, second: int) -> Moment:
    return Moment(at=f"2026-01-02T03:{place // 15:02}:{4 * (place % 15) + second:02}.000+00:00")


def steady(sha256: str, place: int) -> float:
    """The board gets slower from session to session; the anchor takes 2 ms, the teacher 8, the file 1.5 in the first."""
    return {"file": 1.5, "anchor": 2.0, "teacher": 8.0}[sha256] * (1 + place / 10)


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("edgedistill.pipeline.measure.time.sleep", slept.append)
    return slept


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    made = Board(steady)
    monkeypatch.setattr(measuring, "format_for", lambda form: made)
    monkeypatch.setattr(measuring, "anchor_file", lambda bench: ANCHOR)
    return made


@pytest.fixture
def bench(tmp_path: Path, heard: list[Event], pauses: list[float]) -> Workbench:
    return bench_of(tmp_path, heard)


def bench_of(folder: Path, heard: list[Event], **config: Any) -> Workbench:
    settings: dict[str, Any] = {
        "teacher": {"model": "timm:resnet10t"},
        "budget": "5ms",
        "profile": {"compare": "2s", "session": "4s", "pause": "700ms", "burst": "6ms"},
    }
    read = BuildConfig.model_validate(settings | config)
    ones = (1.0, 1.0, 1.0)
    data, device = Data(synthetic_dataset(4, 8, 8, 16), ones, ones), cast("Any", Device())
    meter = Meter(TARGET, device, "", read.profile, read.budget.percentile)
    return Workbench.of(read, TARGET, data, Store(folder / "cache", heard.append), meter, folder)


def source(bench: Workbench) -> Source:
    def load() -> Any:
        raise AssertionError("nothing is converted here")

    return Source("student", "key", bench.contract(16), load)


def scale(anchor: CompiledArtifact = ANCHOR) -> Scale:
    return Scale(anchor, Percentiles(p50=2.0, p95=3.0, p99=4.0), 0.05, "then")


@pytest.mark.parametrize(("tool", "again"), [("onnxruntime", True), ("executorch", False)])
def test_a_session_of_an_onnx_file_is_taken_again_with_another_onnx_runtime_alone(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, tool: str, again: bool
) -> None:
    file, real = make_artifact(format=Format.ONNX), store.distribution_of
    before = profile_key(bench, file, comparison(bench))
    monkeypatch.setattr(store, "distribution_of", lambda name: (name, "999") if name == tool else real(name))
    assert (profile_key(bench, file, comparison(bench)) != before) is again


# -- the anchor -----------------------------------------------------------------------------------------------------


def test_the_anchor_is_the_same_network_everywhere() -> None:
    """Whatever was drawn before, and without a change to what is drawn next."""
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    first = anchor_source().load().state_dict()
    assert torch.equal(torch.rand(3), drawn)
    second = anchor_source().load().state_dict()
    assert first.keys() == second.keys() and len(first) > 10
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_where_the_anchor_cannot_be_made_nothing_is_measured(
    bench: Workbench, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(bench: Workbench) -> CompiledArtifact:
        raise UnsupportedError("no convolutions")

    monkeypatch.setattr(measuring, "anchor_file", refused)
    scale_alone(bench)
    assert bench.meter.scale is None and board.taken == []
    assert bench.meter.not_measurable == "the anchor network cannot be made in null: no convolutions"


# -- one session ----------------------------------------------------------------------------------------------------


def test_a_file_is_compared_in_turn_with_the_anchor(bench: Workbench, board: Board) -> None:
    bench.meter.scale = scale()
    profile = compared(bench, FILE, source(bench))
    assert profile is not None and board.taken == [("file", "anchor")]
    (asked,) = board.asked
    assert (asked.seconds, asked.burst_s, asked.min_runs) == (2.0, 0.006, 60)
    latency = latency_of(bench, profile)
    assert isinstance(latency, MeasuredLatency) and latency.relative is not None
    assert latency.relative.p95 == pytest.approx(0.75)
    assert latency.comparable(P95) == pytest.approx(0.75 * 3.0)
    assert latency.at(P95) == pytest.approx(1.5)


def test_a_session_is_taken_once(bench: Workbench, board: Board, heard: list[Event], pauses: list[float]) -> None:
    bench.meter.scale = scale()
    first = compared(bench, FILE, source(bench))
    assert compared(bench, FILE, source(bench)) == first
    assert len(board.taken) == 1 and pauses == []
    sessions = [event for event in heard if isinstance(event, StageFinished) and event.stage == "profile"]
    assert [event.reused for event in sessions] == [False, True]


def other_occasion(bench: Workbench) -> None:
    bench.meter.occasion = "2026-02-03"


def other_memory(bench: Workbench) -> None:
    device: Any = bench.meter.device
    device.memory = "8 GiB"


def other_target(bench: Workbench) -> None:
    bench.target = bench.target.model_copy(update={"threads": 2})


def other_anchor(bench: Workbench) -> None:
    bench.meter.scale = scale(TEACHER)


def other_length(bench: Workbench) -> None:
    bench.meter.settings = bench.meter.settings.model_copy(update={"compare": 3000.0})


def other_percentile(bench: Workbench) -> None:
    bench.meter.percentile = Percentile.P99


@pytest.mark.parametrize(
    "change", [other_occasion, other_memory, other_target, other_anchor, other_length, other_percentile]
)
def test_a_session_of_before_does_not_serve_where_it_would_be_another(
    bench: Workbench, board: Board, change: Callable[[Workbench], None]
) -> None:
    bench.meter.scale = scale()
    compared(bench, FILE, source(bench))
    change(bench)
    compared(bench, FILE, source(bench))
    assert len(board.taken) == 2


@pytest.mark.parametrize("change", ["proof", "sustained"])
def test_how_much_is_claimed_changes_no_session(bench: Workbench, board: Board, change: str) -> None:
    """A proof at another level begins with the sessions that were taken."""
    bench.meter.scale = scale()
    first_sessions(bench, FILE, source(bench), None, 3)
    value = {"proof": ProofLevel.THOROUGH, "sustained": 9000.0}[change]
    bench.meter.settings = bench.meter.settings.model_copy(update={change: value})
    first_sessions(bench, FILE, source(bench), None, 3)
    assert len(board.taken) == 3


def test_two_files_in_turn(bench: Workbench, board: Board) -> None:
    assert relative_p50(bench, FILE, source(bench), TEACHER) == pytest.approx(1.5 / 8.0)
    assert board.taken == [("file", "teacher")]


def test_a_device_that_cannot_run_it_says_so_once(bench: Workbench, board: Board) -> None:
    board.lost_after = 0
    assert compared(bench, FILE, source(bench)) is None
    assert bench.meter.not_measurable == "the board is gone"
    assert latency_of(bench, None) == UnknownLatency(reason="the board is gone", device="board")
    board.lost_after = None
    assert compared(bench, FILE, source(bench)) is None and board.taken == []
    assert relative_p50(bench, FILE, source(bench), TEACHER) is None


def test_a_ratio_to_another_anchor_is_not_comparable(bench: Workbench, board: Board) -> None:
    bench.meter.scale = scale(TEACHER)
    profile = make_profile(make_session([1_000_000] * RUNS, [2_000_000] * RUNS))
    latency = latency_of(bench, profile)
    assert isinstance(latency, MeasuredLatency) and latency.relative is None


# -- several sessions -----------------------------------------------------------------------------------------------


def test_sessions_of_a_proof_come_one_after_the_other_with_pauses(
    bench: Workbench, board: Board, pauses: list[float]
) -> None:
    profile = first_sessions(bench, FILE, source(bench), TEACHER, 4)
    assert profile is not None and len(profile.sessions) == 4 == len(set(profile.sessions))
    assert board.taken == [("file", "teacher")] * 4
    assert pauses == [0.7] * 3
    assert [(asked.seconds, asked.burst_s) for asked in board.asked] == [(4.0, 0.006)] * 4
    assert [asked.operators for asked in board.asked] == [True, False, False, False]
    more = first_sessions(bench, FILE, source(bench), TEACHER, 6)
    assert more is not None and more.sessions[:4] == profile.sessions and len(board.taken) == 6


def test_where_the_device_is_lost_no_half_profile_is_left(bench: Workbench, board: Board) -> None:
    board.lost_after = 3
    assert first_sessions(bench, FILE, source(bench), None, 4) is None
    bench.meter.not_measurable, board.lost_after = "", 3
    assert len(list(sessions(bench, FILE, source(bench), None))) == 3, "those that were taken are kept"


# -- the scale ------------------------------------------------------------------------------------------------------


def test_the_scale_of_the_anchor_alone(bench: Workbench, board: Board, heard: list[Event]) -> None:
    scale_alone(bench)
    assert board.taken == [("anchor", None)] * SCALE_SESSIONS
    found = bench.meter.scale
    assert found is not None and found.anchor == ANCHOR
    values = [2.0 * (1 + place / 10) for place in range(SCALE_SESSIONS)]
    assert found.anchor_ms.p95 == pytest.approx(np.median(values))
    assert found.spread == pytest.approx(np.std(np.log(values), ddof=1))
    assert found.at == moment(0, 0).at
    assert any(isinstance(event, Note) and event.text.startswith("anchor 2.50 ms at p95") for event in heard)


def test_beside_the_teacher_ratios_are_what_differs(bench: Workbench, board: Board) -> None:
    """The board gets slower by half; the ratio does not, and a share of the teacher's is what a proof is taken in."""
    profile = scale_beside(bench, TEACHER, source(bench))
    assert profile is not None and len(profile.sessions) == SCALE_SESSIONS
    assert bench.meter.scale is not None
    assert bench.meter.scale.spread == pytest.approx(0.0, abs=1e-6)
    assert bench.meter.scale.anchor_ms.p95 == pytest.approx(2.5)
    latency = latency_of(bench, profile)
    assert isinstance(latency, MeasuredLatency)
    assert latency.comparable(P95) == pytest.approx(4.0 * 2.5)


def test_what_differs_beside_the_teacher_is_the_ratio_at_the_budgets_percentile(bench: Workbench, board: Board) -> None:
    """The ratio of medians stays as it is from session to session; that of p95 is what a proof is taken in."""
    board.tails["teacher"] = 1.1
    scale_beside(bench, TEACHER, source(bench))
    assert bench.meter.scale is not None
    logs = np.log(1.1) * np.arange(1, SCALE_SESSIONS + 1)
    assert bench.meter.scale.spread == pytest.approx(np.std(logs, ddof=1), rel=1e-4)


def test_the_aim_of_a_search_knows_how_sessions_differ(bench: Workbench) -> None:
    bench.meter.scale = replace(scale(), spread=0.1)
    goal = goal_of(bench, Budget(latency_ms=5.0, percentile=P95))
    assert goal.limit_ms == pytest.approx(5.0 * np.exp(-HEADROOM * 0.1))
    assert goal.quality_margin == bench.config.search.quality_margin
    bench.meter.scale = None
    assert goal_of(bench, Budget(latency_ms=5.0, percentile=P95)).limit_ms == 5.0


# -- proofs ---------------------------------------------------------------------------------------------------------

PLAN = ProofPlan.at(ProofLevel.QUICK)
SPEC = StudentSpec(family="resnet", width=0.5, depth=1.0, resolution=16)


@pytest.fixture
def prove(bench: Workbench, board: Board, monkeypatch: pytest.MonkeyPatch) -> Callable[[Budget], Proof]:
    """Proves the file of a student."""
    monkeypatch.setattr("edgedistill.pipeline.lab.source_of", lambda bench, trained: source(bench))
    unused: Any = None
    lab = Laboratory(bench, unused)
    trained = TrainedStudent(
        spec=SPEC, weights=Path("w"), epochs=1, total_epochs=1, quality_validation=0.9, train_seconds=1.0
    )
    result = SchemeResult(
        scheme=FILE.scheme,
        artifact=FILE,
        verification=Inspected(reason="not here", checks=()),
        latency=UnknownLatency(reason="not here", device="board"),
    )
    return lambda budget: lab.prove(trained, result, budget)


def around(middle: float, by: float) -> Callable[[str, int], float]:
    """The file around so many ms, the teacher at 10."""
    return lambda sha256, place: 10.0 if sha256 == "teacher" else middle * (1 + by * (-1) ** place)


MILLISECONDS = Budget(latency_ms=5.0, percentile=P95)


def test_a_proof_tells_its_claim_and_every_session(prove: Any, board: Board) -> None:
    board.latency_ms = around(4.0, 0.02)
    proof = prove(MILLISECONDS)
    first = PLAN.looks[0]
    assert proof.met and len(board.taken) == len(proof.values) == first.sessions
    assert proof.values == pytest.approx([4.08 if place % 2 == 0 else 3.92 for place in range(first.sessions)])
    assert (proof.artifact_sha256, proof.anchor_sha256, proof.target) == ("file", None, "board")
    assert (proof.share, proof.limit, proof.percentile) == (False, 5.0, P95)
    assert (proof.claimed, proof.confidence, proof.alpha) == (0.8, CONFIDENCE, first.alpha)
    assert (proof.over, proof.over_allowed) == (0, 0)
    assert proof.bound is not None and max(proof.values) < proof.bound < 5.0
    last = first.sessions - 1
    assert (proof.start, proof.end) == (moment(0, 0), moment(last, 3))
    assert (proof.session_s, proof.period_s, proof.began_at) == (4.0, 4.0 * last + 3, moment(0, 0).at)


def test_a_share_is_proven_in_turn_with_the_teacher(prove: Any, bench: Workbench, board: Board) -> None:
    board.latency_ms = around(4.0, 0.02)
    bench.meter.teacher_file = TEACHER
    proof = prove(MILLISECONDS.model_copy(update={"share_of_teacher": 0.45}))
    assert set(board.taken) == {("file", "teacher")}
    assert (proof.met, proof.share, proof.limit, proof.anchor_sha256) == (True, True, 0.45, "teacher")
    assert max(proof.values) == pytest.approx(0.408)
    assert not prove(MILLISECONDS.model_copy(update={"share_of_teacher": 0.39})).met


def test_a_proof_ends_where_no_further_session_could_help(prove: Any, board: Board) -> None:
    board.latency_ms = around(6.0, 0.02)
    proof = prove(MILLISECONDS)
    assert (proof.met, proof.over, len(board.taken)) == (False, 3, 3)
    board.latency_ms = around(3.0, 0.6)  # inside and outside in turn
    assert not prove(MILLISECONDS.model_copy(update={"percentile": Percentile.P50})).met


def test_a_proof_that_was_killed_goes_on_with_its_sessions(prove: Any, bench: Workbench, board: Board) -> None:
    board.latency_ms = around(4.0, 0.02)
    board.lost_after = 9

    def killed(*_: Any) -> Profile:
        raise KeyboardInterrupt

    taking, board.profile = board.profile, lambda *given: taking(*given) if len(board.taken) < 9 else killed()  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        prove(MILLISECONDS)
    board.profile, board.lost_after = taking, None  # type: ignore[method-assign]
    proof = prove(MILLISECONDS)
    assert len(board.taken) == len(proof.values) == PLAN.looks[0].sessions
    assert prove(MILLISECONDS) == proof, "and is the same when it is asked for again"


def test_on_another_occasion_a_proof_takes_sessions_of_its_own(prove: Any, bench: Workbench, board: Board) -> None:
    board.latency_ms = around(4.0, 0.02)
    first = prove(MILLISECONDS)
    bench.meter.occasion = "2026-02-03"
    again = prove(MILLISECONDS)
    assert len(board.taken) == 2 * len(first.values)
    assert again.began_at > first.began_at and again.met


def test_where_no_session_can_be_taken_there_is_no_proof(prove: Any, bench: Workbench, board: Board) -> None:
    board.lost_after = 0
    with pytest.raises(TrialFailure, match="the board is gone"):
        prove(MILLISECONDS)
    assert bench.meter.not_measurable


def test_where_the_device_is_lost_on_the_way_nothing_is_proven(prove: Any, bench: Workbench, board: Board) -> None:
    """Sessions that all are inside the budget, but too few of them."""
    board.latency_ms = around(4.0, 0.02)
    board.lost_after = 9
    with pytest.raises(TrialFailure, match="the board is gone"):
        prove(MILLISECONDS)
