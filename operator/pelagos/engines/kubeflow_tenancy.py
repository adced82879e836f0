"""What a run may name in a namespace that it shares. Called by the engine kubeflow before it makes one; pure.

Names of Secrets, claims, ConfigMaps, accounts and queues are looked up where the pods are. Where runs of all tenants are in one
namespace, a name that is meant for a tenant's own would open what the installation, or another tenant, keeps in the common one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pelagos.api import conventions
from pelagos.ports.errors import RejectedError
from pelagos.ports.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pelagos.engines.kubeflow_placement import Surroundings
    from pelagos.ports.pipelines import RunRequest


def in_common_namespace(request: RunRequest, surroundings: Surroundings, namespace: str) -> RunRequest:
    """The request as it may run in ``namespace``, which belongs to no tenant: with the installation's names only.

    The account is the Kubeflow server's own. Raises RejectedError for a tenant that names anything else that would be used.
    """
    for key, given, usual in _named(request.tenant, surroundings):
        if given and given != usual:
            allowed = f"only {usual}, as the installation has it," if usual else "none"
            message = (
                f"{key} of the ConfigMap {conventions.name_of(request.namespace)} is {given!r}; pipelines of all "
                f"namespaces run in {namespace}, where {allowed} may be used. Remove the key"
            )
            raise RejectedError("pipelines", message)
    queue, queues = request.resources.placement.queue, (request.tenant.queue, *request.tenant.queues)
    if queue and queue not in queues:
        message = (
            f"spec.resources.queue is {queue!r}; pipelines of all namespaces run in {namespace}, where the queues of others are, "
            f"and {request.namespace} may use {', '.join(filter(None, queues)) or 'none'}. Name one of these, or have "
            f"yours allowed (queues in the ConfigMap {conventions.name_of(request.namespace)})"
        )
        raise RejectedError("pipelines", message, reason="QueueNotAllowed")
    tenant = replace(request.tenant, service_account="", pipeline_service_account="", image_pull_secrets=())
    return replace(request, tenant=tenant)


def _named(tenant: Tenant, surroundings: Surroundings) -> Iterator[tuple[str, str, str]]:
    """Keys, what the tenant says and what the installation has; without those that no pod would use."""
    yield "trackingSecret", tenant.tracking_secret, surroundings.tracking_secret
    if surroundings.object_storage:
        yield "objectsSecret", tenant.objects_secret, surroundings.objects_secret
    if surroundings.data.path:
        yield "dataClaim", tenant.data_claim, surroundings.data.claim
    if surroundings.objects.path:
        yield "objectsClaim", tenant.objects_claim, surroundings.objects.claim
    yield "caConfigMap", tenant.ca_config_map, surroundings.ca_config_map
    yield "imagePullSecrets", ", ".join(tenant.image_pull_secrets), ""
