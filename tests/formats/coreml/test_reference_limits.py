"""Packages that ask for more memory than there is, or whose parts do not fit together: refused, before memory is taken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill.base.errors import EdgedistillError, InputError, UnsupportedError
from edgedistill.formats.coreml import limits as coreml_limits
from edgedistill.formats.coreml.package import read_package
from edgedistill.formats.coreml.reference.interpreter import run

ct = pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")
mb = pytest.importorskip("coremltools.converters.mil.mil").Builder
mil_types = ct.converters.mil.mil.types

Edit = Callable[[Any], None]
IMAGE = {"x": np.ones((1, 3, 8, 8), np.float32)}


@pytest.fixture(scope="module")
def model() -> Any:
    """A convolution of 3 to 64 channels, its weights in a file."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 8, 8))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        weight = np.random.default_rng(0).normal(size=(64, 3, 3, 3)).astype(np.float32)
        return mb.conv(x=x, weight=weight, pad_type="same")

    return ct.convert(
        program, minimum_deployment_target=ct.target.iOS17, compute_precision=ct.precision.FLOAT32, skip_model_load=True
    )


def saved(model: Any, folder: Path, edit: Edit | None = None) -> Path:
    """The model's package, its specification edited."""
    path = folder / "m.mlpackage"
    model.save(str(path))
    if edit:
        file = next(path.rglob("*.mlmodel"))
        spec = ct.proto.Model_pb2.Model.FromString(file.read_bytes())
        edit(spec)
        file.write_bytes(spec.SerializeToString())
    return path


def operations(spec: Any) -> Any:
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    return block.operations


def weight_of(spec: Any) -> Any:
    """The reference to the first weight in the file."""
    return next(
        op.attributes["val"].blobFileValue for op in operations(spec) if op.attributes["val"].HasField("blobFileValue")
    )


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_an_operation_that_coremltools_does_not_know_is_named(model: Any, tmp_path: Path) -> None:
    def edit(spec: Any) -> None:
        next(op for op in operations(spec) if op.type == "conv").type = "convolve_sideways"

    with pytest.raises(UnsupportedError) as caught:
        read_package(saved(model, tmp_path, edit))
    assert [problem.where for problem in caught.value.problems] == ["convolve_sideways"]


def test_a_weight_file_that_is_missing(model: Any, tmp_path: Path) -> None:
    path = saved(model, tmp_path)
    next(path.rglob("weight.bin")).unlink()
    with pytest.raises(EdgedistillError, match=r"weight\.bin is missing") as caught:
        run(path, IMAGE)
    assert caught.value.fix


def test_a_weight_file_that_is_cut_short(model: Any, tmp_path: Path) -> None:
    path = saved(model, tmp_path)
    file = next(path.rglob("weight.bin"))
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(
        EdgedistillError, match=r"weight\.bin ends at 300, inside the weight at 64, which reaches to \d+"
    ):
        run(path, IMAGE)


@pytest.mark.parametrize(
    ("offset", "message"),
    [(2**40, r"ends at \d+, before the weight at 1099511627776"), (128, "has no weight at 128")],
)
def test_a_weight_outside_its_file(offset: int, message: str, model: Any, tmp_path: Path) -> None:
    def edit(spec: Any) -> None:
        weight_of(spec).offset = offset

    with pytest.raises(EdgedistillError, match=message):
        run(saved(model, tmp_path, edit), IMAGE)


def test_a_weight_file_elsewhere_on_the_disk_is_not_read(model: Any, tmp_path: Path) -> None:
    def edit(spec: Any) -> None:
        weight_of(spec).fileName = "@model_path/../../../secret.bin"

    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    with pytest.raises(EdgedistillError, match=r"secret\.bin is missing"):
        run(saved(model, tmp_path, edit), IMAGE)


def constants(build: Callable[[Any], Any]) -> Any:
    """A program as it is built, no constant folded, whose constants can be edited afterwards."""
    program = mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 8, 8))], opset_version=ct.target.iOS17)(build)
    return ct.convert(
        program,
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )


def enlarge(kind: str, argument: str, lengths: list[int]) -> Edit:
    """Sets an integer constant that an operation of this kind takes."""

    def edit(spec: Any) -> None:
        ops = operations(spec)
        name = next(op for op in ops if op.type == kind).inputs[argument].arguments[0].name
        constant = next(op for op in ops if op.outputs and op.outputs[0].name == name)
        constant.attributes["val"].immediateValue.tensor.ints.values[:] = lengths

    return edit


@pytest.mark.parametrize(
    ("build", "kind", "argument", "lengths"),
    [
        (lambda x: mb.add(x=x, y=mb.fill(shape=[1, 3, 8, 8], value=0.0)), "fill", "shape", [1, 30000, 8000, 8000]),
        (lambda x: mb.tile(x=x, reps=[1, 2, 1, 1]), "tile", "reps", [1, 2, 40000, 40000]),
        (lambda x: mb.pad(x=x, pad=[0, 1, 0, 1]), "pad", "pad", [0, 2**20, 0, 2**20]),
        (
            lambda x: mb.upsample_nearest_neighbor(x=mb.cast(x=x, dtype="fp32"), scale_factor_height=2),
            "upsample_nearest_neighbor",
            "scale_factor_height",
            [2**27],
        ),
    ],
)
def test_giant_outputs_are_refused_at_reading(
    build: Callable[[Any], Any], kind: str, argument: str, lengths: list[int], tmp_path: Path
) -> None:
    path = saved(constants(build), tmp_path, enlarge(kind, argument, lengths))
    with little_memory(), pytest.raises(InputError, match=rf"the output of the {kind} .* a tensor may take 4\.0 GiB"):
        read_package(path)


def test_an_expanded_weight_has_the_same_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(x: Any) -> Any:
        dense = mb.constexpr_sparse_to_dense(
            nonzero_data=np.ones(1, np.float32),
            mask=np.packbits(np.eye(1, 2**12, dtype=np.uint8)),
            shape=np.array([2**12, 1, 1], np.uint32),
        )
        return mb.mul(x=x, y=mb.reduce_sum(x=dense))

    path = saved(constants(build), tmp_path)
    run(path, IMAGE)
    monkeypatch.setattr(coreml_limits, "TENSOR_LIMIT_BYTES", 2**13)
    with pytest.raises(InputError, match=r"the output of the constexpr_sparse_to_dense .* is \[4096, 1, 1\]"):
        read_package(path)


def test_sizes_that_only_the_inputs_tell_are_refused_in_the_run(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(2,), dtype=mil_types.int32)], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.fill(shape=x, value=1.0)

    path = saved(ct.convert(program, minimum_deployment_target=ct.target.iOS17, skip_model_load=True), tmp_path)
    (small,) = run(path, {"x": np.array([2, 3], np.int32)}).values()
    np.testing.assert_array_equal(small, np.ones((2, 3)))
    with little_memory(), pytest.raises(InputError, match=r"the output of the fill .* is \[100000, 100000\]"):
        run(path, {"x": np.array([100_000, 100_000], np.int32)})


def test_tensors_that_are_alive_together_have_a_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 8, 8))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.concat(values=[mb.exp(x=x), mb.sin(x=x), mb.cos(x=x), mb.tanh(x=x)], axis=0)

    path = saved(ct.convert(program, minimum_deployment_target=ct.target.iOS17, skip_model_load=True), tmp_path)
    run(path, IMAGE)
    monkeypatch.setattr(coreml_limits, "TOTAL_LIMIT_BYTES", 3 * IMAGE["x"].nbytes)
    with pytest.raises(InputError, match=r"the tensors take .* at one time"):
        run(path, IMAGE)


def test_a_window_wider_than_memory_is_refused(tmp_path: Path) -> None:
    """Padding to the same size hides a dilation from the output's shape."""

    def build(x: Any) -> Any:
        return mb.conv(x=x, weight=np.ones((1, 3, 2, 2), np.float32), dilations=[1, 1], pad_type="same")

    path = saved(constants(build), tmp_path, enlarge("conv", "dilations", [2**20, 2**20]))
    with little_memory(), pytest.raises(InputError, match="the padded input of a convolution"):
        run(path, IMAGE)
