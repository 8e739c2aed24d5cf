"""Ranges of an ONNX graph's activations, read off calibration images by ONNX Runtime's calibrators."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedistill.base.arrays import Images
from edgedistill.documents.specs import Calibration
from edgedistill.networks.rounding.ranges import chosen_range

_BINS = 2048
_CHUNK = 16
"""So many images' activations are held at a time."""


def read_ranges(path: Path, calibration: Images, method: Calibration, op_types: list[str], scratch: Path) -> Any:
    """The range of every activation of the operators `op_types` in the model at `path`, over uint8 images [n, 3, R, R], as
    ONNX Runtime's TensorsData.

    Its histogram calibrators collect, `ranges.chosen_range` chooses: their own entropy search has a single candidate at
    the number of bins that they start with, and takes seconds a tensor at one that gives it a choice.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator  # type: ignore[import-untyped]
    from onnxruntime.quantization.calibrate import TensorsData  # type: ignore[import-untyped]

    smallest_and_largest = method is Calibration.MINMAX
    calibrator = create_calibrator(
        path,
        op_types,
        augmented_model_path=str(scratch / "augmented.onnx"),
        calibrate_method=CalibrationMethod.MinMax if smallest_and_largest else CalibrationMethod.Percentile,
        extra_options={} if smallest_and_largest else {"symmetric": False, "num_bins": _BINS},
    )
    name = onnx.load(path, load_external_data=False).graph.input[0].name
    with contextlib.redirect_stdout(io.StringIO()):  # the histogram calibrators print
        for start in range(0, len(calibration), _CHUNK):
            calibrator.collect_data(_reader(name, calibration[start : start + _CHUNK]))
    if smallest_and_largest:
        # The mean of each image's range, ONNX Runtime's other min-max, clips: it cost 15 dB of signal to noise on a small
        # network.
        return calibrator.compute_data()
    found = {
        tensor: _chosen(method, histogram, edges, smallest, largest)
        for tensor, (histogram, edges, smallest, largest, *_) in calibrator.collector.get_histogram_dict().items()
    }
    return TensorsData(CalibrationMethod.MinMax, found)


def _chosen(
    method: Calibration, histogram: NDArray[Any], edges: NDArray[Any], smallest: Any, largest: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    low, high = chosen_range(method, histogram.astype(np.float64), float(edges[0]), float(edges[-1]))
    return (
        np.array(max(low, float(smallest)), np.float32),
        np.array(min(high, float(largest)), np.float32),
    )


def _reader(name: str, images: Images) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    feeds = iter([{name: image[None]} for image in images])

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Images] | None:
            return next(feeds, None)

    return Reader()
