"""The training loop, for students and for a teacher that is fitted: one function to read, and the state it goes on from.

A run is a function of its inputs. Batch order, views and the numbers that dropout draws depend on the seed and the step
alone, so a run paused after an epoch, or killed at any step, ends with the weights of the uninterrupted one; on a CPU to
the bit if it has one number of threads throughout, since sums are taken in another order with another. Of several processes
(`ranks`) that train one network each runs this loop, with its part of each batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from edgedistill.base.errors import TrialFailure
from edgedistill.base.machine import freed_memory_kept
from edgedistill.base.progress import Listener, StageAdvanced, silent
from edgedistill.base.quiet import quiet
from edgedistill.base.store import whole
from edgedistill.distill.batches import Batch, ViewBatches
from edgedistill.distill.hardware import Hardware
from edgedistill.distill.launch import on_ranks, require_parts
from edgedistill.distill.pace import Pace, thread_counts
from edgedistill.distill.pointwise import safe_convolutions
from edgedistill.distill.ranks import ALONE, Rank
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.networks.build import Normalised
from edgedistill.networks.threads import own_threads

STATE = "state.pt"
REPORT_SECONDS = 0.25
# Distillation gradients of a healthy run stay below this; it bounds the one step that a bad batch would ruin.
CLIP_NORM = 5.0
WARMUP_START = 0.01


@dataclass(frozen=True)
class Schedule:
    """How a network is optimised: AdamW, warm-up and cosine over `total_epochs`, an average of the weights.

    With a `layer_decay` below 1 the rate of each layer is that of the layer behind it times that, and the classifier's is
    `learning_rate` (Clark et al. 2020, https://arxiv.org/abs/2003.10555, section 3.1). `checkpoint_seconds` is the longest
    stretch of work that a kill can lose.
    """

    total_epochs: int
    learning_rate: float
    weight_decay: float
    warmup_epochs: float
    ema_decay: float
    seed: int
    checkpoint_seconds: float
    layer_decay: float = 1.0


@dataclass(frozen=True)
class Stretch:
    """A part of a run: up to the end of epoch `until_epoch`, from `folder`/state.pt where a killed call left one, else from
    `previous`/state.pt, else from the start; `folder`/state.pt is there at its end. `listener` hears of its steps as
    those of `stage`, a few times a second."""

    until_epoch: int
    folder: Path
    previous: Path | None = None
    listener: Listener = silent
    stage: str = "train"


@dataclass(frozen=True)
class TrainingOutcome:
    """`pupil` has the averaged weights and batch statistics, in eval mode on the training device. `seconds` counts every
    stretch of the run, earlier rungs included."""

    pupil: Pupil
    seconds: float


def train(
    pupil: Pupil,
    batches: ViewBatches,
    schedule: Schedule,
    hardware: Hardware,
    stretch: Stretch,
) -> TrainingOutcome:
    """Train `pupil` by its recipe over `stretch`; it is changed in place. Raises TrialFailure where the loss or a weight is
    no longer finite, the device runs out of memory, or one of several processes dies."""
    if hardware.processes == 1:
        return train_as(ALONE, pupil, batches, schedule, hardware, stretch)
    require_parts(batches.smallest, hardware.processes)
    arguments = (pupil.taken_apart(), batches, schedule, hardware, replace(stretch, listener=silent))
    on_ranks(hardware.processes, hardware.device, _train_part, arguments, stretch.listener)
    state = torch.load(stretch.folder / STATE, map_location="cpu", weights_only=True)
    pupil.load_state_dict(state["ema"])
    return TrainingOutcome(pupil.to(hardware.device).eval(), state["seconds"])


def _train_part(
    rank: Rank,
    parts: tuple[Any, ...],
    batches: ViewBatches,
    schedule: Schedule,
    hardware: Hardware,
    stretch: Stretch,
    tell: Listener,
) -> None:
    pupil, own = Pupil.put_together(*parts), hardware.of(rank.number)
    train_as(rank, pupil, batches.of(rank), schedule, own, replace(stretch, listener=tell))


def train_as(
    rank: Rank,
    pupil: Pupil,
    batches: ViewBatches,
    schedule: Schedule,
    hardware: Hardware,
    stretch: Stretch,
) -> TrainingOutcome:
    """`train` in this process, one of those that do it together; `batches` are its part of each. The first of them writes
    the state and tells of progress."""
    began = time.monotonic()
    folder = stretch.folder
    last = stretch.until_epoch * batches.steps_per_epoch
    state = _State(pupil, schedule, hardware, batches.steps_per_epoch, rank)
    state.restore(folder, stretch.previous, last)
    watch = _Watch(batches.steps_per_epoch, schedule.total_epochs)
    saved = reported = began
    pace = Pace(thread_counts(hardware.threads, hardware.device), stretch.listener)
    with (
        torch.random.fork_rng([hardware.device] if hardware.device.type == "cuda" else []),
        own_threads(),
        freed_memory_kept(),
    ):
        pupil.train()
        for batch in batches.loader(range(state.step, last), hardware):
            torch.manual_seed(schedule.seed * 1_000_003 + state.step + rank.seed_offset)
            with pace.step():
                loss = state.advance(batch.to(hardware.device))
            watch.unseen.append((state.step, loss, state.learning_rate))
            now = time.monotonic()
            if rank.first and now - saved >= schedule.checkpoint_seconds and state.step < last:
                watch.require_finite()
                state.save(folder, seconds=now - began)
                saved = now
            if now - reported >= REPORT_SECONDS:
                stretch.listener(StageAdvanced(stretch.stage, state.step, last, watch.note()))
                reported = now
    watch.require_finite()
    state.require_finite_weights()
    seconds = time.monotonic() - began
    if rank.first:
        state.save(folder, seconds=seconds)
    stretch.listener(StageAdvanced(stretch.stage, last, last, watch.note()))
    return TrainingOutcome(cast("Pupil", state.ema.module.eval()), state.seconds + seconds)


def parameter_groups(pupil: Pupil, schedule: Schedule) -> list[dict[str, Any]]:
    """What AdamW is given: no weight decay for biases and norms, and a share of the rate for each layer. Networks that say
    nothing of their layers have one rate."""
    if schedule.layer_decay == 1:
        plain: list[dict[str, Any]] = param_groups_weight_decay(pupil, schedule.weight_decay)
        return plain
    network = pupil.network.network if isinstance(pupil.network, Normalised) else pupil.network
    with quiet():  # it warns of such networks
        found: list[dict[str, Any]] = param_groups_layer_decay(
            network, schedule.weight_decay, layer_decay=schedule.layer_decay
        )
    return found


class _State:
    """Everything that a step reads and changes."""

    def __init__(
        self, pupil: Pupil, schedule: Schedule, hardware: Hardware, steps_per_epoch: int, rank: Rank = ALONE
    ) -> None:
        self.hardware = hardware
        self.rank = rank
        self.pupil: Pupil = pupil.to(hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.schedule = schedule
        self.step = 0
        self.seconds = 0.0
        self.parameters = [p for p in pupil.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(pupil, schedule),
            lr=schedule.learning_rate,
            fused=hardware.device.type in ("cpu", "cuda"),
        )
        total = schedule.total_epochs * steps_per_epoch
        warmup = min(round(schedule.warmup_epochs * steps_per_epoch), total // 2)
        self.scheduler = CosineLRScheduler(
            self.optimizer,
            t_initial=total - warmup,
            warmup_t=warmup,
            warmup_lr_init=schedule.learning_rate * WARMUP_START,
            warmup_prefix=True,
            t_in_epochs=False,
        )
        self.scaler = torch.amp.GradScaler(hardware.device.type, enabled=hardware.autocast is torch.float16)
        # The decay rises from 0 (1 - (1 + step)^-2/3), or the average of a short run would still hold its random start.
        self.ema = ModelEmaV3(pupil, decay=schedule.ema_decay, use_warmup=True)

    @property
    def learning_rate(self) -> float:
        """Rate of the step just taken, of the layer where it is highest."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def advance(self, batch: Batch) -> Tensor:
        """One step; its loss, still on the device."""
        self.scheduler.step_update(self.step)
        images = batch.images.to(torch.float32, memory_format=torch.channels_last)
        autocast = self.hardware.autocast
        try:
            with (
                torch.autocast(self.hardware.device.type, autocast, enabled=autocast is not None),
                safe_convolutions(self.hardware.device),
                self.rank.batch_norms(),
            ):
                outputs = self.pupil(images)
            loss = self.pupil.loss(self.rank.gathered(outputs, len(batch.labels)), batch)
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.rank.average(self.parameters)
        except torch.OutOfMemoryError as error:
            raise TrialFailure(
                f"{self.hardware.device} ran out of memory at batch size {len(batch.labels)}",
                fix="lower [train] batch_size",
            ) from error
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.ema.update(self.pupil, step=self.step)
        return loss.detach()

    def save(self, folder: Path, *, seconds: float) -> None:
        """Write state.pt whole or not at all. `seconds` are this call's."""
        content = {
            "step": self.step,
            "seconds": self.seconds + seconds,
            "total_epochs": self.schedule.total_epochs,
            "pupil": self.pupil.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        with whole(folder / STATE) as temporary:
            torch.save(content, temporary)

    def restore(self, folder: Path, previous: Path | None, last: int) -> None:
        """Go on from the state in `folder`, else in `previous`, else stay at step 0."""
        found = [path / STATE for path in (folder, previous) if path is not None and (path / STATE).is_file()]
        if not found:
            if previous is not None:
                raise FileNotFoundError(previous / STATE)
            return
        content = torch.load(found[0], map_location="cpu", weights_only=True)
        if content["total_epochs"] != self.schedule.total_epochs or content["step"] > last:
            raise ValueError(
                f"{found[0]} is at step {content['step']} of a schedule of {content['total_epochs']} epochs; "
                f"it cannot go on to step {last} of one of {self.schedule.total_epochs}"
            )
        self.step, self.seconds = content["step"], content["seconds"]
        self.pupil.load_state_dict(content["pupil"])
        self.ema.module.load_state_dict(content["ema"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])

    def require_finite_weights(self) -> None:
        """The last step's gradient may have been infinite where its loss was not."""
        tensors = [t for t in self.ema.module.state_dict().values() if t.is_floating_point()]
        if not all(bool(torch.isfinite(t).all()) for t in tensors):
            raise TrialFailure(f"a weight is not finite after step {self.step}", fix="lower [train] learning_rate")


@dataclass(eq=False)
class _Watch:
    """Losses since the last look, with their steps and learning rates. They stay on the device until someone looks: reading
    one waits for a GPU."""

    steps_per_epoch: int
    total_epochs: int
    unseen: list[tuple[int, Tensor, float]] = field(default_factory=list)
    mean: float = float("nan")
    step: int = 0

    def require_finite(self) -> None:
        """Raise TrialFailure for the first loss that is not finite."""
        if not self.unseen:
            return
        losses = torch.stack([loss for _, loss, _ in self.unseen]).cpu()
        for (step, _, rate), loss in zip(self.unseen, losses.tolist(), strict=True):
            if not abs(loss) < float("inf"):
                epoch = (step - 1) // self.steps_per_epoch + 1
                raise TrialFailure(
                    f"the loss is {loss} in epoch {epoch}, step {step}, at learning rate {rate:.2g}",
                    fix="lower [train] learning_rate",
                )
        self.mean, self.step = float(losses.mean()), self.unseen[-1][0]
        self.unseen.clear()

    def note(self) -> str:
        """`epoch 3/16, loss 0.123`: the mean since the last note."""
        self.require_finite()
        if not self.step:
            return ""
        epoch = (self.step - 1) // self.steps_per_epoch + 1
        return f"epoch {epoch}/{self.total_epochs}, loss {self.mean:.3g}"
