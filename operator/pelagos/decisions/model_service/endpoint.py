"""The endpoint that a model and the settings in spec make."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pelagos.decisions import digests, durations
from pelagos.decisions.model_service.observed import Observed, ResolvedModel
from pelagos.decisions.placing import place
from pelagos.ports.serving import DesiredService, Scaling, spec_digest
from pelagos.ports.tenants import Tenant
from pelagos_contract.training import MAX_DETECTIONS


def wanted(seen: Observed, model: ResolvedModel) -> DesiredService:
    """The endpoint that ``model`` and the settings in spec make."""
    spec = seen.spec
    fields: dict[str, Any] = {
        "uid": seen.uid,
        "namespace": seen.namespace,
        "name": seen.name,
        "model_name": seen.name,
        "package_uri": model.uri,
        "onnx_sha256": model.onnx_sha256,
        "manifest_sha256": model.manifest_sha256,
        "max_batch_size": spec.runtime.max_batch_size,
        "max_queue_delay": durations.microseconds(spec.runtime.max_queue_delay),
        "instances": spec.runtime.instances,
        "confidence": spec.thresholds.confidence,
        "iou": spec.thresholds.iou,
        "cpu": spec.resources.cpu,
    }
    scaling = Scaling(
        mode=spec.scaling.deployment_mode,
        minimum=spec.scaling.min,
        maximum=spec.scaling.max,
        concurrency=spec.scaling.target.concurrency or 0,
        cpu=spec.scaling.target.cpu or 0,
    )
    placement = place(spec.resources)
    unusual = _unusual(Scaling(mode=scaling.mode), placement, _of_servers(seen.tenant))
    if spec.max_detections != MAX_DETECTIONS:
        unusual["maxDetections"] = spec.max_detections
    pods = digests.digest(fields | {"retry": seen.retry} | unusual)
    return DesiredService(
        **fields,
        max_detections=spec.max_detections,
        digest=spec_digest(pods, scaling),
        pods_digest=pods,
        scaling=scaling,
        placement=placement,
        tenant=seen.tenant,
    )


def _of_servers(tenant: Tenant) -> Tenant:
    """What of a tenant settings a model server has; a change of the others restarts none."""
    return Tenant(
        service_account=tenant.service_account,
        objects_secret=tenant.objects_secret,
        objects_claim=tenant.objects_claim,
        ca_config_map=tenant.ca_config_map,
        image_pull_secrets=tenant.image_pull_secrets,
    )


def _unusual(*values: Any) -> dict[str, Any]:
    """What differs from the defaults, by the name of its type: an upgrade that adds a setting restarts no server."""
    return {type(value).__name__: asdict(value) for value in values if value != type(value)()}
