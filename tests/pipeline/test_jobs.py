"""From a build file and the command line to orders, one a target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedistill.base.errors import InputError, UnreachableError
from edgedistill.base.progress import silent
from edgedistill.documents.specs import Format, Percentile
from edgedistill.pipeline.jobs import Changes, How, Job, Order, check_devices, jobs_of

TEXT = """target = "host"
budget = "5ms"

[teacher]
model = "timm:resnet18"
pretrained = true
"""


def read(folder: Path, text: str = TEXT, targets: tuple[str, ...] = (), **changes: Any) -> tuple[Job, ...]:
    path = folder / "build.toml"
    path.write_text(text)
    return jobs_of(path, targets, Changes(**changes), None)


def ordered(folder: Path, text: str = TEXT, targets: tuple[str, ...] = (), **changes: Any) -> tuple[Order, ...]:
    """The orders of jobs that have one each."""
    return tuple(order for (order,) in (job.orders for job in read(folder, text, targets, **changes)))


SEVERAL = TEXT.replace('target = "host"', 'targets = ["host", "pixel-6", "iphone-13"]').replace(
    "[teacher]", '[budgets]\n"pixel-6" = "8ms@p50"\n\n[teacher]'
)


def test_one_target_goes_to_the_output_folder_itself(tmp_path: Path) -> None:
    (order,) = ordered(tmp_path)
    assert (order.target.name, order.out, order.base) == ("host", tmp_path / "out", tmp_path)


def test_several_targets_go_to_folders_of_their_names_with_their_own_budgets(tmp_path: Path) -> None:
    found = ordered(tmp_path, SEVERAL)
    assert [order.out for order in found] == [tmp_path / "out" / name for name in ("host", "pixel-6", "iphone-13")]
    budgets = [(order.config.budget.latency_ms, order.config.budget.percentile) for order in found]
    assert budgets == [(5.0, Percentile.P95), (8.0, Percentile.P50), (5.0, Percentile.P95)]
    assert len({order.key for order in found}) == 3


def test_the_command_line_replaces_targets_budget_trials_and_time(tmp_path: Path) -> None:
    (order,) = ordered(tmp_path, SEVERAL, ("pixel-6",), budget="3ms@p99", trials=5, time="2h")
    assert (order.config.budget.latency_ms, order.config.budget.percentile) == (3.0, Percentile.P99)
    assert (order.config.search.trials, order.config.search.time) == (5, 7_200_000)
    assert order.out == tmp_path / "out", "one target has no folder of its own"


def test_how_a_build_is_done_changes_nothing_of_what_is_built(tmp_path: Path) -> None:
    """With everything measured again, a device required and no teacher kept it is the same build, in the same place."""
    (plain,) = ordered(tmp_path)
    how = How(require_measured=True, remeasure=True, keep_teacher=False)
    (job,) = jobs_of(tmp_path / "build.toml", (), Changes(), None, how)
    (order,) = job.orders
    assert order == replace(plain, how=how) and order.how == how
    assert (order.key, job.home) == (plain.key, plain.out)
    several = jobs_of(tmp_path / "build.toml", ("host", "pixel-6"), Changes(), None, how)
    assert [order.how for job in several for order in job.orders] == [how, how]


def test_the_other_targets_of_a_file_change_nothing_of_a_build(tmp_path: Path) -> None:
    (alone,) = ordered(tmp_path)
    assert ordered(tmp_path, SEVERAL)[0].key == alone.key


def test_one_student_for_several_targets_is_one_job_of_its_own(tmp_path: Path) -> None:
    text = SEVERAL.replace('budget = "5ms"', 'budget = "5ms"\none_student = true')
    (together,) = read(tmp_path, text)
    assert [order.target.name for order in together.orders] == ["host", "pixel-6", "iphone-13"]
    assert together.home == tmp_path / "out" and together.orders[1].out == tmp_path / "out" / "pixel-6"
    apart = read(tmp_path, SEVERAL)
    assert len({together.key, *(job.key for job in apart)}) == 4
    assert read(tmp_path, SEVERAL, one_student=True) == (together,), "the command line says the same"
    assert read(tmp_path, text, ("host", "pixel-6"))[0].key != together.key
    # Named alone, a target of such a file is built as it would be without the others.
    assert read(tmp_path, text, ("host",))[0].key == apart[0].key


def test_one_student_for_one_target_is_refused_where_it_was_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="host is the only one"):
        read(tmp_path, one_student=True)


RIG = """name = "{name}"
title = "My rig"
runtime = "onnx"
formats = ["onnx"]
precisions = ["fp32"]
transport = "{transport}"
"""


def rig(folder: Path, name: str, transport: str = "local") -> Path:
    """A target's file of one's own."""
    path = folder / f"{len(list(folder.glob('*.toml')))}-rig.toml"
    path.write_text(RIG.format(name=name, transport=transport))
    return path


def test_a_budget_of_another_target_of_the_file_is_no_mistake(tmp_path: Path) -> None:
    path = rig(tmp_path, "my-rig")
    budgets = '[budgets]\n"my-rig" = "8ms"\n\n[teacher]'
    for named in (f'targets = ["host", "./{path.name}"]', f'target = "./{path.name}"'):
        text = TEXT.replace('target = "host"', named).replace("[teacher]", budgets)
        (order,) = ordered(tmp_path, text, ("host",))
        assert order.config.budget.latency_ms == 5.0
        own = [order for order in ordered(tmp_path, text) if order.target.name == "my-rig"]
        assert [order.config.budget.latency_ms for order in own] == [8.0]


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (("raspberry-pi-5", "pixel-6"), "one device is named for 2 targets"),
        (("jetson-orin-nano",), "jetson-orin-nano runs tensorrt, which is not measured from elsewhere"),
        (("iphone-13",), "iphone-13 is measured by hand, not on a device that is named"),
        (("host",), "host is on this machine, and is measured without --device"),
    ],
)
def test_a_device_is_named_for_one_target_that_is_measured_there(
    tmp_path: Path, targets: tuple[str, ...], told: str
) -> None:
    (tmp_path / "build.toml").write_text(TEXT)
    with pytest.raises(InputError) as caught:
        jobs_of(tmp_path / "build.toml", targets, Changes(), None, How(device="ssh://board"))
    assert [problem.what for problem in caught.value.problems] == [told]
    jobs_of(tmp_path / "build.toml", ("raspberry-pi-5",), Changes(), None, How(device="ssh://board"))


def test_all_that_is_wrong_with_targets_is_told_at_once(tmp_path: Path) -> None:
    text = TEXT.replace("[teacher]", '[budgets]\nnokia = "5ms"\nsiemens = "5ms"\n[teacher]')
    with pytest.raises(InputError) as caught:
        ordered(tmp_path, text, ("host", "host", str(rig(tmp_path, "../elsewhere"))))
    told = [str(problem) for problem in caught.value.problems]
    assert told[0].startswith(f"{tmp_path / 'build.toml'}:5: [budgets] nokia") and ":6: [budgets] siemens" in told[1]
    assert "host is named twice" in told[2] and "'../elsewhere'" in told[3] and len(told) == 4
    with pytest.raises(InputError) as caught:
        ordered(tmp_path, TEXT, ("pixel6", "hosts"))
    assert [problem.what for problem in caught.value.problems] == ["unknown target 'pixel6'", "unknown target 'hosts'"]
    assert "did you mean pixel-6?" in caught.value.problems[0].fix


@pytest.mark.parametrize("together", [False, True])
def test_that_a_later_target_cannot_be_measured_is_known_before_the_first_begins(
    tmp_path: Path, together: bool
) -> None:
    targets = ("host", str(rig(tmp_path, "away", "none")), str(rig(tmp_path, "far", "none")))
    shares = read(tmp_path, TEXT.replace("5ms", "20%"), targets, one_student=together)
    with pytest.raises(InputError) as caught:
        check_devices(shares, silent)
    assert [problem.where for problem in caught.value.problems] == ["away", "far"]
    assert '"away" = "5ms@p95"' in caught.value.problems[0].fix
    plain = read(tmp_path, TEXT, targets, one_student=together)
    check_devices(plain, silent)
    for jobs in (plain, shares):
        required = [Job(tuple(replace(order, how=How(require_measured=True)) for order in job.orders)) for job in jobs]
        with pytest.raises(UnreachableError) as unreachable:
            check_devices(required, silent)
        assert [problem.where for problem in unreachable.value.problems] == ["away", "far"]


@pytest.mark.parametrize(
    ("text", "targets", "told"),
    [
        (TEXT, ("host", "host"), "host is named twice"),
        (TEXT.replace("[teacher]", '[budgets]\nnokia = "5ms"\n[teacher]'), (), "nokia is no target of this build"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, text: str, targets: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError) as caught:
        ordered(tmp_path, text, targets)
    assert told in str(caught.value) + str(caught.value.problems)


def test_wrong_options_a_wrong_file_and_misspelt_targets_are_told_at_once(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"budget": "5", "trials": 0, "time": "soon"}
    with pytest.raises(InputError) as caught:
        read(tmp_path, TEXT.replace("budget", "budgte"), ("hots", "pixel-6"), **wrong)
    wheres = [problem.where for problem in caught.value.problems]
    assert wheres[:3] == ["--budget", "--trials", "--time"]
    assert "hots" in caught.value.problems[3].what
    assert any(where.endswith("build.toml:2") for where in wheres[4:])
    assert caught.value.message == f"{len(wheres)} problems"
    with pytest.raises(InputError, match=r"none\.toml"):
        jobs_of(tmp_path / "none.toml", (), Changes(), None)
    with pytest.raises(InputError, match="wrong options"):
        read(tmp_path, **wrong)


def formats_of(*wanted: str) -> str:
    return f"{TEXT}[export]\nformats = [{', '.join(map(repr, wanted))}]\n"


def test_a_format_that_the_target_does_not_have_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, formats_of("onnx", "litert"))
    (problem,) = caught.value.problems
    assert problem.where == f"{tmp_path / 'build.toml'}:8"
    assert problem.what == "[export] formats: litert is no format of host (onnx, coreml, tensorrt)"
    assert "host-litert" in problem.fix
    (order,) = ordered(tmp_path, formats_of("litert"), ("host-litert",))
    assert order.config.export.formats == (Format.LITERT,)
    with pytest.raises(InputError, match="1 problem"):
        read(tmp_path, formats_of("coreml"), (str(rig(tmp_path, "my-rig")),))


def test_of_several_targets_each_makes_those_formats_of_the_list_that_it_has(tmp_path: Path) -> None:
    found = ordered(tmp_path, formats_of("litert", "coreml"), ("host", "host-litert", "host-executorch"))
    assert [order.config.export.formats for order in found] == [
        (Format.COREML,),
        (Format.LITERT,),
        (Format.EXECUTORCH,),
    ], "the last one has none of them, and its own runtime is always made"
    (alone,) = ordered(tmp_path, formats_of("coreml"))
    assert alone.key == found[0].key
    with pytest.raises(InputError) as caught:
        read(tmp_path, formats_of("executorch"), ("host", "iphone-13"))
    assert "host (onnx, coreml, tensorrt) and iphone-13 (coreml)" in caught.value.problems[0].what


def test_what_a_file_names_is_looked_for_together_with_its_targets(tmp_path: Path) -> None:
    text = TEXT.replace("timm:resnet18", "timm:resnet_18x").replace("pretrained = true", 'checkpoint = "none.pt"')
    text += '[data]\nsource = "folder"\npath = "nowhere"\n[space]\nfamilies = ["resnext"]\n'
    text += '[export]\nformats = ["litert"]\n'
    with pytest.raises(InputError) as caught:
        read(tmp_path, text, ("hots", "host"), time="soon")
    told = [str(problem) for problem in caught.value.problems]
    words = ("--time", "hots", "nowhere does not exist", "no model 'resnet_18x'", "none.pt does not exist", "resnext")
    assert [word for word in words if not any(word in one for one in told)] == []
    assert len(told) == len(words), "the formats of a target that there is not are not judged"
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert sum("litert is no format of host" in problem.what for problem in caught.value.problems) == 1
    assert len(caught.value.problems) == 5


def test_without_a_budget_the_fastest_is_no_slower_than_the_teacher(tmp_path: Path) -> None:
    text = TEXT.replace('budget = "5ms"', 'objective = "latency"\n[limits]\nmin_quality = "90%"')
    (order,) = ordered(tmp_path, text)
    assert order.config.budget.share_of_teacher == 1.0
    with pytest.raises(InputError, match="1 problem"):
        ordered(tmp_path, TEXT.replace('budget = "5ms"', ""))


TERMS = """
[[train.terms]]
loss = "kl"
temperatur = 3

[[train.terms]]
loss = "correlation"
weight = "much"

[[train.terms]]
loss = "cosine"
tap = "features"

[data]
sauce = "digits"
"""


def test_what_is_wrong_inside_terms_is_told_with_all_else(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, TEXT.replace("5ms", "fast") + TERMS)
    told = str(caught.value)
    path = tmp_path / "build.toml"
    for part in (
        f"{path}:2: budget",
        f"{path}:8: [[train.terms]] 1: kl: unknown key temperatur (did you mean temperature?)",
        f"{path}:14: train.terms[1].weight must be a number",
        f"{path}:16: [[train.terms]] 3: cosine: a student's features have another width",
        f"{path}:21: unknown key data.sauce (did you mean source?)",
    ):
        assert part in told, told
    assert len(caught.value.problems) == 5


def test_a_term_that_is_no_table_is_told_how_one_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, f'{TEXT}[train]\nterms = [{{loss = "kl"}}, 3]\n')
    assert "train.terms[1] is a section of its own (write [[train.terms]], its keys below)" in str(caught.value)


def test_terms_that_train_no_classifier_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    term = '[[train.terms]]\nloss = "cosine"\ntap = "features"\naligner = "linear"\n'
    with pytest.raises(InputError, match="no term trains the classifier"):
        read(tmp_path, TEXT + term)
    (order,) = ordered(tmp_path, TEXT + term + '[[train.terms]]\nloss = "kl"\n')
    assert len(order.config.train.terms) == 2
