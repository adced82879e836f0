"""A prefix of the storage, or of experiments, belongs to one namespace: by the rule alone, and with a real API server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import pytest

from control_plane import ControlPlane
from pelagos.api import tenancy
from pelagos.api.tenancy import Begun
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.kubernetes.tenants import KubernetesTenants
from pelagos.ports.errors import RejectedError
from pelagos.ports.tenants import Tenant
from tenancy.conftest import PLACE

Given = Mapping[str, Mapping[str, str]]
BOTH = {"sharedWith": "bay"}, {"sharedWith": "reef"}
APART: list[Given] = [
    {},
    {"reef": {}, "bay": {}},
    {"reef": {"storagePrefix": "institute/reef"}, "bay": {"storagePrefix": "institute/bay"}},
    {"reef": {"storagePrefix": "institute"}, "bay": {"storagePrefix": "institute-2"}},
    {"reef": {"storagePrefix": "bay-of-reefs"}},
    {"reef": {"experimentPrefix": "bays/"}},
    {"reef": {"storagePrefix": "a"} | BOTH[0], "bay": {"storagePrefix": "a"} | BOTH[1]},
    {"reef": {"storagePrefix": "", "experimentPrefix": ""} | BOTH[0], "bay": {} | BOTH[1]},
    {"reef": {"storagePrefix": "bay"}, "bay": {"storagePrefix": "elsewhere"}},
]
TOGETHER: list[tuple[Given, str]] = [
    ({"reef": {"storagePrefix": "a"}, "bay": {"storagePrefix": "a"}}, "storagePrefix"),
    ({"reef": {"storagePrefix": "a"}, "bay": {"storagePrefix": "a/b"}}, "storagePrefix"),
    ({"reef": {"storagePrefix": "a/b/c"}, "bay": {"storagePrefix": "a/b"}}, "storagePrefix"),
    ({"reef": {"storagePrefix": "Institute"}, "bay": {"storagePrefix": "institute"}}, "storagePrefix"),
    ({"reef": {"storagePrefix": "bay"}, "bay": {}}, "storagePrefix"),
    ({"reef": {"storagePrefix": "bay/images"}, "bay": {"queue": "gpu"}}, "storagePrefix"),
    ({"reef": {"storagePrefix": ""}, "bay": {}}, "storagePrefix"),
    ({"reef": {"experimentPrefix": "institute/"}, "bay": {"experimentPrefix": "institute/bay "}}, "experimentPrefix"),
    ({"reef": {"experimentPrefix": "ba"}, "bay": {}}, "experimentPrefix"),
    ({"reef": {"experimentPrefix": ""}, "bay": {}}, "experimentPrefix"),
    ({"reef": {"storagePrefix": "a"} | BOTH[0], "bay": {"storagePrefix": "a"}}, "storagePrefix"),
    ({"reef": {"storagePrefix": "a"}, "bay": {"storagePrefix": "a"} | BOTH[1]}, "storagePrefix"),
    ({"reef": {"storagePrefix": "a", "sharedWith": "kelp"}, "bay": {"storagePrefix": "a"} | BOTH[1]}, "storagePrefix"),
]


@pytest.mark.parametrize("given", APART, ids=str)
def test_what_is_apart_or_shared_by_both_names_is_allowed(given: Given) -> None:
    for namespace in ("reef", "bay"):
        assert tenancy.conflict(namespace, given) is None


@pytest.mark.parametrize(("given", "key"), TOGETHER, ids=str)
def test_what_reaches_into_each_other_is_refused_to_both(given: Given, key: str) -> None:
    for namespace, other in (("reef", "bay"), ("bay", "reef")):
        found = tenancy.conflict(namespace, given)
        assert found is not None
        value = given[namespace].get(key, tenancy.usual(namespace)[key])
        assert found.startswith(f"{key} is {value!r}")
        assert f"the {key} of the namespace {other}" in found
        assert "sharedWith" in found


def test_a_namespace_without_words_of_its_own_does_not_get_in_where_the_platform_has_put_another() -> None:
    found = tenancy.conflict("bay", {"reef": {"storagePrefix": "bay/old"}})

    assert found is not None
    assert found.startswith("storagePrefix is 'bay' (the default), which overlaps with 'bay/old'")


@pytest.mark.parametrize("prefix", ["bay", "bay/old", "bay/old/images", "", "BAY"])
def test_where_resources_of_another_namespace_are_stored_nobody_else_gets_in(prefix: str) -> None:
    """Even if that namespace has another prefix since, or never had its own settings."""
    given = {"reef": {"storagePrefix": "bay/old", "experimentPrefix": "r/"}}

    found = tenancy.conflict("reef", given, [Begun("bay", prefix)])

    assert found is not None
    assert f"{prefix.casefold()!r}, where resources of the namespace bay are stored" in found
    assert tenancy.conflict("reef", given, [Begun("reef", prefix), Begun("kelp", "kelp")]) is None


def test_three_that_share_must_name_each_other_pair_by_pair() -> None:
    names = ("reef", "bay", "kelp")
    given = {each: {"storagePrefix": "a", "sharedWith": ",".join(names)} for each in names}

    assert [tenancy.conflict(each, given) for each in names] == [None] * 3
    given["kelp"]["sharedWith"] = "reef"
    assert tenancy.conflict("reef", given) is None
    assert "namespace kelp" in str(tenancy.conflict("bay", given))
    assert "namespace bay" in str(tenancy.conflict("kelp", given))


_prefixes = (f"common-{number}" for number in itertools.count(1))


@pytest.mark.parametrize("restarted", [False, True], ids=["before a restart", "after one"])
async def test_of_two_tenants_written_at_once_neither_gets_the_prefix_of_both(
    api: KubernetesRest, plane: ControlPlane, namespace: str, agree: Callable[..., None], restarted: bool
) -> None:
    prefix, other = next(_prefixes), f"{namespace}-other"
    plane.create_namespace(other)
    operator = KubernetesTenants(api, Tenant(), PLACE, kept=0)
    agree(namespace, {"storagePrefix": prefix})
    agree(other, {"storagePrefix": f"{prefix}/below"})

    if restarted:
        operator = KubernetesTenants(api, Tenant(), PLACE, kept=0)
    for refused, holder in ((namespace, other), (other, namespace)):
        with pytest.raises(RejectedError) as caught:
            await operator.find(refused)
        assert f"ConfigMap pelagos-tenant-{refused} of namespace" in str(caught.value)
        assert f"the storagePrefix of the namespace {holder}" in str(caught.value)
        assert caught.value.reason == "TenantRefused"

    agree(other, {"storagePrefix": prefix, "sharedWith": namespace})
    with pytest.raises(RejectedError):
        await operator.find(namespace)
    agree(namespace, {"storagePrefix": prefix, "sharedWith": other})
    assert (await operator.find(namespace)).storage_prefix == (await operator.find(other)).storage_prefix == prefix


async def test_a_prefix_below_which_another_namespace_has_stored_is_not_given_away(
    api: KubernetesRest, plane: ControlPlane, namespace: str, agree: Callable[..., None]
) -> None:
    """Although the platform has given that namespace another prefix since."""
    prefix, other = next(_prefixes), f"{namespace}-other"
    plane.create_namespace(other)
    path = f"/apis/pelagos.dev/v1alpha1/namespaces/{other}/datasets"
    spec = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}
    body = {"apiVersion": "pelagos.dev/v1alpha1", "kind": "Dataset", "metadata": {"name": "plankton"}, "spec": spec}
    plane.request("POST", path, body)
    status = {"status": {"storagePrefix": prefix, "observedGeneration": 1}}
    plane.request("PATCH", f"{path}/plankton/status", status, kind="application/merge-patch+json")

    agree(namespace, {"storagePrefix": f"{prefix}/images"})
    with pytest.raises(RejectedError, match=f"where resources of the namespace {other} are stored"):
        await KubernetesTenants(api, Tenant(), PLACE).find(namespace)

    plane.request("DELETE", f"{path}/plankton")
    found = await KubernetesTenants(api, Tenant(), PLACE).find(namespace)
    assert found.storage_prefix == f"{prefix}/images"


async def test_what_is_wrong_with_one_tenant_touches_no_other(
    api: KubernetesRest, plane: ControlPlane, namespace: str, agree: Callable[..., None]
) -> None:
    other = f"{namespace}-other"
    plane.create_namespace(other)
    agree(
        namespace, {"storagePrefix": "../elsewhere", "experimentPrefix": "/", "sharedWith": "Nobody", "colour": "blue"}
    )
    operator = KubernetesTenants(api, Tenant(), PLACE)

    assert (await operator.find(other)).storage_prefix == other
    with pytest.raises(RejectedError, match="colour is not a known key"):
        await operator.find(namespace)
