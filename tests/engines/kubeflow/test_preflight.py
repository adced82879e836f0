"""A namespace is checked before a run is submitted: a certain failure of its steps is reported, and the run waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
import yaml

from kubeflow_worlds import Cluster, make_request
from pelagos.api import reasons
from pelagos.engines.diagnosis import State
from pelagos.engines.kubeflow import namespace_diagnosis, preflight
from pelagos.engines.kubeflow.preflight import MOST_QUOTAS, Needs, Preflight, Store
from pelagos.engines.kubernetes.objects import Collection, KubernetesObjects
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.tenants import Tenant

NEEDS = Needs((("cpu", Decimal(2)), ("memory", Decimal(16 * 1024**3)), ("nvidia.com/gpu", Decimal(1))))
GOOD = {
    "endpoint": "store:9000",
    "credentials": {"secretRef": {"secretName": "s", "accessKeyKey": "a", "secretKeyKey": "k"}},
}
ENDLESS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 31))
"""Short as YAML, but a billion strings when it is expanded."""
REFERENCE = "{secretName: *a30, accessKeyKey: a, secretKeyKey: k}"


@dataclass
class Namespace(KubernetesObjects):
    """The objects of a namespace, by kind and name; ``away``: the API server does not answer."""

    there: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    kueue: str = ""
    away: bool = False
    looks: int = 0
    now: float = 1000.0

    async def get(self, kind: Collection, namespace: str, name: str) -> Mapping[str, Any] | None:
        self._look()
        return self.there.get((kind.kind, name))

    async def list(
        self,
        kind: Collection,
        namespace: str = "",
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        *,
        most: int = 0,
    ) -> list[Mapping[str, Any]]:
        self._look()
        found: list[Mapping[str, Any]] = [body for (named, _), body in self.there.items() if named == kind.kind]
        return found[: most or None]

    async def preferred_version(self, group: str) -> str:
        self._look()
        return self.kueue

    def add(self, kind: str, name: str, **fields: Any) -> None:
        self.there[kind, name] = {"metadata": {"name": name}, **fields}

    def preflight(self) -> Preflight:
        return Preflight(self, clock=lambda: self.now)

    def _look(self) -> None:
        self.looks += 1
        if self.away:
            raise OutageError("kubernetes", "no answer")


def launcher(**data: Any) -> dict[str, Any]:
    return {"metadata": {"name": "kfp-launcher"}, "data": data}


async def refusal(there: Namespace, wanted: Needs = NEEDS) -> str:
    with pytest.raises(RejectedError) as refused:
        await there.preflight().require("reef", wanted)
    assert refused.value.reason == reasons.NAMESPACE_NOT_READY
    assert refused.value.reason.state == "waiting"
    return str(refused.value)


@pytest.mark.parametrize(
    ("hard", "words"),
    [
        (
            {"requests.cpu": "2"},
            "requests.cpu: 2 in all, and one step asks for 2 and its helper containers for 100m more",
        ),
        ({"cpu": "2050m"}, "allows cpu: 2050m"),
        ({"requests.memory": "16Gi"}, "one step asks for 16384Mi and its helper containers for 256Mi more"),
        ({"requests.nvidia.com/gpu": "0"}, "allows requests.nvidia.com/gpu: 0 in all, and one step asks for 1."),
    ],
)
async def test_a_quota_into_which_a_step_never_fits_is_named(hard: dict[str, str], words: str) -> None:
    there = Namespace()
    there.add("ResourceQuota", "small", spec={"hard": hard})

    assert words in await refusal(there)


async def test_who_makes_quotas_without_end_does_not_have_them_all_read() -> None:
    there = Namespace()
    for number in range(MOST_QUOTAS + 1):
        there.add("ResourceQuota", f"q{number}", spec={"hard": {"requests.cpu": "2"}})

    assert (await refusal(there)).count("ResourceQuota") == MOST_QUOTAS


@pytest.mark.parametrize(
    "spec",
    [
        {"hard": {"requests.cpu": "2100m", "memory": "16640Mi", "requests.nvidia.com/gpu": "1", "pods": "many"}},
        {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]},
        {},
    ],
)
async def test_a_quota_that_could_hold_a_step_is_none_of_our_business(spec: dict[str, Any]) -> None:
    there = Namespace()
    there.add("ResourceQuota", "large", spec=spec)

    await there.preflight().require("reef", NEEDS)
    assert there.looks


async def test_an_account_and_a_queue_that_are_named_must_be_there() -> None:
    there, wanted = Namespace(kueue="v1beta2"), Needs((), "pelagos-pipelines", "gpus")

    message = await refusal(there, wanted)
    assert "the ServiceAccount pelagos-pipelines does not exist" in message
    assert "the LocalQueue gpus does not exist" in message
    there.kueue = ""  # a queue means nothing without Kueue
    there.add("ServiceAccount", "pelagos-pipelines")
    await there.preflight().require("reef", wanted)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"providers": "{"}, "providers is not YAML"),
        ({"providers": "- s3"}, "providers is no mapping"),
        ({"providers": "minio: {}"}, "providers.minio.default is missing"),
        ({"providers": yaml.safe_dump({"minio": {"default": {"endpoint": "x"}}})}, "default.credentials is missing"),
        (
            {
                "defaultPipelineRoot": "s3://bucket",
                "providers": yaml.safe_dump({"s3": {"default": {"credentials": {"secretRef": {"secretName": "x"}}}}}),
            },
            "providers.s3.default.credentials.secretRef lacks accessKeyKey, secretKeyKey",
        ),
        ({"providers": "[" * 5000}, "providers is not YAML"),
        ({"providers": "x" * 20_000}, "providers has 20000 characters; no more than 16384 are read"),
        ({"providers": ENDLESS + "minio: {default: {endpoint: *a30, credentials: {}}}"}, "default.endpoint is no text"),
        (
            {"providers": ENDLESS + f"minio: {{default: {{credentials: {{secretRef: {REFERENCE}}}}}}}"},
            "providers.minio.default.credentials.secretRef.secretName is no text",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_config_map_that_the_launcher_cannot_use_is_named_with_its_field(
    data: dict[str, str], words: str
) -> None:
    there = Namespace()
    there.there["ConfigMap", "kfp-launcher"] = launcher(**data)

    message = await refusal(there)
    assert "ConfigMap kfp-launcher" in message
    assert words in message


@pytest.mark.parametrize(
    ("data", "store"),
    [
        (None, ("minio", preflight.DEFAULT_ENDPOINT, *preflight.DEFAULT_SECRET)),
        ({"defaultPipelineRoot": "s3://bucket/x"}, ("s3", "", "", ())),
        ({"providers": yaml.safe_dump({"minio": {"default": GOOD}})}, ("minio", "store:9000", "s", ("a", "k"))),
        (
            {
                "defaultPipelineRoot": "s3://b",
                "providers": yaml.safe_dump({"s3": {"default": {"credentials": {"fromEnv": True}}}}),
            },
            ("s3", "", "", ()),
        ),
        (
            {
                "defaultPipelineRoot": "s3://b",
                "providers": yaml.safe_dump({"s3": {"overrides": [{"bucketName": "b"}]}}),
            },
            ("s3", "", "", ()),
        ),
    ],
)
def test_where_artifacts_go_follows_from_the_config_map(data: dict[str, str] | None, store: tuple[Any, ...]) -> None:
    found = preflight.store(launcher(**data) if data is not None else None)

    assert (found.scheme, found.endpoint, found.secret, found.keys) == store


async def test_what_was_found_counts_for_a_while_and_a_cure_shows_soon() -> None:
    there = Namespace()
    looker = there.preflight()
    await looker.require("reef", NEEDS)
    looks = there.looks
    there.add("ResourceQuota", "small", spec={"hard": {"cpu": "1"}})
    await looker.require("reef", NEEDS)
    assert there.looks == looks

    there.now += preflight.GOOD_FOR
    with pytest.raises(RejectedError):
        await looker.require("reef", NEEDS)
    there.there.clear()
    there.now += preflight.BAD_FOR
    await looker.require("reef", NEEDS)


async def test_what_cannot_be_looked_at_holds_nothing_up() -> None:
    there = Namespace(away=True)

    await there.preflight().require("reef", Needs((), "a", "q"))
    assert there.looks


async def test_no_run_is_made_where_its_steps_would_fail_and_one_is_when_that_is_cured(cluster: Cluster) -> None:
    there = Namespace()
    there.add("ResourceQuota", "small", spec={"hard": {"cpu": "1"}})
    cluster.site = replace(cluster.site, preflight=there.preflight())
    cluster.engine = cluster.new_engine()
    request = make_request(tenant=Tenant(pipeline_service_account=""))

    with pytest.raises(RejectedError, match="no run is created in the namespace kubeflow") as refused:
        await cluster.engine.submit(request)
    assert refused.value.reason == reasons.NAMESPACE_NOT_READY
    assert cluster.runs() == []
    there.there.clear()
    there.now += preflight.BAD_FOR
    await cluster.engine.submit(request)

    # A run in progress is adopted, whatever has changed in the namespace since.
    there.add("ResourceQuota", "small", spec={"hard": {"cpu": "1"}})
    there.now += preflight.GOOD_FOR
    await cluster.engine.submit(request)
    assert len(cluster.runs()) == 1


@pytest.mark.parametrize("endpoint", ["a..b:9000", f"{'a' * 80}:9000", "127.0.0.1:99999", "http://[::1", ""])
async def test_an_address_that_is_none_is_told_by_the_doctor(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")

    found = await namespace_diagnosis._reach("reef", Store("minio", endpoint, "s", ()))

    assert found.state is State.WARNING
    assert "cannot be reached from here" in found.message


async def priority_refusal(there: Namespace) -> RejectedError:
    with pytest.raises(RejectedError) as refused:
        await there.preflight().require("reef", Needs((), priority="high"))
    assert refused.value.reason == reasons.PRIORITY_NOT_USABLE
    assert refused.value.reason.state == "action required"
    return refused.value


async def test_a_priority_that_does_not_exist_is_named_with_those_that_do() -> None:
    there = Namespace(kueue="v1beta2")
    for name in ("low", "mid"):
        there.add("WorkloadPriorityClass", name)

    assert "no WorkloadPriorityClass high in the cluster; there are: low, mid" in str(await priority_refusal(there))

    there.add("WorkloadPriorityClass", "high")
    await there.preflight().require("reef", Needs((), priority="high"))


async def test_a_priority_without_kueue_is_said_to_be_of_no_use() -> None:
    assert "is high, but the cluster has no Kueue to apply it" in str(await priority_refusal(Namespace()))


async def test_of_priorities_that_are_too_many_to_read_nothing_is_said() -> None:
    there = Namespace(kueue="v1beta2")
    for number in range(preflight.MOST_PRIORITIES + 1):
        there.add("WorkloadPriorityClass", f"c{number}")

    await there.preflight().require("reef", Needs((), priority="high"))
