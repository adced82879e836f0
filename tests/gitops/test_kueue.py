"""The optional queues of the sample repository: each part refers to the next. tests/cluster checks their format."""

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
    (queue,), (own,) = of("LocalQueue", tenant), of("ClusterQueue", tenant)
    (config,), (namespace,) = of("ConfigMap", tenant), of("Namespace", tenant)
    (cohort,) = of("Cohort", built("platform", tmp_path))

    assert tenant_settings.problem(config["data"]) is None
    assert config["data"]["queue"] == queue["metadata"]["name"]
    assert queue["metadata"]["namespace"] == namespace["metadata"]["name"]
    assert queue["spec"]["clusterQueue"] == own["metadata"]["name"]
    assert own["spec"]["cohortName"] == cohort["metadata"]["name"]
    assert own["spec"]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": namespace["metadata"]["name"]
    }


def test_the_priorities_that_a_tenant_may_name_are_there(tmp_path: Path) -> None:
    (config,) = of("ConfigMap", built(TENANT, tmp_path))
    classes = {
        body["metadata"]["name"]: body["value"] for body in of("WorkloadPriorityClass", built("platform", tmp_path))
    }

    usual, others = config["data"]["priority"], config["data"]["priorities"].split(",")

    assert {usual, *others} == set(classes)
    assert all(classes[usual] < classes[other] for other in others)


def test_every_resource_of_a_step_has_quota_in_every_flavor(tmp_path: Path) -> None:
    platform, tenant = built("platform", tmp_path), built(TENANT, tmp_path)
    flavors = [body["metadata"]["name"] for body in of("ResourceFlavor", platform)]

    for shared in (*of("Cohort", platform), *of("ClusterQueue", tenant)):
        (group,) = shared["spec"]["resourceGroups"]

        assert group["coveredResources"] == ["cpu", "memory", GPU_RESOURCE]
        assert [flavor["name"] for flavor in group["flavors"]] == flavors
        for flavor in group["flavors"]:
            # Kueue refuses another order.
            assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]


def test_gpus_that_only_wait_count_in_no_quota_of_the_namespace(tmp_path: Path) -> None:
    (quota,) = of("ResourceQuota", built(TENANT, tmp_path))

    assert quota["spec"]["hard"].keys() == {"requests.cpu", "requests.memory"}


def test_without_the_component_nothing_asks_for_kueue() -> None:
    for folder in ("platform", TENANT):
        bodies = rendering.kustomize(REPOSITORY / folder)

        assert not any(GROUP in body["apiVersion"] for body in bodies)
        assert not any("queue" in body.get("data", {}) for body in of("ConfigMap", bodies))
