"""All that decisions about a ModelService go by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pelagos.api.model_service import ModelServiceSpec
from pelagos.api.reasons import Reason
from pelagos.ports.serving import ObservedService, ProbeResult
from pelagos.ports.tenants import Tenant


@dataclass(frozen=True)
class ResolvedModel:
    """A model package; ``source`` says in words where it comes from, ``manifest_sha256`` pins what is in it."""

    uri: str
    onnx_sha256: str
    manifest_sha256: str
    source: str


@dataclass(frozen=True)
class Unresolved:
    """Why there is no model to serve; the reason says whether it is waited for, or a person must change something."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Observed:
    """All that is known about a ModelService, read once.

    ``model`` is what spec names now; ``last_model`` what was served last, for when the reference has gone, and
    ``last_reference`` what spec named then; ``last_proven`` is the DesiredService.pods of which an answer was right. ``probe`` is
    the latest synthetic inference of the server as it runs now; None when none was made yet. ``wrong_probes`` counts wrong ones
    in a row.
    """

    spec: ModelServiceSpec
    namespace: str
    name: str
    uid: str
    retry: str
    model: ResolvedModel | Unresolved
    last_model: ResolvedModel | None
    last_reference: str | None
    service: ObservedService | None
    probe: ProbeResult | None
    wrong_probes: int
    now: datetime
    tenant: Tenant = Tenant()
    last_proven: str | None = None
    generation: int = 1
    served_generation: int | None = None
    """Whose model and settings answered when we last looked; None when none did."""

    @property
    def is_resolved(self) -> bool:
        """Whether what spec names is known now, or was when it was served last."""
        return isinstance(self.model, ResolvedModel) or self.last_reference == reference(self.spec)


def reference(spec: ModelServiceSpec) -> str:
    """What spec.model names, in one line: equal for equal references, whatever they lead to."""
    if spec.model.training_run_ref is not None:
        return f"TrainingRun {spec.model.training_run_ref.name}"
    if spec.model.registry is not None:
        chosen = spec.model.registry
        which = f"alias {chosen.alias}" if chosen.alias is not None else f"version {chosen.version}"
        return f"registered model {chosen.model} {which}"
    return f"package {spec.model.uri}"
