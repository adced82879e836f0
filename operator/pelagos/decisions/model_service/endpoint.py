"""The desired endpoint, by the model and the settings in spec."""

from __future__ import annotations

from dataclasses import replace

from pelagos.decisions import digests, durations
from pelagos.decisions.model_service.observed import Observed, ResolvedModel
from pelagos.decisions.placing import place, threads
from pelagos.ports.serving import DesiredService, ObservedService, Scaling, spec_digest
from pelagos.ports.tenants import Tenant
from pelagos_contract import history

HISTORY = history.of_subject("ModelService")
_DIGESTED_AS = {"scaling": "Scaling", "placement": "Placement", "tenant": "Tenant", "max_detections": "maxDetections"}
"""Field names as the first digests spelled them, where that differs from the field's own name."""


def wanted(seen: Observed, model: ResolvedModel) -> DesiredService:
    """The desired endpoint for ``model`` with the settings in spec."""
    spec = seen.spec
    want = DesiredService(
        uid=seen.uid,
        namespace=seen.namespace,
        name=seen.name,
        model_name=seen.name,
        package_uri=model.uri,
        onnx_sha256=model.onnx_sha256,
        manifest_sha256=model.manifest_sha256,
        max_batch_size=spec.runtime.max_batch_size,
        max_queue_delay=durations.microseconds(spec.runtime.max_queue_delay),
        instances=spec.runtime.instances,
        confidence=spec.thresholds.confidence,
        iou=spec.thresholds.iou,
        cpu=threads(spec.resources),
        max_detections=spec.max_detections,
        per_class=spec.thresholds.per_class,
        digest="",
        scaling=Scaling(
            mode=spec.scaling.deployment_mode,
            minimum=spec.scaling.min,
            maximum=spec.scaling.most,
            concurrency=spec.scaling.target.concurrency or 0,
            cpu=spec.scaling.target.cpu or 0,
            old_first=spec.old_first,
        ),
        placement=place(spec.resources),
        tenant=seen.tenant,
    )
    pods = _pods_digest(want, seen.retry)
    return replace(want, digest=spec_digest(pods, want.scaling), pods_digest=pods)


def address(service: ObservedService) -> str:
    """The address for clients: that of gRPC, if there is one."""
    return f"grpc://{service.grpc_url}" if service.grpc_url else service.http_url


def _pods_digest(want: DesiredService, retry: str) -> str:
    """Digest of everything that servers are made from.

    In the form of its first release, so that an upgrade that adds a setting does not restart servers.
    """
    servers = replace(want, scaling=Scaling(mode=want.scaling.mode), tenant=_of_servers(want.tenant))
    stated = {
        _DIGESTED_AS.get(name, name): value for name, value in HISTORY.canonical(servers).items() if name != "digest"
    }
    return digests.digest(stated | {"retry": retry})


def _of_servers(tenant: Tenant) -> Tenant:
    """The tenant settings that model servers depend on. A change of any other must not restart servers."""
    return Tenant(
        service_account=tenant.service_account,
        objects_secret=tenant.objects_secret,
        objects_claim=tenant.objects_claim,
        ca_config_map=tenant.ca_config_map,
        image_pull_secrets=tenant.image_pull_secrets,
    )
