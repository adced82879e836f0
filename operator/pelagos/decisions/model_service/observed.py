"""Everything that decisions about a ModelService are based on."""

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
    """The package's folder, in the namespace's part of the store."""
    onnx_sha256: str
    """Digest of the model's ONNX graph."""
    manifest_sha256: str
    """Digest of the package's manifest, which pins its content. Empty only for a model that an earlier release served."""
    source: str
    """Where the package comes from, for messages."""


@dataclass(frozen=True)
class Unresolved:
    """Why there is no model to serve."""

    reason: Reason
    """Its state says whether to wait for the model, or a person must change something."""
    message: str
    """For people, with the field and the next step."""


@dataclass(frozen=True)
class Observed:
    """All observations of a ModelService, read once by reconcilers/model_services.gather."""

    spec: ModelServiceSpec
    """From the resource, its defaults filled in."""
    namespace: str
    name: str
    uid: str
    """From the resource's metadata."""
    retry: str
    """From the retry annotation; empty without one."""
    model: ResolvedModel | Unresolved
    """From the cache, Registry or Objects: what spec.model names now."""
    last_model: ResolvedModel | None
    """From status: the model served last, in case the reference cannot be resolved. None: nothing was, or it is not in a folder
    that the namespace may serve from."""
    last_reference: str | None
    """From status: what spec.model named then (see ``reference``). None: nothing was served."""
    service: ObservedService | None
    """From Serving: the endpoint. None: nothing serves, and nothing is being started."""
    probe: ProbeResult | None
    """From the latest probe of the server as it runs now. None: none was made yet, or no model is loaded."""
    wrong_probes: int
    """Number of wrong probes in a row."""
    now: datetime
    """The time by the clock that noted when ``service`` entered its state."""
    tenant: Tenant = Tenant()
    """From Tenants."""
    last_proven: str | None = None
    """From status: the DesiredService.pod_template_digest of servers that have answered correctly. None: none have yet."""
    generation: int = 1
    """From the resource's metadata: that of ``spec``."""
    published_url: str | None = None
    """From status: the address that was published last. None: none was."""
    served_generation: int | None = None
    """From status: the generation of spec whose model and settings were served in the last pass. None: none were."""

    trained_card: Card | None = None
    """From the cache: spec.card of the TrainingRun that made the model. None: it has none, or no longer exists."""

    gateway: Gateway = Gateway()
    """From settings: where people reach the service."""

    @property
    def is_resolved(self) -> bool:
        """Whether the model that spec names is known, or is the one that was served last."""
        return isinstance(self.model, ResolvedModel) or self.last_reference == reference(self.spec)

    @property
    def served(self) -> ResolvedModel:
        """The model to serve: the one that spec names, else the last one. For checks after model.unresolved."""
        if isinstance(self.model, ResolvedModel):
            return self.model
        assert self.last_model is not None
        return self.last_model

    @property
    def running(self) -> ObservedService:
        """The endpoint. For checks after change.starting."""
        assert self.service is not None
        return self.service


def reference(spec: ModelServiceSpec) -> str:
    """The reference in spec.model, in one line. Equal for equal references, even if they resolve to different models."""
    if spec.model.training_run_ref is not None:
        return f"TrainingRun {spec.model.training_run_ref.name}"
    if spec.model.registry is not None:
        chosen = spec.model.registry
        which = f"alias {chosen.alias}" if chosen.alias is not None else f"version {chosen.version}"
        return f"registered model {chosen.model} {which}"
    return f"package {spec.model.uri}"
