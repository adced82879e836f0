"""The optional queues of the sample repository: each part leads to the next. Their format is judged in tests/cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rendering
from pelagos.api import tenant_settings
from pelagos.ports.placement import GPU_RESOURCE

REPOSITORY = rendering.MANIFESTS / "samples/gitops"
GROUP = "kueue.x-k8s.io"
TENANT = "platform/tenants/marine-lab"


def built(folder: str, tmp_path: Path) -> list[dict[str, Any]]:
    """A folder with its component ``kueue``."""
    path = f"samples/gitops/{folder}"
    return rendering.kustomize(rendering.kustomization(tmp_path, resources=[path], components=[f"{path}/kueue"]))


def of(kind: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [body for body in bodies if body["kind"] == kind]


def test_a_run_reaches_quota_through_the_tenants_queue(tmp_path: Path) -> None:
    tenant = built(TENANT, tmp_path)
    (queue,) = of("LocalQueue", tenant)
    (config,) = of("ConfigMap", tenant)
    (namespace,) = of("Namespace", tenant)
    platform = built("platform", tmp_path)
    (shared,) = of("ClusterQueue", platform)

    assert tenant_settings.problem(config["data"]) is None
    assert config["data"]["queue"] == queue["metadata"]["name"]
    assert queue["metadata"]["namespace"] == namespace["metadata"]["name"]
    assert queue["spec"]["clusterQueue"] == shared["metadata"]["name"]
    selector = shared["spec"]["namespaceSelector"]["matchLabels"]
    assert selector.items() <= namespace["metadata"]["labels"].items()


def test_every_resource_of_a_step_has_quota_in_every_flavor(tmp_path: Path) -> None:
    platform = built("platform", tmp_path)
    (shared,) = of("ClusterQueue", platform)
    (group,) = shared["spec"]["resourceGroups"]

    assert group["coveredResources"] == ["cpu", "memory", GPU_RESOURCE]
    assert [flavor["name"] for flavor in group["flavors"]] == [
        body["metadata"]["name"] for body in of("ResourceFlavor", platform)
    ]
    for flavor in group["flavors"]:
        # Kueue refuses another order.
        assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]


def test_without_the_component_nothing_asks_for_kueue() -> None:
    for folder in ("platform", TENANT):
        bodies = rendering.kustomize(REPOSITORY / folder)

        assert not any(GROUP in body["apiVersion"] for body in bodies)
        assert not any("queue" in body.get("data", {}) for body in of("ConfigMap", bodies))
