"""The tables: what their cells say, and what they are sorted by."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from factories import make_environment, make_profile, make_session

from edgedistill.documents.measurements import OpTiming
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.build_folder import ReportProfiles
from edgedistill.outputs.explain.explain import explain_build
from edgedistill.outputs.report.artifact_table import artifact_table
from edgedistill.outputs.report.candidates import other_table, trial_table
from edgedistill.outputs.report.left_out import left_out, left_out_table
from edgedistill.outputs.report.noise import NOISY_SPREAD, noise_of
from edgedistill.outputs.report.operator_tables import clock_text, layer_table, layers, type_table
from edgedistill.outputs.report.proof_tables import claim_facts
from edgedistill.outputs.report.table import Table


def keys(table: Table, title: str) -> list[float | str | None]:
    (column,) = [number for number, column in enumerate(table.columns) if column.title == title]
    return [row.cells[column].key for row in table.rows]


def texts(table: Table, title: str) -> list[tuple[str, ...]]:
    (column,) = [number for number, column in enumerate(table.columns) if column.title == title]
    return [row.cells[column].lines for row in table.rows]


def test_every_row_has_a_cell_for_each_heading(realistic: ModuleType) -> None:
    for result in (realistic.make_result(), realistic.make_not_met(), realistic.make_unmeasured()):
        explained = explain_build(result, ReportProfiles(), Path())
        tables = (artifact_table(result), trial_table(result), other_table(result, explained), left_out_table(result))
        for table in tables:
            assert {len(row.cells) for row in table.rows} <= {len(table.columns)}, table.name
            assert table.head < len(table.columns)


# -- artifacts ----------------------------------------------------------------------------------------------------


def test_artifacts_say_how_their_latency_is_known(realistic: ModuleType) -> None:
    table = artifact_table(realistic.make_result())
    assert texts(table, "latency is") == [
        ("measured,", "22 sessions"),
        ("measured,", "1 session"),
        ("not measured",),
        ("not measured",),
        ("measured,", "6 sessions"),
    ]
    assert [row.ours for row in table.rows] == [True, False, False, False, False]
    assert keys(table, "p95")[2:4] == ["", ""], "unknown comes after all others"
    predicted = artifact_table(realistic.make_unmeasured())
    assert texts(predicted, "p95")[0] == ("≈ 3.20 ms",) and texts(predicted, "p50")[0] == ("unknown",)
    assert texts(predicted, "latency is")[0] == ("predicted",)


# -- candidates ---------------------------------------------------------------------------------------------------


def test_candidates_are_sorted_by_numbers_and_not_by_their_texts(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    table = trial_table(result)
    assert keys(table, "trial") == [trial.number for trial in result.trials]
    assert keys(table, "4 epochs")[-1] == "" and keys(table, "4 epochs")[6] == pytest.approx(0.956)
    measured = keys(table, "measured")
    assert measured[0] == "" and measured[6] == result.trials[6].schemes[1].latency.p95_ms  # type: ignore[union-attr]
    assert texts(table, "measured")[6] == ("fp32 14.4%", "int8 10.2%, proven")
    assert texts(table, "measured")[2] == ("fp32 19.7%", "int8 14.0%, dropped")
    assert [row.ours for row in table.rows].index(True) == realistic.WINNER


def test_what_the_next_ones_lacked_is_sorted_by_latency_measured_or_predicted(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    explained = explain_build(result, ReportProfiles(), Path())
    table = other_table(result, explained)
    assert len(table.rows) == len(explained.others)
    found = dict(zip(keys(table, "trial"), keys(table, "p95"), strict=True))
    assert found[5] in {scheme.latency.p95_ms for scheme in result.trials[5].schemes}  # type: ignore[union-attr]
    assert all(isinstance(key, float) or key == "" for key in found.values())
    assert "10 of 12" in table.caption


# -- what was left out --------------------------------------------------------------------------------------------


def test_one_list_says_what_was_left_out_and_why(realistic: ModuleType) -> None:
    result = realistic.disproven(realistic.make_result(), 5, (0.08,) * 20 + (0.21, 0.22))
    rows = {what: (kind, outcome, why) for what, kind, outcome, why in left_out(result)}
    assert rows["trial 7, mobileone w0.5 d1 @32"][:2] == ("candidate", "rejected")
    assert rows["trial 0, mobilenetv4 w0.25 d0.5 @16"][:2] == ("candidate", "pruned")
    assert rows["trial 12, residual w2 d2 @32"] == (
        "candidate",
        "failed",
        "the loss was not finite in epoch 2 (batch 31)",
    )
    kind, outcome, why = rows["trial 5, mobileone w0.5 d0.5 @16, int8"]
    assert (kind, outcome) == ("file", "not proven") and "2 of them were over 20.0% of the teacher's" in why
    assert rows["onnx fp16 of the student"][:2] == ("precision", "dropped")
    assert rows["trial 2, mobilenetv4 w0.5 d1 @32, int8"][:2] == ("precision", "dropped")
    assert not any(what.startswith("trial 6,") for what in rows), "the winner is not among them"
    assert {outcome for _, outcome, _ in rows.values()} == {"rejected", "not proven", "dropped", "pruned", "failed"}
    assert left_out(realistic.make_result(dropped=(), trials=())) == []
    assert left_out_table(realistic.make_result(dropped=(), trials=())).rows == ()


def test_a_precision_of_the_student_is_listed_once(realistic: ModuleType) -> None:
    """The search dropped it, and so did the build: for the same file."""
    result: BuildResult = realistic.make_result()
    winner = result.trials[realistic.WINNER]
    first, *rest = winner.schemes
    schemes = (first.model_copy(update={"dropped": "gains too little"}), *rest)
    trials = tuple(t.model_copy(update={"schemes": schemes}) if t is winner else t for t in result.trials)
    alone = left_out(result.model_copy(update={"trials": trials}))
    assert ("trial 6, mobileone w0.5 d1 @16, fp32", "precision", "dropped", "gains too little") in alone
    (told,) = result.dropped
    both = result.model_copy(
        update={"trials": trials, "dropped": (told.model_copy(update={"precision": first.scheme.precision}),)}
    )
    assert [what for what, *_ in left_out(both) if "fp32" in what] == ["onnx fp32 of the student"]


# -- operators ----------------------------------------------------------------------------------------------------


def op(name: str, kind: str, us: float) -> OpTiming:
    return OpTiming(name=name, op_type=kind, median_us=us)


TIMINGS = (op("cast", "Cast", 2.0), op("net.0/conv", "Conv", 6.0), op("net.0/relu", "Relu", 1.5), op("fc", "Gemm", 2.5))


def test_operators_by_layer_keep_the_order_of_execution() -> None:
    assert list(layers(TIMINGS)) == ["cast", "net.0", "fc"]
    table = layer_table(TIMINGS)
    assert texts(table, "operators, µs")[1] == ("Conv 6.0, Relu 1.5",)
    assert keys(table, "median µs") == [2.0, 7.5, 2.5]
    assert keys(table, "share") == pytest.approx([2 / 12, 7.5 / 12, 2.5 / 12])
    engine = (op("net.0/conv + net.1/relu", "layer", 3.0), op("net.0/pool", "layer", 1.0))
    assert list(layers(engine)) == ["net.0/conv + net.1/relu", "net.0/pool"], "a runtime's own layers stay as they are"
    assert layer_table(()).rows == type_table(()).rows == ()


def test_operators_by_type_add_up() -> None:
    table = type_table((*TIMINGS, op("net.1/conv", "Conv", 4.0)))
    assert texts(table, "type")[0] == ("Conv",)
    assert keys(table, "count")[0] == 2 and keys(table, "median µs")[0] == 10.0


def test_the_resolution_of_the_clock_is_told_by_the_times() -> None:
    environment = make_environment(runtime="onnxruntime")

    def told(*times_us: float) -> str:
        timings = tuple(op(f"n{number}", "Conv", us) for number, us in enumerate(times_us))
        return clock_text(make_profile(make_session((1,)), environment=environment, op_timings=timings))

    whole = "The clock of onnxruntime counts whole microseconds: each time may be off by 1 µs."
    assert told(6.0, 8.5) == whole
    assert told(1.0, 2.0, 8.5) == f"{whole} 2 of 3 operators took 2 µs or less, so their shares are rough."
    assert told(1.3, 8.0) == "onnxruntime gives times finer than 1 µs; the resolution of its clock is not recorded."


# -- noise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "noisy"), [(1.15, False), (1.30, True)])
def test_a_measurement_is_noisy_by_how_much_the_sessions_of_its_proof_differ(
    realistic: ModuleType, step: float, noisy: bool
) -> None:
    """A step of 15% up and down is a spread of 7%, one of 30% a spread of 13%."""
    result = realistic.make_result()
    proof = result.proof.model_copy(update={"values": tuple(0.1 * step ** (number % 2) for number in range(22))})
    noise = noise_of(result.model_copy(update={"proof": proof}))
    assert noise is not None and noise.spread == proof.spread
    assert noise.noisy is noisy is (proof.spread > NOISY_SPREAD)


def test_without_a_winner_the_noisiest_attempt_tells_and_without_sessions_none_does(realistic: ModuleType) -> None:
    result = realistic.make_not_met()
    assert noise_of(result) is None
    calm = realistic.make_result().proof
    rough = calm.model_copy(update={"values": (0.1, 0.2, 0.1, 0.2)})
    noise = noise_of(result.model_copy(update={"attempts": (calm, rough)}))
    assert noise is not None and noise.spread == rough.spread and "The 4 sessions" in noise.sentence
    single = calm.model_copy(update={"values": (0.1,)})
    assert noise_of(result.model_copy(update={"attempts": (single,)})) is None


def test_sessions_that_were_lost_with_a_connection_are_told(realistic: ModuleType) -> None:
    proof = realistic.make_result().proof
    assert "taken again" not in dict(claim_facts(proof, ()))
    lost = proof.model_copy(update={"retaken": 2})
    assert dict(claim_facts(lost, ()))["taken again"].startswith("2 besides were lost with the connection")
