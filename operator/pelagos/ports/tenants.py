"""Tenants: a namespace is a tenant. The platform decides what its resources share, in a place where the tenant cannot write.

On a cluster, that is a ConfigMap `pelagos-tenant-<namespace>` in the operator's namespace (api/tenant_settings.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pelagos.api import trial

SYSTEM = "tenants"
LONGEST_TRIAL = trial.LONGEST
CA_FOLDER, CA_KEY = "/etc/pelagos/ca", "ca.crt"
"""The folder in which steps and model servers find their tenant's certificate authorities, and the file in it."""


@dataclass(frozen=True)
class Tenant:
    """Tenant settings of one namespace. Empty fields mean the installation's defaults; Secrets are names in the namespace."""

    experiment_prefix: str = ""
    """Prefix of the names of MLflow experiments."""
    storage_prefix: str = ""
    """Folder below the data and object roots, without leading or trailing slash. The tenant's credentials need no other."""
    shared_with: tuple[str, ...] = ()
    """Namespaces that may have the same prefixes, and name this one in return."""
    queue: str = ""
    """Kueue LocalQueue of pipelines that name none."""
    queues: tuple[str, ...] = ()
    """Other queues that pipelines may name. If this and ``queue`` are empty: any."""
    priority: str = ""
    """Kueue WorkloadPriorityClass of pipelines that name none; empty: none."""
    priorities: tuple[str, ...] = ()
    """Other priorities that pipelines may name. If this and ``priority`` are empty: none, or everybody would take the highest."""
    any_priority: bool = False
    """Whether pipelines may name any priority: where nothing queues, as on one machine."""
    service_account: str = ""
    """ServiceAccount of model servers; it needs no rights."""
    pipeline_service_account: str = ""
    """ServiceAccount of pipeline steps, for Kubeflow's own containers in their pods. Empty: Kubeflow's default."""
    tracking_secret: str = ""
    """Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."""
    objects_secret: str = ""
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    data_claim: str = ""
    """PersistentVolumeClaim of the data volume, unless that is object storage."""
    objects_claim: str = ""
    """PersistentVolumeClaim of the objects, unless they are in object storage."""
    ca_config_map: str = ""
    """ConfigMap whose key ca.crt holds the certificate authorities of object storage and MLflow."""
    image_pull_secrets: tuple[str, ...] = ()
    source_hosts: str = ""
    """Hosts that sources may be fetched from in addition to public addresses, in the form of pelagos_contract.source_hosts."""
    max_gpus: int | None = None
    """Most GPUs that one resource may ask for; None: any number."""
    gateway_access: str = ""
    """Who, in addition to users with a trial, may call models through the gateway; empty: as the gateway's settings say."""
    gateway_entitlements: str = ""
    """Entitlements of which one is required if ``gateway_access`` is Entitled."""
    trials_enabled: bool = True
    """Whether models may be tried."""
    trials_per_user: int = 3
    """Most trials that one user may have at the same time, of those that the hub made."""
    trials_at_once: int = 5
    """Most trials in the namespace at the same time."""
    trials_longest: str = "10m"
    """Longest duration of a trial."""
    trials_entitlements: tuple[str, ...] = ()
    """Entitlements of which one must be attested of a user who tries models; empty: none is required."""
    trials_keep: str = "10m"
    """How long a Trial is kept after its end."""

    def below(self, path: str) -> str:
        """The path within the tenant's part of the object store or of the data volume."""
        return f"{self.storage_prefix}/{path}" if self.storage_prefix else path


class OneTenant:
    """Implements Tenants for one machine, where namespaces have no tenant settings of their own."""

    async def find(self, namespace: str) -> Tenant:
        """The tenant settings of the installation, the same for every namespace."""
        del namespace
        # There is one user, who can decide how long to try a model.
        return Tenant(any_priority=True, trials_longest=LONGEST_TRIAL)


class Tenants(Protocol):
    """Methods may raise OutageError, and RejectedError for unusable settings, with the key, its value and what is allowed.

    No prefix of a namespace is within that of another one, unless each names the other as sharing.
    """

    async def find(self, namespace: str) -> Tenant:
        """The tenant settings of a namespace, or those of the installation if it has none."""
