"""OSCAR's own Python client, which many users have, sees what the engine creates and creates what the engine sees."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines.oscar.conftest import Site
from model_packages import ENVIRONMENTS
from oscar_fake_server.manager import ADMIN
from pelagos.engines.oscar import manifests
from pelagos.ports.errors import RejectedError
from pelagos.ports.serving import DesiredService
from pelagos_contract import fdl

PROGRAM = Path(__file__).parents[2] / "oscar_fake_server/client_program.py"


async def told(site: Site, *calls: list[Any]) -> list[tuple[Any, str]]:
    """The answers that the client got."""
    process = await asyncio.create_subprocess_exec(
        ENVIRONMENTS / "oscar/bin/python", PROGRAM, site.manager.url, *ADMIN, json.dumps(calls),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return [(status, text) for status, text in json.loads(output.decode().splitlines()[-1])]


async def test_the_client_sees_what_the_engine_has_made(site: Site, want: DesiredService) -> None:
    site.manager.faults.pulling = True
    await site.engine.apply(want)
    name = manifests.name_of(want)
    info, services, one, state, logs, missing = await told(
        site,
        ["get_cluster_info"],
        ["list_services"],
        ["get_service", name],
        ["get_deployment_status", name],
        ["get_deployment_logs", name],
        ["get_service", "none"],
    )
    assert json.loads(info[1])["version"] == "v4.1.2"
    assert [each["name"] for each in json.loads(services[1])] == [name]
    service = json.loads(one[1])
    assert service["expose"]["api_port"] == [8080]
    assert len(service["token"]) == 64
    assert service["environment"]["secrets"] == {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert json.loads(state[1])["state"] == "pending"
    assert json.loads(logs[1])["available"] is False
    assert missing[0] in {404, "error"}


async def test_a_document_of_ours_is_a_service_for_the_client(site: Site, want: DesiredService, tmp_path: Path) -> None:
    """It reads Functions Definition Language from a file, and the script beside it."""
    service = fdl.Service("urchins", "an/image", "script.sh", cpu="1.0", exposed=fdl.Exposed(5000, "/v2/models/"))
    (tmp_path / "script.sh").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "fdl.yaml").write_text(yaml.safe_dump(fdl.document([service], "marine")))
    site.manager.faults.pulling = True
    made, again, changed, gone = await told(
        site,
        ["create_service", str(tmp_path / "fdl.yaml")],
        ["create_service", str(tmp_path / "fdl.yaml")],
        ["update_service", "urchins", str(tmp_path / "fdl.yaml")],
        ["remove_service", "urchins"],
    )
    assert made == (201, "")
    assert again[0] == "error"
    assert "already present" in again[1]
    assert (changed[0], gone[0]) == (204, 204)
    assert site.manager.services == {}
    # A service that a person created with that client under our name stays that person's.
    name = manifests.name_of(want)
    await told(site, ["create_service", fdl.service(fdl.Service(name, "an/image", "exit 0"))])
    with pytest.raises(RejectedError, match="did not create"):
        await site.engine.apply(want)
