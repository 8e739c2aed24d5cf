"""The targets that come with edgedistill are sound, and one's own are read with the same care."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgedistill.base.errors import InputError
from edgedistill.documents.package import PLATFORM_FORMATS
from edgedistill.documents.specs import Format, Precision
from edgedistill.documents.targets import all_targets, load_target, target_names, targets_folder

NAMES = target_names()
TENSORRT_AHEAD_OF_TIME = {75, 80, 86, 89, 120}


def test_the_devices_promised_are_there() -> None:
    kinds = {
        "host": 3,
        "iphone": 6,
        "mac": 4,
        "pixel": 4,
        "galaxy": 5,
        "jetson": 4,
        "raspberry-pi": 2,
        "rtx": 3,
        "linux": 2,
    }
    assert NAMES[0] == "host"
    assert {pattern: sum(bool(re.match(pattern, name)) for name in NAMES) for pattern in kinds} == kinds


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_sound(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.runtime in target.formats
    assert Format.NULL not in target.formats
    assert target.precisions
    assert target.sources
    assert target.how_to_measure.strip()
    assert bool(target.compute_capabilities) is (Format.TENSORRT in target.formats)
    assert all("http" in source for source in target.sources.values())
    for row in target.published:
        assert row.precision in target.precisions
        assert row.source
    seen = [(row.model, row.precision) for row in target.published]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("name", NAMES)
def test_published_latencies_grow_with_the_work(name: str) -> None:
    by_precision: dict[Precision, list[tuple[float, float]]] = {}
    for row in load_target(name).published:
        by_precision.setdefault(row.precision, []).append((row.multiply_adds, row.latency_ms))
    for rows in by_precision.values():
        assert [latency for _, latency in sorted(rows)] == sorted(latency for _, latency in rows)


def test_a_build_for_a_phone_makes_what_its_kit_takes() -> None:
    for platform, pattern in (("ios", "iphone"), ("android", "pixel|galaxy")):
        usual = PLATFORM_FORMATS[platform][0]
        phones = [load_target(name) for name in NAMES if re.match(pattern, name)]
        assert phones and all(usual in phone.formats for phone in phones)


def test_only_this_machine_is_local() -> None:
    local = [target.name for target in all_targets() if target.transport == "local"]
    assert local == ["host", "host-executorch", "host-litert"]


def test_what_is_built_ahead_of_time_is_stated() -> None:
    assert set(load_target("host").compute_capabilities) == TENSORRT_AHEAD_OF_TIME
    assert load_target("jetson-orin-nano").compute_capabilities == (87,)
    assert "trtexec --onnx=" in load_target("jetson-orin-nano").how_to_measure
    assert set(load_target("rtx-4060").compute_capabilities) <= TENSORRT_AHEAD_OF_TIME


@pytest.mark.parametrize(("name", "near"), [("hots", "host"), ("Pixel6", "pixel-6"), ("iphone13", "iphone-13")])
def test_an_unknown_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        load_target(name)
    assert caught.value.message == f"unknown target {name!r}"
    assert f"did you mean {near}?" in caught.value.fix


def test_a_name_near_nothing_points_to_the_list() -> None:
    with pytest.raises(InputError) as caught:
        load_target("toaster")
    assert "edgedistill targets" in caught.value.fix
    assert "did you mean" not in caught.value.fix


def test_a_file_beside_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "myboard.toml").write_text("")
    with pytest.raises(InputError) as caught:
        load_target("myboard")
    assert caught.value.fix == "did you mean the file ./myboard.toml?"


def test_a_target_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (targets_folder() / "raspberry-pi-5.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('"raspberry-pi-5"', '"mine"').replace('"ssh"', '"local"'))
    monkeypatch.chdir(tmp_path)
    for given in ("mine.toml", "./mine.toml", tmp_path / "mine.toml"):
        target = load_target(given)
        assert (target.name, target.transport, target.threads) == ("mine", "local", 4)


def test_every_problem_of_ones_own_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntitle = "Mine"\nruntime = "onx"\nformats = ["onnx"]\nprecisions = ["fp32", "fp8"]\n'
        'threads = 0\ntransport = "usb"\nthraeds = 2\n\n[[published]]\nmodel = "a"\nprecision = "fp32"\n'
        'multiply_adds = 1e9\nlatency_ms = 1\nsource = "x"\n\n[[published]]\nmodel = "b"\nlatency_ms = -1\n'
    )
    with pytest.raises(InputError) as caught:
        load_target(path)
    found = [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]
    assert [(int(line), rest.split()[0]) for line, rest in (text.split(":", 1) for text in found)] == [
        (3, "runtime"),
        (5, "precisions[1]"),
        (6, "threads"),
        (7, "transport"),
        (8, "unknown"),
        (17, "published[1].precision"),
        (17, "published[1].multiply_adds"),
        (17, "published[1].source"),
        (19, "published[1].latency_ms"),
    ]
    assert '(did you mean "onnx"?)' in found[0]


def test_formats_must_hold_the_runtime(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntitle = "Mine"\nruntime = "onnx"\nformats = ["coreml"]\nprecisions = ["fp32"]\ntransport = "local"\n'
    )
    with pytest.raises(InputError) as caught:
        load_target(path)
    assert str(caught.value.problems[0]).startswith(f"{path}:4: formats (coreml) lack the target's own runtime onnx")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(InputError):
            load_target(f"{path}/" if path == tmp_path else path)
