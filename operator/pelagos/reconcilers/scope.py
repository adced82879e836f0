"""What one pass over one resource works with. Made by a reconciler as soon as the tenant settings are known, and handed on."""

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
        """The folder of all resources of the namespace below a top folder of the tenant, such as ``models``."""
        return self.tenant.below(f"{top}/{self.resource.namespace}")

    def own_folder(self, top: str) -> str:
        """The folder of this resource alone."""
        return f"{self.namespace_folder(top)}/{self.resource.uid}"

    def is_inside(self, uri: object, folder: str) -> bool:
        """Whether a uri is one of our store, and below ``folder`` there; no part of it leads up, or is empty."""
        path = self.dependencies.objects.path(uri) if isinstance(uri, str) else None
        return path is not None and path.startswith(f"{folder}/") and not {"", ".", ".."} & set(path.split("/"))

    def path(self, uri: str) -> str:
        """The path of a uri of our store, which was held against a folder before."""
        path = self.dependencies.objects.path(uri)
        assert path is not None
        return path
