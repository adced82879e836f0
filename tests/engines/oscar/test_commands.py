"""Commands on a model that OSCAR serves: `pelagos predict` with its token, `pelagos invocation` with a login to OSCAR."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner, Result

from engines.oscar.conftest import Site
from engines.oscar.test_invocations import probe_image
from pelagos.cli.main import app
from pelagos.engines.oscar import manifests
from pelagos.ports.serving import DesiredService, ServiceState
from resource_servers import ApiServer, api

__all__ = ["api"]


async def run(*arguments: object) -> Result:
    """Run a command in a thread: the fake cluster lives in this event loop."""
    return await asyncio.to_thread(CliRunner().invoke, app, [str(argument) for argument in arguments])


async def test_a_model_of_oscar_is_asked_at_once_and_later(
    site: Site,
    want: DesiredService,
    api: ApiServer,
    monkeypatch: pytest.MonkeyPatch,
    packages: dict[str, tuple[str, str]],
) -> None:
    bucket = f"later-{site.bucket}"
    site.manager.jobs.storage = site.storage
    site.engine._options = replace(site.engine._options, invocations_url=f"{site.storage.url}/{bucket}/")
    await site.engine.apply(want)
    seen = await site.until(want.uid, ServiceState.LOADED)
    name = manifests.name_of(want)
    image = site.folder / "frame.png"
    image.write_bytes(probe_image(packages))
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": ""}
    api.add("detector", {"url": seen.http_url, "model": {"name": "detector"}, "conditions": [ready]})
    api.resources["default"][0]["metadata"]["uid"] = want.uid

    # Synchronous, with the token of the service.
    refused = await run("predict", "detector", image)
    assert refused.exit_code == 1
    assert "the endpoint does not admit us: HTTP 401" in refused.stderr
    login = site.folder / "login"
    login.write_text(f"{name}:{site.manager.services[name].service['token']}")
    found = await run("predict", "detector", image, "--login-file", login, "-o", "json")
    assert found.exit_code == 0, found.output
    at_once = json.loads(found.stdout)
    assert len(at_once["detections"]) == 4

    # Asynchronous, with a login to OSCAR.
    unset = await run("invocation", "start", "detector", image)
    assert unset.exit_code == 1
    assert "PELAGOS_OSCAR_BUCKET" in unset.stderr
    for setting, value in {
        "OSCAR_URL": site.manager.url,
        "OSCAR_USERNAME_FILE": str(site.folder / "user"),
        "OSCAR_PASSWORD_FILE": str(site.folder / "password"),
        "OSCAR_BUCKET": bucket,
        "OSCAR_STORAGE_URL": site.storage.url,
    }.items():
        monkeypatch.setenv(f"PELAGOS_{setting}", value)
    api.resources["default"][0]["metadata"]["uid"] = "another"
    foreign = await run("invocation", "start", "detector", image)
    assert foreign.exit_code == 1
    assert "was not created for this ModelService, so no image is sent to it" in foreign.stderr
    api.resources["default"][0]["metadata"]["uid"] = want.uid
    started = await run("invocation", "start", "detector", image, "--key", "frame-of-monday")
    assert (started.exit_code, started.stdout) == (0, "frame-of-monday\n"), started.output
    later = await run("invocation", "show", "detector", "frame-of-monday", "--wait", 60, "-o", "json")
    assert later.exit_code == 0, later.output
    answered = json.loads(later.stdout)
    assert (answered["state"], answered["key"]) == ("Succeeded", "frame-of-monday")
    assert answered["detections"] == at_once["detections"]
    table = await run("invocation", "show", "detector", "frame-of-monday")
    assert "4 detections" in table.stdout
    none = await run("invocation", "show", "detector", "frame-of-tuesday")
    assert none.exit_code == 1
    assert "Lost: no job of the service is left that could answer" in none.stdout


async def test_a_model_of_another_oscar_is_not_asked_for_at_ours(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": ""}
    url = "https://theirs.example.org/system/services/p-1-detector/exposed"
    api.add("detector", {"url": url, "model": {"name": "detector"}, "conditions": [ready]})
    monkeypatch.setenv("PELAGOS_OSCAR_URL", "https://ours.example.org/")
    found = await run("invocation", "show", "detector", "frame-of-monday")
    assert found.exit_code == 1
    assert f"is served by another OSCAR, at {url}: set PELAGOS_OSCAR_URL" in found.stderr


async def test_a_model_of_another_engine_is_not_asked_later(api: ApiServer, site: Site) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": ""}
    api.add("detector", {"url": "grpc://127.0.0.1:9", "model": {"name": "detector"}, "conditions": [ready]})
    found = await run("invocation", "show", "detector", "frame-of-monday")
    assert found.exit_code == 1
    assert found.stderr.startswith(
        "Error: ModelService default/detector is not served by OSCAR; send the image directly"
    )
