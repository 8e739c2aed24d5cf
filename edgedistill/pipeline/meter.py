"""What measures a build's files: the target's device, how sessions are taken, and what is known of both by now."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgedistill.base.errors import UnreachableError
from edgedistill.base.progress import Listener, Note
from edgedistill.base.store import Store
from edgedistill.devices.agent.agent_machine import os_name
from edgedistill.devices.attach import attach, unattached
from edgedistill.devices.base import Device
from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.build_file import BuildConfig, ProfileConfig
from edgedistill.documents.measurements import Percentiles
from edgedistill.documents.specs import Format, Percentile, Target
from edgedistill.formats import format_for, measured_by_agent


@dataclass(frozen=True)
class Scale:
    """What ratios to the anchor mean here: its file, its own latency on the device, by how much sessions differ from one to
    the next (standard deviation of the log) in the unit that a proof is taken in, and from when that is (UTC)."""

    anchor: CompiledArtifact
    anchor_ms: Percentiles
    spread: float
    at: str


@dataclass(eq=False)
class Meter:
    """Measures on a target's `device`; `not_measurable` says why nothing can be, as soon as that is known. `percentile` is
    the budget's, which sessions have runs enough for. `occasion` names the occasion on which measurements are taken:
    another one finds none in the cache that is not its own. `scale` is there once the anchor was measured, `teacher_file`
    (fp32, in the target's own runtime) once it is made: a share is proven in turn with it."""

    target: Target
    device: Device | None
    not_measurable: str = ""
    settings: ProfileConfig = field(default_factory=ProfileConfig)
    percentile: Percentile = Percentile.P95
    occasion: str = ""
    scale: Scale | None = None
    teacher_file: CompiledArtifact | None = None

    @classmethod
    def attached(cls, config: BuildConfig, target: Target, store: Store, *, required: bool, named: str = "") -> Meter:
        """As a build file wants it, with the target's device, or the user's that is `named`, if that answers. Raises
        UnreachableError where that is `required` and does not, InputError where the budget cannot do without."""
        if required:
            return cls(target, attach(target, store.listener, named), "", config.profile, config.budget.percentile)
        device, not_measurable = reached(target, store.listener, named)
        if device is None:
            config.budget.require_measurable(target.name)
        return cls(target, device, not_measurable, config.profile, config.budget.percentile)

    @property
    def measurable(self) -> bool:
        """Whether sessions can be taken, as far as is known."""
        return self.device is not None and not self.not_measurable

    def takes(self, form: Format) -> bool:
        """Whether files of a format are measured on the device: those of the target's runtime, and on this machine all that
        the agent loads here."""
        if form is self.target.runtime:
            return True
        own = measured_by_agent(os_name())
        return self.target.transport == "local" and self.target.runtime in own and form in own

    def close(self) -> None:
        """Let go of the device."""
        if self.device is not None:
            self.device.close()

    def facts(self) -> dict[str, str]:
        """What the device is, and the version of the target's runtime there; empty where it is not attached."""
        return self.device.facts(format_for(self.target.runtime).distribution) if self.device is not None else {}


def reached(target: Target, listener: Listener, named: str = "") -> tuple[Device | None, str]:
    """The target's device, or the user's that is `named`, and why there is none, as results say it. `listener` hears what
    stood in the way. Raises as `attach` does, but not where the device does not answer."""
    try:
        return attach(target, listener, named), ""
    except UnreachableError as error:
        if error.message != unattached(target):
            listener(Note(f"{error.message}; {error.fix}", warning=True))
        return None, unattached(target)
