"""Plain Python with ONNX Runtime that takes one session of a proof again."""

from __future__ import annotations

from edgedistill.devices.agent.agent_sampling import BURST_RUNS, WARMUP_S
from edgedistill.devices.stats import RUNS_BEYOND, least_runs
from edgedistill.documents.measurements import Profile
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Format
from edgedistill.outputs.explain.winner import winning_artifact

_PIN = """
if hasattr(os, "sched_setaffinity"):
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpus} if {cpus} <= allowed else sorted(allowed)[-{threads}:])
"""
_SCRIPT = """\
import os, time
import numpy as np, onnxruntime
from PIL import Image
{pin}
def load(path, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = {threads}, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return model, {{model.get_inputs()[0].name: image}}

def run(loaded, seconds, least):
    (model, feed), taken, end = loaded, [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < least:
        began = time.perf_counter_ns()
        model.run(None, feed)
        taken.append(time.perf_counter_ns() - began)
    return taken

picture = np.asarray(Image.open("package/golden/prepared-000.png"))
student = load({file!r}, np.ascontiguousarray(picture.transpose(2, 0, 1)[np.newaxis]))
run(student, {warmup_s:g}, 3)
"""
_ALONE = """\
taken = run(student, {seconds:g}, {least})
print(np.quantile(taken, {fraction}, method="inverted_cdf") / 1e6, "ms at {percentile}")
"""
_IN_TURN = """\
teacher = load({teacher!r}, np.random.default_rng(0).integers(0, 256, (1, 3, {side}, {side}), "uint8"))
run(teacher, {warmup_s:g}, 3)
ours, theirs, end = [], [], time.perf_counter() + {seconds:g}
while time.perf_counter() < end or min(len(ours), len(theirs)) < {least}:
    ours += run(student, {burst_s:g}, {burst_runs})
    theirs += run(teacher, {burst_s:g}, {burst_runs})
at = {fraction} if min(len(ours), len(theirs)) >= {resolved} else 0.5
ours, theirs = (np.quantile(taken, at, method="inverted_cdf") for taken in (ours, theirs))
print(f"{{ours / theirs:.2%}} of the teacher's at p{{100 * at:.0f}}")
"""


def repeat_script(result: BuildResult, profile: Profile | None) -> str:
    """Python that takes a session of the proof again, run from inside the output folder: it prints the latency in ms, or
    for a share of the teacher the ratio of the two in turn. Empty where there is no proof of an ONNX file, or the teacher's
    file that it needs was left out."""
    proof, artifact = result.proof, winning_artifact(result)
    if proof is None or artifact is None or artifact.format is not Format.ONNX or profile is None:
        return ""
    teacher = next((file.path for file in result.teacher.files if file.sha256 == proof.anchor_sha256), None)
    if proof.share and teacher is None:
        return ""
    environment, percentile = profile.environment, proof.percentile
    pin = _PIN.format(cpus=set(environment.pinned_cpus), threads=environment.threads)
    return (_SCRIPT + (_IN_TURN if proof.share else _ALONE)).format(
        pin=pin if environment.pinned_cpus else "",
        threads=environment.threads,
        file=artifact.path,
        teacher=teacher,
        side=result.teacher.resolution,
        seconds=proof.session_s,
        percentile=percentile,
        least=least_runs(percentile),
        fraction=percentile.fraction,
        resolved=round(RUNS_BEYOND / (1 - percentile.fraction)),
        warmup_s=WARMUP_S,
        burst_s=proof.burst_s,
        burst_runs=BURST_RUNS,
    )


def repeat_command(result: BuildResult) -> str:
    """What to type with the script saved as `again.py`: as many sessions as the proof had, each in a fresh process."""
    return f"for i in $(seq {len(result.proof.values) if result.proof else 0}); do python again.py; sleep 0.5; done"
