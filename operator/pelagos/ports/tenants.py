"""Tenants: a namespace is a tenant. What its resources share is decided by the platform, where the tenant cannot write.

On a cluster that is a ConfigMap `pelagos-tenant-<namespace>` in the operator's namespace (api/tenant_settings.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pelagos.api import trial

SYSTEM = "tenants"
LONGEST_TRIAL = trial.LONGEST
CA_FOLDER, CA_KEY = "/etc/pelagos/ca", "ca.crt"
"""Where steps and model servers find the certificate authorities of their tenant, and their file there."""


@dataclass(frozen=True)
class Tenant:
    """Tenant settings of one namespace; empty fields leave the installation's defaults. Secrets are names in it."""

    experiment_prefix: str = ""
    """Put before the names of MLflow experiments."""
    storage_prefix: str = ""
    """Folder below the data and object roots, without slashes at its ends; the tenant's credentials need no more."""
    shared_with: tuple[str, ...] = ()
    """Namespaces that may have the same prefixes, and name this one."""
    queue: str = ""
    """Kueue LocalQueue of pipelines that name none."""
    queues: tuple[str, ...] = ()
    """Queues that pipelines may name besides. Without these and ``queue``: any."""
    priority: str = ""
    """Kueue WorkloadPriorityClass of pipelines that name none; empty: none."""
    priorities: tuple[str, ...] = ()
    """Those that pipelines may name besides. Without these and ``priority``: none, since who may choose takes the highest."""
    any_priority: bool = False
    """Whether any may be named: where nobody queues, as on one machine."""
    service_account: str = ""
    """Of model servers; it needs no rights."""
    pipeline_service_account: str = ""
    """Of pipeline steps: Kubeflow's own parts in their pods use its rights. Empty: the one that the Kubeflow server gives."""
    tracking_secret: str = ""
    """Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."""
    objects_secret: str = ""
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    data_claim: str = ""
    """PersistentVolumeClaim that holds the data volume, where it is no object storage."""
    objects_claim: str = ""
    """PersistentVolumeClaim that holds the objects, where they are in no object storage."""
    ca_config_map: str = ""
    """ConfigMap whose key ca.crt holds the certificate authorities of object storage and MLflow."""
    image_pull_secrets: tuple[str, ...] = ()
    source_hosts: str = ""
    """From where sources may be fetched beside public addresses, as pelagos_contract.source_hosts reads it."""
    max_gpus: int | None = None
    """Most GPUs that one resource may ask for; None: any number."""
    gateway_access: str = ""
    """Who may call models through the gateway, beside whoever has a trial; empty: as the gateway's settings say."""
    gateway_entitlements: str = ""
    """Of which one is needed where that is Entitled."""
    trials_enabled: bool = True
    """Whether models may be tried."""
    trials_per_user: int = 3
    """Most trials that one user has at once, of those that the hub made."""
    trials_at_once: int = 5
    """Most trials in the namespace at once."""
    trials_longest: str = "10m"
    """How long one may last."""
    trials_entitlements: tuple[str, ...] = ()
    """Users of whom one of these is attested may try models; none: anyone."""
    trials_keep: str = "10m"
    """How long after its end a Trial is kept."""

    def below(self, path: str) -> str:
        """The path in the part of the object store, or of the data volume, that is the tenant's."""
        return f"{self.storage_prefix}/{path}" if self.storage_prefix else path


class OneTenant:
    """Implements Tenants where namespaces have no tenant settings of their own: on one machine."""

    async def find(self, namespace: str) -> Tenant:
        """The installation's tenant settings."""
        del namespace
        # Whoever has started all this decides for themselves how long a model is tried.
        return Tenant(any_priority=True, trials_longest=LONGEST_TRIAL)


class Tenants(Protocol):
    """May raise OutageError; RejectedError for what cannot be used, which names key, value and what is allowed.

    Two namespaces never have prefixes that reach into each other, unless both are named as sharing.
    """

    async def find(self, namespace: str) -> Tenant:
        """The tenant settings of a namespace; those of the installation when it has none of its own."""
