"""An image with the DEEPaaS API on OSCAR, from our description to a result.

OSCAR's own client creates the service, an object is put into a bucket, the real faas-supervisor fetches it, the real deepaas-cli
answers by our script, and result and status are in another bucket.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

import yaml

from engines.oscar.conftest import Site
from engines.oscar.test_real_client import told
from model_packages import ENVIRONMENTS
from pelagos_contract import fdl, model_image


async def test_files_that_come_are_answered_and_said_how(
    site: Site, packages: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    package = Path(packages["Detection"][0])
    images = {"x 1.png": (package / "probe.png").read_bytes(), "none.png": b"no image"}
    for name, image in images.items():
        site.storage.put(site.bucket, f"in/{name}", image)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "deepaas-cli").write_text(
        f'#!/bin/sh\nexec {ENVIRONMENTS / "deepaas/bin/python"} -m pelagos_pipelines.deepaas.command "$@"\n'
    )
    (programs / "deepaas-cli").chmod(0o755)
    site.manager.image = {
        "PATH": f"{programs}:{ENVIRONMENTS / 'deepaas/bin'}:/usr/bin:/bin",
        "PELAGOS_PACKAGE": str(package),
        "PELAGOS_MANIFEST_SHA256": package.name,
    }
    # As a person completes the output of `pelagos image fdl`: with the buckets, and the storage that holds them.
    described = fdl.service(fdl.Service("urchins", "registry.example/urchins", model_image.SCRIPT))
    for section, folder in (("input", "in"), ("output", "out")):
        described[section] = [{"storage_provider": "minio.local", "path": f"{site.bucket}/{folder}"}]
    key, secret = site.storage.access
    minio = {
        "endpoint": site.storage.url,
        "region": "us-east-1",
        "access_key": key,
        "secret_key": secret,
        "verify": False,
    }
    described["storage_providers"] = {"minio": {"local": minio}}
    (tmp_path / "script.sh").write_text(model_image.SCRIPT)
    document = {"functions": {"oscar": [{"marine": described | {"script": "script.sh"}}]}}
    (tmp_path / "fdl.yaml").write_text(yaml.safe_dump(document))
    site.manager.jobs.storage = site.storage
    ((made, _),) = await told(site, ["create_service", str(tmp_path / "fdl.yaml")])
    assert made == 201

    token = site.manager.services["urchins"].service["token"]
    for name in images:
        await site.engine._rest.invoke("urchins", token, event(site.bucket, f"in/{name}"))
    jobs = [*site.manager.jobs.of["urchins"].values()]
    await asyncio.wait_for(asyncio.gather(*(job.task for job in jobs if job.task is not None)), 120)

    assert [job.status for job in jobs] == ["Succeeded", "Succeeded"], "as OSCAR has it"
    for name, state in (("x 1.png", "Succeeded"), ("none.png", "Failed")):
        assert json.loads(site.storage.get(site.bucket, f"out/{name}.status.json"))["state"] == state
    answer = json.loads(site.storage.get(site.bucket, "out/x 1.png.json"))
    expected = json.loads((package / "probe.json").read_text())
    assert [each["label"] for each in answer["detections"]] == [each["label"] for each in expected["detections"]]
    assert "out/none.png.json" not in site.storage.keys(site.bucket)


def event(bucket: str, key: str) -> str:
    """The event that MinIO sends for an object put into a bucket, as OSCAR passes it on for a MinIO other than its own."""
    record = {
        "eventSource": "minio:s3",
        "eventTime": "2026-06-12T09:05:29Z",
        "s3": {"bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"}, "object": {"key": quote(key, safe="")}},
    }
    sent = {"EventName": "s3:ObjectCreated:Put", "Key": f"{bucket}/{key}", "Records": [record]}
    return json.dumps({"storage_provider": "local", "event": sent})
