"""Services with an https address, as Knative's may have: reached by TLS, and only with a certificate of their name."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest

from faulty_proxy import Authority, make_authority
from gateway.sites import BINARY, Upstream, running, until
from gateway.test_streams import request, stream

INFER = "/reef/detector/v2/models/detector/infer"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def elsewhere(authority: Authority) -> tuple[Path, Path]:
    """A certificate of the same authority for another name, with its key."""
    folder = authority.file.parent
    cert, key = folder / "elsewhere.pem", folder / "elsewhere.key"
    made = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-x509", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=DNS:elsewhere.example,IP:127.0.0.2"]
    names += ["-addext", "basicConstraints=critical,CA:FALSE"]
    signed = ["-CA", str(authority.file), "-CAkey", str(folder / "ca.key")]
    subprocess.run([*made, "-keyout", key, "-out", cert, *names, *signed], check=True, capture_output=True, timeout=60)
    return cert, key


async def test_they_are_called_by_both_protocols_by_streams_and_with_images_in_json(
    environments: Path, authority: Authority
) -> None:
    async with running(environments, open=True, services_ca_file=authority.file) as site:
        upstream = await site.serve("reef", "detector", certificate=authority.server)
        assert (await site.ask("GET", "/reef/detector/v2/health/ready")).status == 200
        assert (await site.ask("POST", INFER, bytes(100_000), **BINARY)).status == 200
        image = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [base64.b64encode(b"frame").decode()]}
        body = json.dumps({"inputs": [image]}).encode()
        assert (await site.ask("POST", INFER, body, Content_Type="application/json")).status == 200
        assert await site.call(pelagos_service="reef/detector") == ("OK", "")
        async with stream(site, pelagos_service="reef/detector") as ours:
            assert not (await ours.ask(request(1))).error_message
        assert len(upstream.reached) == 5


async def test_nobody_is_called_who_has_another_certificate(
    environments: Path, authority: Authority, tmp_path: Path
) -> None:
    other = make_authority(tmp_path / "other", "other")
    async with running(environments, open=True, services_ca_file=authority.file) as site:
        for name, certificate in (("unknown", other.server), ("another", elsewhere(authority))):
            upstream = await site.serve("reef", name, certificate=certificate)
            assert (await site.ask("GET", f"/reef/{name}/v2/health/ready")).status == 503, name
            path = f"/reef/{name}/v2/models/detector/infer"
            body = json.dumps({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["eA=="]}]})
            assert (await site.ask("POST", path, body.encode(), Content_Type="application/json")).status == 503, name
            assert (await site.call(pelagos_service=f"reef/{name}"))[0] == "UNAVAILABLE", name
            assert upstream.reached == []


async def test_without_authorities_the_others_are_called_all_the_same(
    environments: Path, authority: Authority, tmp_path: Path
) -> None:
    async with running(environments, open=True, services_ca_file=tmp_path / "absent.pem") as site:
        await site.serve("reef", "plain")
        closed = Upstream("closed", certificate=authority.server)
        await closed.start()
        site.upstreams["reef/closed"] = closed
        await site.api.put("modelservices", "reef", "closed", status=closed.status())
        await until(lambda: "reef.closed-http" in site.gateway._places)
        await site.serve("reef", "later")
        for name, status in (("plain", 200), ("later", 200), ("closed", 503)):
            assert (await site.ask("GET", f"/reef/{name}/v2/health/ready")).status == status, name
