"""The context of one pass over one resource. A reconciler creates it once the tenant settings are known, and passes it on."""

from __future__ import annotations

from dataclasses import dataclass

from pelagos.ports.cluster import Resource
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.dependencies import Dependencies


@dataclass(frozen=True)
class Scope:
    """The resource, the settings of its namespace, and all ports. Folders are paths in the object store."""

    resource: Resource
    tenant: Tenant
    dependencies: Dependencies

    def namespace_folder(self, top: str) -> str:
        """The folder that all resources of the namespace share, below a top folder of the tenant such as ``models``."""
        return self.tenant.below(f"{top}/{self.resource.namespace}")

    def own_folder(self, top: str) -> str:
        """The folder of this resource alone, below a top folder of the tenant such as ``models``."""
        return f"{self.namespace_folder(top)}/{self.resource.uid}"

    def is_inside(self, uri: object, folder: str) -> bool:
        """Whether a uri is in our object store and below ``folder``. False if a part of its path is empty, "." or ".."."""
        path = self.dependencies.objects.path(uri) if isinstance(uri, str) else None
        return path is not None and path.startswith(f"{folder}/") and not {"", ".", ".."} & set(path.split("/"))

    def path(self, uri: str) -> str:
        """The path of a uri that ``is_inside`` accepted before."""
        path = self.dependencies.objects.path(uri)
        assert path is not None
        return path
