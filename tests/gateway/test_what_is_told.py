"""The gateway's reports about itself: metrics, health, and callers without a service."""

from __future__ import annotations

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from gateway.sites import BINARY, Site, until, until_true
from gateway.test_streams import request, stream
from pelagos_gateway import streaming
from pelagos_gateway.metrics import Metrics

READY = "/reef/detector/v2/health/ready"


async def told(site: Site, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    url = f"http://127.0.0.1:{site.settings.metrics_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Host": host}) as answer:
        return answer.status, await answer.text()


async def samples(site: Site) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    status, text = await told(site, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def requests(access: str, protocol: str, code: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    labels = {"namespace": "reef", "service": "detector", "access": access, "protocol": protocol, "code": code}
    return "pelagos_gateway_requests_total", tuple(sorted(labels.items()))


async def test_requests_are_counted_by_service_and_never_by_caller(two_services: Site) -> None:
    site = two_services
    before = await samples(site)
    token = await site.trial("reef", "mine", "detector")
    await site.ask("GET", READY, token=token)
    await site.call(token=token)
    await site.ask("POST", "/reef/detector/v2/models/detector/infer", b"x", token, **BINARY)
    await site.ask("GET", READY)

    async def counted() -> bool:
        found = await samples(site)
        return all(
            found.get(requests("trial", *of), 0) - before.get(requests("trial", *of), 0) == count
            for of, count in ((("http", "200"), 2), (("grpc", "0"), 1))
        )

    await until_true(counted)
    refused = ("pelagos_gateway_refused_total", (("status", "401"),))
    assert (await samples(site))[refused] - before.get(refused, 0) == 1
    _, text = await told(site, "/metrics")
    for secret in (token, token[3:20], "ada"):
        assert secret not in text


async def test_open_streams_are_shown_by_service_beside_how_many_may_be(two_services: Site) -> None:
    site = two_services
    token, other = await site.trial("reef", "mine", "detector"), await site.trial("reef", "other", "classifier")

    async def shown() -> dict[str, float]:
        found = await samples(site)
        assert found["pelagos_gateway_streams_limit", ()] == streaming.AT_ONCE
        return {
            dict(labels)["service"]: value
            for (name, labels), value in found.items()
            if name == "pelagos_gateway_streams" and ("namespace", "reef") in labels
        }

    assert await shown() == {}
    # Only the gateway may name the cluster: a header of the client's is ignored.
    claimed = {"pelagos_cluster": "reef.classifier-grpc", "pelagos_labels": "reef/classifier open"}
    async with stream(site, token, **claimed) as first, stream(site, token) as second, stream(site, other) as third:
        for each in (first, second, third):
            await each.ask(request(1))
        assert await shown() == {"detector": 2, "classifier": 1}
        refused = ("pelagos_gateway_refused_total", (("status", "429"),))
        before = (await samples(site)).get(refused, 0)
        async with stream(site, token) as beyond:
            assert (await beyond.status())[0] == "RESOURCE_EXHAUSTED"
        assert (await samples(site))[refused] == before + 1
        await site.api.delete("modelservices", "reef", "classifier")
        await until(lambda: "reef/classifier" not in site.gateway._judge.table.services)
        assert await shown() == {"detector": 2, "classifier": 1}, "a stream outlives its service until its next message"

    async def gone() -> bool:
        return not await shown()

    await until_true(gone)


def test_what_is_no_longer_served_has_no_series() -> None:
    metrics = Metrics()
    for name in ("detector", "classifier"):
        metrics.ended(f"reef/{name}", "trial", "http", "200", 0.1)
    metrics.keep({"reef/classifier": "..."})
    labels = {"namespace": "reef", "protocol": "http"}
    seconds = "pelagos_gateway_request_seconds_count"
    assert metrics.registry.get_sample_value(seconds, labels | {"service": "detector"}) is None
    assert metrics.registry.get_sample_value(seconds, labels | {"service": "classifier"}) == 1


async def test_health_says_whether_models_can_be_called(site: Site) -> None:
    assert await told(site, "/healthz") == (200, "ok\n")
    assert await told(site, "/readyz") == (200, "ok\n")
    assert (await told(site, "/readyz", host="evil.example"))[0] == 421
    assert (await told(site, "/"))[0] == 404
    site.gateway._judge.is_known = False
    status, words = await told(site, "/readyz")
    assert (status, words) == (503, "what is served is not known yet: the API server was not reached\n")


async def test_what_is_served_and_what_is_stale_is_told(two_services: Site) -> None:
    site = two_services
    await site.trial("reef", "mine", "detector")
    await site.api.stop()

    async def seen() -> bool:
        found = await samples(site)
        stale = found[("pelagos_gateway_stale", (("kind", "ModelService"),))]
        # Envoy is asked after the others are set, so all must have been seen once.
        return (stale, found["pelagos_gateway_trials", ()], found["pelagos_gateway_envoy_up", ()]) == (1, 1, 1)

    await until_true(seen)
    assert (await samples(site))["pelagos_gateway_services", ()] == 2
    await site.api.start()
