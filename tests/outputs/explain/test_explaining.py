"""The whole explanation; the folder that it is read from; operators and predictions."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

import edgedistill
from edgedistill.base.errors import InputError
from edgedistill.documents.explanation import ExplainResult, OperatorsUnknown, OperatorTimes
from edgedistill.documents.measurements import PredictedLatency
from edgedistill.documents.results import BuildIndex, BuildResult, IndexEntry, MemoryLimit, QualityLimit, SizeLimit
from edgedistill.documents.specs import Objective, Percentile, Precision
from edgedistill.outputs.explain.build_folder import ReportProfiles, read_build, read_profiles
from edgedistill.outputs.explain.explain import explain_build
from edgedistill.outputs.explain.operators import DEAREST, operator_times
from edgedistill.outputs.explain.predictions import prediction_pairs, prediction_record
from edgedistill.outputs.explain.words import cost_sentence, limit_rows, prediction_sentence, why_sentence


def written(folder: Path, result: BuildResult) -> Path:
    (folder / "build.json").write_text(result.model_dump_json())
    return folder


# -- the folder -----------------------------------------------------------------------------------------------------


def test_the_function_reads_the_folder(tmp_path: Path, realistic: ModuleType) -> None:
    result = realistic.make_result()
    profile = realistic.make_profile(result.proof.artifact_sha256, 0.198)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/onnx-int8.json").write_text(profile.model_dump_json())
    explained = edgedistill.explain(written(tmp_path, result), budget="0.25ms", students=3)
    assert explained == explain_build(result, ReportProfiles(profile), tmp_path, budget="0.25ms", students=3)
    assert (len(explained.others), explained.left_out) == (3, 9)
    assert edgedistill.explain(tmp_path / "build.json").others[:3] == explained.others


@pytest.mark.parametrize(
    ("content", "says", "fix"),
    [
        (
            '{"schema_version": 1, "status": "met"}',
            "has schema_version 1, this version of edgedistill reads 4",
            "build it",
        ),
        ('{"schema_version": 99}', "has schema_version 99", "newer"),
        ('{"schema_version": 4, "trials": [', "is damaged: EOF", "run the build again"),
        ("\udcff", "is damaged", "run the build again"),
        ("[" * 100_000, "is damaged: recursion limit", "run the build again"),
        ("[]", "is not what this version of edgedistill writes", "run the build again"),
        ('{"schema_version": 4}', "edgedistill_version: Field required", "run the build again"),
    ],
)
def test_a_foreign_or_damaged_result_is_told_with_a_way_out(tmp_path: Path, content: str, says: str, fix: str) -> None:
    (tmp_path / "build.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as found:
        read_build(tmp_path)
    assert says in found.value.message
    assert fix in found.value.fix


def test_no_result_and_a_result_further_in(tmp_path: Path, realistic: ModuleType) -> None:
    with pytest.raises(InputError, match=r"holds no build\.json"):
        edgedistill.explain(tmp_path)
    (tmp_path / "out").mkdir()
    written(tmp_path / "out", realistic.make_result())
    with pytest.raises(InputError) as found:
        edgedistill.explain(tmp_path)
    assert found.value.fix == f"did you mean {tmp_path / 'out'}?"


def test_an_index_names_its_builds(tmp_path: Path) -> None:
    entries = tuple(
        IndexEntry(target=name, folder=name, status="met", verdict="It is proven.") for name in ("host", "pixel-8")
    )
    index = BuildIndex(edgedistill_version="0.1.0", targets=entries, seconds=2.0)
    (tmp_path / "build.json").write_text(index.model_dump_json())
    with pytest.raises(InputError, match="index of a build for several targets") as found:
        edgedistill.explain(tmp_path)
    assert found.value.fix == f"name one of them: {tmp_path / 'host'}, {tmp_path / 'pixel-8'}"


def test_a_search_alone_is_told_from_a_build(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text("{}")
    with pytest.raises(InputError) as found:
        edgedistill.explain(tmp_path)
    assert "build it" in found.value.fix


def test_a_damaged_profile_is_named(tmp_path: Path, realistic: ModuleType) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/teacher.json").write_text("{")
    with pytest.raises(InputError, match=r"teacher\.json is not what this version"):
        read_profiles(tmp_path, realistic.make_result())


# -- all of it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["make_result", "make_not_met", "make_unmeasured"])
def test_it_comes_back_from_json(realistic: ModuleType, make: str) -> None:
    explained = explain_build(getattr(realistic, make)(), ReportProfiles(), Path("out"), budget="0.3ms")
    assert ExplainResult.model_validate_json(explained.model_dump_json()) == explained
    assert json.loads(explained.model_dump_json())["asked"]["budget"]["latency_ms"] == 0.3


def test_why_in_a_sentence(realistic: ModuleType) -> None:
    def why(result: BuildResult) -> str:
        return why_sentence(explain_build(result, ReportProfiles(), Path("out")))

    assert why(realistic.make_result()) == (
        "mobileone w0.5 d1 @16 in int8 is the fastest of 2 students as accurate as the most accurate one (within 2.0 "
        "points, 95% confidence), of 3 students whose files keep every limit, of 13 tried, and it is proven."
    )
    fastest = realistic.make_result().model_copy(update={"objective": Objective.LATENCY})
    assert "is the fastest of 3 students whose files keep every limit, of 13 tried" in why(fastest)
    narrow = realistic.make_result(quality_margin=0.001)
    assert "is the most accurate of 3 students whose files keep every limit" in why(narrow)
    assert why(realistic.make_not_met()).startswith("Nothing won: of 13 tried, no student has a file")
    assert why(realistic.make_unmeasured()).endswith(
        "of 3 students trained to the end, of 13 tried. No latency was measured."
    )


def test_limits_say_what_the_winner_came_to(realistic: ModuleType) -> None:
    constraints = (
        *realistic.make_result().constraints,
        SizeLimit(limit_bytes=409_600, bytes=318_834, kept=True),
        MemoryLimit(target="host", limit_bytes=2**20, bytes=None, kept=None),
        QualityLimit(limit=0.98, quality_validation=0.974, lower_bound=0.951, resolved=True, kept=False),
        QualityLimit(limit=0.97, quality_validation=0.974, lower_bound=0.951, resolved=False, kept=True),
        QualityLimit(limit=0.97, quality_validation=None, lower_bound=None, resolved=True, kept=None),
    )
    assert limit_rows(constraints) == (
        (
            "p95 on host",
            "20.0% of the teacher's p95",
            "10.0% to 10.5% of the teacher's in 22 sessions",
            "yes",
        ),
        ("size of the file", "400.0 KiB", "311.4 KiB", "yes"),
        ("peak memory on host", "1.0 MiB", "unknown", "unknown"),
        ("validation quality", "at least 98.00%", "97.40%, above 95.10% with 95% confidence", "no"),
        ("validation quality", "at least 97.00%", "97.40%, unresolved: the split is too small to tell", "yes"),
        ("validation quality", "at least 97.00%", "unknown", "unknown"),
    )
    own = realistic.make_proven_in_ms().constraints
    assert limit_rows(own)[0][2] == "0.206 ms to 0.214 ms in 22 sessions"
    assert limit_rows(realistic.make_unmeasured().constraints)[0][2:] == ("unknown", "unknown")


def test_the_cost_counts_what_was_done(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    search = explain_build(result, ReportProfiles(), Path("out")).search
    assert (search.complete, search.pruned, search.over_budget, search.failed) == (3, 8, 1, 1)
    assert search.rungs == sum(len(t.rungs) for t in result.trials)
    assert search.epochs == 3 * 16 + 3 * 8 + 6 * 4
    assert search.files_measured == 12
    assert "13 trials (3 went through all rungs, 8 pruned, 1 rejected, 1 failed)" in cost_sentence(search)


# -- operators ------------------------------------------------------------------------------------------------------


def test_operators_share_the_time_out(realistic: ModuleType) -> None:
    result = realistic.make_result()
    times = operator_times(result, realistic.make_profile(result.proof.artifact_sha256, 0.2))
    assert isinstance(times, OperatorTimes)
    assert sum(kind.share for kind in times.kinds) == pytest.approx(1)
    assert sum(kind.count for kind in times.kinds) == times.operators == 24
    dearest = [one.median_us for one in times.dearest]
    assert (len(dearest), dearest) == (DEAREST, sorted(dearest, reverse=True))
    assert times.dearest[0].share == pytest.approx(dearest[0] / times.total_us)


def test_operators_are_unknown_for_a_reason(realistic: ModuleType) -> None:
    result = realistic.make_result()
    untimed = realistic.make_profile("a", 0.2, operators=0)
    assert operator_times(result, untimed) == OperatorsUnknown(reason="onnxruntime times no single operators")
    missing = operator_times(result, None)
    assert missing == OperatorsUnknown(reason="profiles/ holds no samples of package/student-int8.onnx")
    assert operator_times(realistic.make_not_met(), None) == OperatorsUnknown(reason="no file won")
    unmeasured = operator_times(realistic.make_unmeasured(), None)
    assert unmeasured == OperatorsUnknown(reason="package/student-int8.onnx is not measured")


# -- predictions ----------------------------------------------------------------------------------------------------


def test_predictions_are_held_against_the_precision_that_they_were_for(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    pairs = prediction_pairs(result)
    assert [pair.trial.number for pair in pairs] == [1, 2, 5, 6, 7, 10]
    assert all(pair.predicted.precision == "fp32" for pair in pairs)
    assert [pair.trial.number for pair in pairs if not pair.held] == [7]
    record = prediction_record(result)
    assert record is not None
    assert (record.compared, record.held, record.calibrated, record.calibrated_held) == (6, 5, 1, 1)
    assert 0.07 <= record.median_error <= 0.08
    assert prediction_sentence(record).startswith(
        "5 of 6 predicted intervals held what was measured (1 of 1 calibrated"
    )


@pytest.mark.parametrize(
    "change", [{"percentile": Percentile.P50}, {"precision": Precision.FP16}, {"precision": Precision.MIXED}]
)
def test_what_cannot_be_compared_is_not(realistic: ModuleType, change: dict[str, object]) -> None:
    result: BuildResult = realistic.make_result()
    trials = tuple(
        t.model_copy(update={"predicted": t.predicted.model_copy(update=change)})
        if isinstance(t.predicted, PredictedLatency)
        else t
        for t in result.trials
    )
    assert prediction_record(result.model_copy(update={"trials": trials})) is None
