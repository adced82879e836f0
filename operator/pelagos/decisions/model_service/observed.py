"""All that decisions about a ModelService go by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pelagos.api.model_service import ModelServiceSpec
from pelagos.api.reasons import Reason
from pelagos.ports.gateway import Gateway
from pelagos.ports.serving import ObservedService, ProbeResult
from pelagos.ports.tenants import Tenant
from pelagos_contract.model_card import Card


@dataclass(frozen=True)
class ResolvedModel:
    """A model package that may be served."""

    uri: str
    """Its folder, in the namespace's part of the store."""
    onnx_sha256: str
    """Digest of its graph."""
    manifest_sha256: str
    """Pins what is in it. Empty only of what an earlier release served."""
    source: str
    """Where it comes from, in words."""


@dataclass(frozen=True)
class Unresolved:
    """Why there is no model to serve."""

    reason: Reason
    """Says whether it is waited for, or a person must change something."""
    message: str
    """In words, with the field and the next step."""


@dataclass(frozen=True)
class Observed:
    """All that is known about a ModelService, read once by reconcilers/model_services.gather."""

    spec: ModelServiceSpec
    """From the resource, its defaults filled in."""
    namespace: str
    name: str
    uid: str
    """From the resource's metadata."""
    retry: str
    """From the retry annotation; empty without one."""
    model: ResolvedModel | Unresolved
    """What spec.model names now: by the watch's cache, Registry or Objects."""
    last_model: ResolvedModel | None
    """From status: what was served last, for when the reference has gone. None: nothing was, or it is not the namespace's own."""
    last_reference: str | None
    """From status: what spec.model named then (see ``reference``). None: nothing was served."""
    service: ObservedService | None
    """From Serving; None: nothing serves, and nothing is being started."""
    probe: ProbeResult | None
    """From the latest synthetic inference of the server as it runs now. None: none was made yet, or no model is loaded."""
    wrong_probes: int
    """Wrong ones in a row."""
    now: datetime
    """From the clock that noted since when ``service`` is in its state."""
    tenant: Tenant = Tenant()
    """From Tenants."""
    last_proven: str | None = None
    """From status: the DesiredService.pod_template_digest of which an answer was right. None: of none yet."""
    generation: int = 1
    """From the resource's metadata: that of ``spec``."""
    published_url: str | None = None
    """From status: the address that clients were told last. None: none was."""
    served_generation: int | None = None
    """From status: whose model and settings answered when we last looked. None: none did."""

    trained_card: Card | None = None
    """From the watch's cache: what spec.card of the TrainingRun says that made the model. None: nothing, or it is gone."""

    gateway: Gateway = Gateway()
    """From settings: where people reach the service."""

    @property
    def is_resolved(self) -> bool:
        """Whether what spec names is known now, or was when it was served last."""
        return isinstance(self.model, ResolvedModel) or self.last_reference == reference(self.spec)

    @property
    def served(self) -> ResolvedModel:
        """What is to be served: what spec names, else what was served last. For checks after model.unresolved."""
        if isinstance(self.model, ResolvedModel):
            return self.model
        assert self.last_model is not None
        return self.last_model

    @property
    def running(self) -> ObservedService:
        """What serves. For checks after change.starting."""
        assert self.service is not None
        return self.service


def reference(spec: ModelServiceSpec) -> str:
    """What spec.model names, in one line: equal for equal references, whatever they lead to."""
    if spec.model.training_run_ref is not None:
        return f"TrainingRun {spec.model.training_run_ref.name}"
    if spec.model.registry is not None:
        chosen = spec.model.registry
        which = f"alias {chosen.alias}" if chosen.alias is not None else f"version {chosen.version}"
        return f"registered model {chosen.model} {which}"
    return f"package {spec.model.uri}"
