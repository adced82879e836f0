"""Which names a run may use in a shared namespace. Called by the engine kubeflow before it creates a run; pure.

Names of Secrets, claims, ConfigMaps, accounts and queues are resolved where the pods are. If the runs of all tenants share one
namespace, a name meant for a tenant's own object would give access to those of the installation, or of another tenant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pelagos.api import reasons, tenant_settings
from pelagos.ports.errors import RejectedError
from pelagos.ports.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pelagos.engines.kubeflow.placement import PodDefaults
    from pelagos.ports.pipelines import RunRequest


def in_common_namespace(request: RunRequest, pod_defaults: PodDefaults, namespace: str) -> RunRequest:
    """The request as it may run in ``namespace``, which belongs to no tenant: with the installation's names only.

    The account is the Kubeflow server's own. Raises RejectedError when the tenant names anything else that would be used.
    """
    for key, given, usual in _named(request.tenant, pod_defaults):
        if given and given != usual:
            allowed = f"only {usual}, as the installation has it," if usual else "none"
            message = (
                f"{key} of the ConfigMap {tenant_settings.name_of(request.namespace)} is {given!r}; pipelines of all "
                f"namespaces run in {namespace}, where {allowed} may be used. Remove the key"
            )
            raise RejectedError("pipelines", message)
    if request.secret is not None:
        message = (
            f"secretRef names the Secret {request.secret.name}; pipelines of all namespaces run in {namespace}, where no pod can "
            f"mount a Secret of {request.namespace}. Fetch from a place that needs no login, or use a multi-user Kubeflow"
        )
        raise RejectedError("pipelines", message)
    queue, queues = request.resources.placement.queue, (request.tenant.queue, *request.tenant.queues)
    if queue and queue not in queues:
        message = (
            f"spec.resources.queue is {queue!r}; pipelines of all namespaces run in {namespace}, which also has the queues of "
            f"others,  and {request.namespace} may use {', '.join(filter(None, queues)) or 'none'}. Name one of these, or ask "
            f"for yours to be allowed (queues in the ConfigMap {tenant_settings.name_of(request.namespace)})"
        )
        raise RejectedError("pipelines", message, reason=reasons.QUEUE_NOT_ALLOWED)
    tenant = replace(request.tenant, service_account="", pipeline_service_account="", image_pull_secrets=())
    return replace(request, tenant=tenant)


def _named(tenant: Tenant, pod_defaults: PodDefaults) -> Iterator[tuple[str, str, str]]:
    """Triples of key, the tenant's value and the installation's value, for the keys that pods would use."""
    yield "trackingSecret", tenant.tracking_secret, pod_defaults.tracking_secret
    if pod_defaults.object_storage:
        yield "objectsSecret", tenant.objects_secret, pod_defaults.objects_secret
    if pod_defaults.data.path:
        yield "dataClaim", tenant.data_claim, pod_defaults.data.claim
    if pod_defaults.objects.path:
        yield "objectsClaim", tenant.objects_claim, pod_defaults.objects.claim
    yield "caConfigMap", tenant.ca_config_map, pod_defaults.ca_config_map
    yield "imagePullSecrets", ", ".join(tenant.image_pull_secrets), ""
