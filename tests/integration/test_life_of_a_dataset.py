"""A Dataset on a real API server: from creation to Ready, through corrections, to deletion."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

import reports
from pelagos.api import kinds
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.cluster import from_body
from pelagos.ports.errors import TooLargeError
from sites import Site, condition, has_reason, is_ready

SPEC: dict[str, Any] = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}
RESULT = {
    "version": "sha256:" + "a" * 64,
    "uri": "store/versions/a",
    "images": 10,
    "annotations": 20,
    "classes": [{"name": "Akashiwo", "images": 10, "annotations": 20}],
    "splits": {"train": {"images": 7}, "validation": {"images": 1}, "test": {"images": 2}},
    "quality": {"found": 10, "corrupt": 0, "duplicates": 0, "nearDuplicates": 0, "tooSmall": 0, "leakage": 0},
    "warnings": [],
}


def only_run(site: Site) -> Any:
    (name,) = site.fakes.pipelines.runs
    return name


async def succeed(site: Site, name: Any) -> None:
    site.fakes.leave(name, RESULT)
    site.fakes.pipelines.start(name)
    site.fakes.pipelines.succeed(name)


async def test_a_new_dataset_becomes_ready_with_one_run(site: Site) -> None:
    site.fakes.volumes.put("plankton/1.png")
    await site.create("Dataset", "plankton", SPEC)
    await site.wait("Dataset", "plankton", has_reason("Queued"))

    await succeed(site, only_run(site))

    body = await site.wait("Dataset", "plankton", is_ready)
    assert body["status"]["version"] == RESULT["version"]
    assert body["status"]["splits"]["train"]["images"] == 7
    assert site.fakes.pipelines.attempts_begun == 1


async def test_the_api_server_keeps_every_field_of_status(site: Site) -> None:
    site.fakes.volumes.put("plankton/1.png")
    await site.create("Dataset", "plankton", SPEC)
    await site.wait("Dataset", "plankton", has_reason("Queued"))
    await succeed(site, only_run(site))

    status = (await site.wait("Dataset", "plankton", is_ready))["status"]

    request = site.fakes.pipelines.runs[only_run(site)].request
    told = RESULT | {"uri": reports.inside(request, str(RESULT["uri"]))}
    assert {key: status[key] for key in told if key != "warnings"} == {
        key: told[key] for key in told if key != "warnings"
    }
    assert status["versions"][0]["uri"] == told["uri"]
    assert status["storageSeal"].startswith("v1:")


async def test_a_publication_is_kept_in_status_and_nobody_adds_to_spec(site: Site) -> None:
    site.fakes.volumes.put("plankton/1.png")
    publish = {"zenodo": {"url": "https://zenodo.org", "secretRef": {"name": "zenodo"}, "state": "Published"}}
    said = {"title": "Plankton", "creators": [{"name": "Curie, Marie"}]}
    await site.create("Dataset", "plankton", SPEC | {"metadata": said, "publish": publish})
    await site.wait("Dataset", "plankton", has_reason("Queued"))
    await succeed(site, only_run(site))
    await site.wait("Dataset", "plankton", lambda body: condition(body, "Published").get("reason") == "Queued")
    (name,) = [name for name, known in site.fakes.pipelines.runs.items() if known.request.secret is not None]
    told = {
        "version": RESULT["version"],
        "state": "Published",
        "server": "https://zenodo.org",
        "record": "7",
        "url": "https://zenodo.org/records/7",
        "doi": "10.5281/zenodo.7",
        "conceptDoi": "10.5281/zenodo.6",
        "at": "2026-11-29T10:00:00Z",
    }
    site.fakes.leave(name, told | {"retry": site.fakes.pipelines.runs[name].request.retry_key})
    site.fakes.pipelines.start(name)
    site.fakes.pipelines.succeed(name)

    body = await site.wait("Dataset", "plankton", lambda body: condition(body, "Published").get("status") == "True")

    assert body["status"]["publication"] == told | {"run": name}
    assert body["status"]["versions"][0]["doi"] == told["doi"]
    assert body["spec"]["publish"] == publish
    assert condition(body, "Ready")["status"] == "True"


async def test_a_missing_folder_is_waited_for_until_it_appears(site: Site) -> None:
    await site.create("Dataset", "plankton", SPEC)
    body = await site.wait("Dataset", "plankton", has_reason("SourceNotFound"))
    assert condition(body, "Waiting")["status"] == "True"
    assert not condition(body, "Stalled")
    assert '"plankton" does not exist yet' in condition(body, "Ready")["message"]

    site.fakes.volumes.put("plankton/1.png")

    await site.wait("Dataset", "plankton", has_reason("Queued"))


@pytest.mark.usefixtures("no_rules")
@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"source": {"volume": {"path": "/etc"}}, "task": "Detection"}, "spec.source.volume.path must be relative"),
        ({**SPEC, "split": {"ratios": {"train": 70, "validation": 20, "test": 20}}}, "must add up to 100"),
    ],
    ids=["absolute path", "ratios above 100"],
)
async def test_a_rule_across_fields_is_told_by_the_operator(site: Site, spec: dict[str, Any], want: str) -> None:
    await site.create("Dataset", "plankton", spec)

    body = await site.wait("Dataset", "plankton", has_reason("InvalidSpec"))

    assert want in condition(body, "Ready")["message"]
    assert not site.fakes.pipelines.runs


async def test_a_resync_of_an_unchanged_resource_writes_nothing(site: Site) -> None:
    site.fakes.volumes.put("plankton/1.png")
    await site.create("Dataset", "plankton", SPEC)
    await site.wait("Dataset", "plankton", has_reason("Queued"))
    await succeed(site, only_run(site))
    before = await site.wait("Dataset", "plankton", is_ready)

    await site.stop_operator()
    await site.start_operator()
    await site.create("Dataset", "other", SPEC)
    await site.wait("Dataset", "other", has_reason("Queued"))

    after = await site.get("Dataset", "plankton")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_deletion_ends_the_run_and_leaves_no_finalizer(site: Site) -> None:
    site.fakes.volumes.put("plankton/1.png")
    await site.create("Dataset", "plankton", SPEC)
    await site.wait("Dataset", "plankton", has_reason("Queued"))

    await site.delete("Dataset", "plankton")

    await site.wait_gone("Dataset", "plankton")
    assert not site.fakes.pipelines.runs


async def test_an_event_tells_every_transition_once(site: Site) -> None:
    site.fakes.volumes.put("plankton/1.png")
    await site.create("Dataset", "plankton", SPEC)
    await site.wait("Dataset", "plankton", has_reason("Queued"))
    await succeed(site, only_run(site))
    await site.wait("Dataset", "plankton", is_ready)

    events = (await site.call("GET", f"/api/v1/namespaces/{site.namespace}/events"))["items"]

    reasons = [event["reason"] for event in events]
    assert sorted(set(reasons)) == sorted(reasons)
    assert {"Submitting", "VersionReady"} <= set(reasons)


@pytest.mark.filterwarnings("ignore:Sending a large body")
@pytest.mark.parametrize(
    "kilobytes",
    [2000, 2500, 5000],
    ids=["more than etcd takes", "more than is sent to etcd", "more than the API server takes"],
)
async def test_a_status_that_the_server_does_not_store_is_told_from_an_outage(site: Site, kilobytes: int) -> None:
    await site.create("Dataset", "plankton", SPEC)
    body = await site.wait("Dataset", "plankton", has_reason("SourceNotFound"))
    tls = ssl.create_default_context(cafile=str(site.plane.authority))
    rest = KubernetesRest(site.plane.url, tls=tls, token=site.plane.token)
    resource = from_body(kinds.DATASET, body)

    with pytest.raises(TooLargeError, match=r"too large|larger than max"):
        await KubernetesApi(rest).patch_status(resource, {"warnings": ["x" * 1000] * kilobytes})

    assert await KubernetesApi(rest).read(kinds.DATASET, site.namespace, "plankton") == resource
    assert await KubernetesApi(rest).read(kinds.DATASET, site.namespace, "reef") is None
    await rest.close()
