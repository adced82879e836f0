"""Asynchronous invocations: the real faas-supervisor runs the service's own script in a job, which serves, answers and reports.

Also the effects of the storage, the jobs and the supervisor.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from time import monotonic
from uuid import uuid4

import pytest

from engines.oscar.conftest import Site
from oscar_fake_server.jobs import Job
from oscar_fake_server.manager import PUBLISHED
from pelagos.engines.oscar import manifests
from pelagos.engines.oscar.invocations import Invocations, Seen, State
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.serving import DesiredService
from pelagos_contract import invocations


@pytest.fixture
async def service(site: Site, want: DesiredService) -> str:
    """A service whose exposed containers do not begin: jobs need none."""
    site.manager.faults.pulling = True
    site.manager.jobs.storage = site.storage
    begin = f"{site.storage.url}/later-{uuid4().hex[:8]}/"
    site.engine._options = replace(site.engine._options, invocations_url=begin)
    await site.engine.apply(want)
    return manifests.name_of(want)


@pytest.fixture
async def later(site: Site, service: str) -> Invocations:
    begin = site.engine._options.invocations_url
    return Invocations(site.engine._rest, begin.rstrip("/").rpartition("/")[2], begin)


async def ended(later: Invocations, service: str, key: str) -> Seen:
    deadline = monotonic() + 90
    while monotonic() < deadline:
        seen = await later.look(service, key)
        if seen.state is not State.WAITING:
            return seen
        await asyncio.sleep(0.3)
    raise TimeoutError(seen)


async def job_of(site: Site, service: str) -> Job:
    """The only job of a service, once it has ended."""
    (job,) = site.manager.jobs.of[service].values()
    assert job.task is not None
    await asyncio.wait_for(job.task, 60)
    return job


def probe_image(packages: dict[str, tuple[str, str]]) -> bytes:
    return (Path(packages["Detection"][0]) / "probe.png").read_bytes()


async def test_a_job_answers_as_the_server_would_and_leaves_it_where_only_its_key_leads(
    site: Site, service: str, uid: str, later: Invocations, packages: dict[str, tuple[str, str]]
) -> None:
    image = probe_image(packages)
    expected = json.loads((Path(packages["Detection"][0]) / "probe.json").read_text())
    key = await later.start(service, uid, image)
    assert (await later.look(service, key)).state is State.WAITING
    again = await later.start(service, uid, image, key=key)
    assert again == key
    seen = await ended(later, service, key)
    job = await job_of(site, service)
    assert (seen.state, seen.message) == (State.SUCCEEDED, ""), job.log()
    assert seen.content is not None
    assert [each["label"] for each in seen.content["detections"]] == [each["label"] for each in expected["detections"]]
    assert seen.finished_at.startswith("20")
    assert job.status == "Succeeded"
    for secret in (*site.storage.access, site.manager.services[service].service["token"]):
        assert secret not in job.log()
    assert await later.start(service, uid, image, key=key) == key
    assert len(site.manager.jobs.of[service]) == 1, "one that was answered is not started again"

    # Answers do not need OSCAR's records of jobs, and altered results are not believed.
    site.manager.jobs.forget()
    assert (await later.look(service, key)).state is State.SUCCEEDED
    bucket = later._bucket
    site.storage.put(bucket, f"{service}/{key}/result.json", b'{"task": "Detection"}')
    assert (await later.look(service, key)).message == "its result was altered: its sha256 differs"
    site.storage.remove(bucket, f"{service}/{key}/result.json")
    assert (await later.look(service, key)).state is State.LOST
    site.storage.put(bucket, f"{service}/{key}/status.json", b"[]")
    assert (await later.look(service, key)).state is State.FAILED


async def test_a_script_that_fails_is_told_though_oscar_calls_it_a_success(
    site: Site, service: str, uid: str, later: Invocations
) -> None:
    key = await later.start(service, uid, b"no image at all")
    seen = await ended(later, service, key)
    job = await job_of(site, service)
    assert job.status == "Succeeded", "as faas-supervisor has it"
    assert seen.state is State.FAILED
    assert "the server refused the image: HTTP 400" in seen.message
    assert "the image is not JPEG" in seen.message


async def test_a_status_that_could_not_be_written_is_read_from_the_log_until_that_is_forgotten(
    site: Site, service: str, uid: str, later: Invocations, packages: dict[str, tuple[str, str]]
) -> None:
    site.manager.jobs.environment = {"PELAGOS_PACKAGE_URI": "s3://none/none"}
    key = await later.start(service, uid, probe_image(packages))
    seen = await ended(later, service, key)
    await job_of(site, service)
    assert seen.state is State.FAILED
    assert "the model package could not be brought" in seen.message
    site.storage.remove(later._bucket, f"{service}/{key}/status.json")
    assert (await later.look(service, key)).message == seen.message, "from the log"
    site.manager.jobs.forget()
    lost = await later.look(service, key)
    assert lost.state is State.LOST
    assert "OSCAR forgets ended jobs; start it again" in lost.message
    site.manager.jobs.environment = {}
    assert await later.start(service, uid, probe_image(packages), key=key) == key
    assert len(site.manager.jobs.of[service]) == 1, "what is lost is started again"


async def test_a_job_that_waits_for_its_turn_is_waited_for(
    site: Site, service: str, uid: str, later: Invocations, packages: dict[str, tuple[str, str]]
) -> None:
    site.manager.jobs.turn.clear()
    key = await later.start(service, uid, probe_image(packages))
    seen = await later.look(service, key)
    assert (seen.state, seen.message) == (State.WAITING, "1 jobs of the service wait or run")
    names = {service: ":serviceName", later._bucket: ":bucket"}
    called = set(site.manager.calls)
    for name, placeholder in names.items():
        called = {call.replace(name, placeholder) for call in called}
    assert called <= set(PUBLISHED["routes"])
    assert {"POST /job/:serviceName", "POST /system/buckets/:bucket/presign", "GET /system/logs/:serviceName"} < called


async def test_a_job_asks_nobody_but_the_storage_of_the_operator(
    site: Site, service: str, later: Invocations, packages: dict[str, tuple[str, str]]
) -> None:
    """Anyone with the token of the service may send events, but cannot make its jobs contact others in the cluster."""
    token = site.manager.services[service].service["token"]
    begin = site.engine._options.invocations_url
    told = invocations.Invocation(
        "a-key-of-mine", f"{site.manager.url}/system/info", "0" * 64, f"{begin}a", f"{begin}b"
    )
    await site.engine._rest.invoke(service, token, invocations.event(told))
    job = await job_of(site, service)
    assert f"image_url must begin with {begin}" in job.log()
    assert "GET /system/info" not in site.manager.calls
    with pytest.raises(RejectedError, match="HTTP 401"):
        await site.engine._rest.invoke(service, "another token", invocations.event(told))


async def test_what_cannot_be_started_is_refused(site: Site, service: str, uid: str, later: Invocations) -> None:
    with pytest.raises(RejectedError, match="there is no service none"):
        await later.start("none", uid, b"")
    with pytest.raises(RejectedError, match="must have 8 to 64 lower-case letters"):
        await later.start(service, uid, b"", key="../../x")
    with pytest.raises(RejectedError, match="is not the key"):
        await later.look(service, "../../x")
    other = Invocations(site.engine._rest, later._bucket, "https://minio.example/later/")
    with pytest.raises(RejectedError, match="set PELAGOS_OSCAR_STORAGE_URL"):
        await other.start(service, uid, b"")
    site.manager.faults.answers = {"POST /job": (500, "dial tcp: connection refused")}
    with pytest.raises(OutageError, match="HTTP 500"):
        await later.start(service, uid, b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "the event must be an object with pelagos: 1"),
        (json.dumps({"pelagos": 1, "key": 5}), "the event must be an object"),
    ],
)
def test_an_event_that_is_none_is_refused_in_words(content: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        invocations.read_event(content)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": "../../etc"}, "key must have 8 to 64"),
        ({"image_sha256": "x"}, "must be 64 hexadecimal digits"),
        ({"status_url": "x" * 5000}, "at most 4096 characters"),
        ({"confidence": 5}, "must be text"),
    ],
)
def test_an_event_with_another_value_is_refused_with_its_field(changes: dict[str, object], words: str) -> None:
    event = json.loads(invocations.event(invocations.Invocation("a-key-of-mine", "a", "0" * 64, "b", "c")))
    assert invocations.read_event(json.dumps(event)).key == "a-key-of-mine"
    with pytest.raises(ValueError, match=words):
        invocations.read_event(json.dumps(event | changes))


@pytest.mark.parametrize("changed", ["annotation", "name"])
async def test_no_image_goes_to_a_service_that_was_not_made_for_the_model(
    site: Site, later: Invocations, service: str, uid: str, changed: str
) -> None:
    """Anyone who may create services at OSCAR can take the name of a deleted one, or have a status lead to theirs."""
    found = site.manager.services[service].service
    asked = service
    if changed == "annotation":
        found["annotations"] = {**found["annotations"], manifests.UID: "another"}
    else:
        asked = "anybodys"
        site.manager.services[asked] = site.manager.services.pop(service)
        found["name"] = asked
    with pytest.raises(RejectedError, match="was not created for this ModelService, so no image is sent to it"):
        await later.start(asked, uid, b"image")
    assert not site.manager.jobs.of.get(asked)
