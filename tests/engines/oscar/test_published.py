"""The fake server's answers and our requests conform to OSCAR's source: routes, fields, types of values (published.json)."""

from __future__ import annotations

import re
from typing import Any

from engines.oscar.conftest import Site
from oscar_fake_server.manager import PUBLISHED, Manager
from pelagos.engines.oscar import manifests
from pelagos.ports.placement import Placement
from pelagos.ports.serving import DesiredService, ServiceState
from pelagos_contract import fdl

INGRESS = "/system/services/:serviceName/exposed"
TYPES: dict[str, dict[str, str]] = PUBLISHED["types"]


def test_every_route_of_the_fake_server_is_one_of_oscar() -> None:
    answered = {re.sub(r"{(\w+)(:.*)?}", r":\1", f"{route.method} {route.path}") for route in Manager().routes()}
    own = {route for route in answered if INGRESS not in route}
    assert own <= set(PUBLISHED["routes"])
    assert len(answered) == len(own) + 1


async def test_the_engine_asks_for_what_there_is(site: Site, want: DesiredService) -> None:
    """Every call that the engine makes: create, change, stop, start, restart, observe, remove."""
    site.manager.faults.pulling = True
    engine, uid = site.engine, want.uid
    await engine.answers()
    await engine.apply(want)
    await site.until(uid, ServiceState.WAITING)
    await engine.restart(uid)
    await engine.stop(uid)
    await engine.apply(want)
    site.manager.services[manifests.name_of(want)].service["image"] = "other"
    await engine.apply(want)
    await engine.owned(())
    await engine.remove(uid)
    name = manifests.name_of(want)
    called = {call.replace(name, ":serviceName") for call in site.manager.calls}
    assert called <= set(PUBLISHED["routes"])
    assert {call for call in called if not call.startswith("GET")} == {
        "POST /system/services",
        "PUT /system/services",
        "DELETE /system/services/:serviceName",
        "POST /system/services/:serviceName/restart",
        "POST /system/services/:serviceName/stop",
        "POST /system/services/:serviceName/start",
    }


def test_every_field_that_is_sent_is_one_of_oscar_and_of_its_kind(site: Site, want: DesiredService) -> None:
    options = site.engine._options
    body = manifests.marked(manifests.service(want, "config", options), want, "digest")
    _compare(body, "Service")
    _compare(body["expose"], "Expose")
    _compare(body["environment"], "Environment")
    everything = fdl.Service(
        name="a", image="b", script="c", environment={"A": "1"}, secrets={"B": "2"}, labels={"c": "3"},
        annotations={"d": "4"}, pull_secrets=["e"], has_gpu=True, vo="f", exposed=fdl.Exposed(1, "/"),
    )  # fmt: skip
    _compare(fdl.service(everything), "Service")


def test_names_and_sizes_are_what_oscar_takes(want: DesiredService, site: Site) -> None:
    body = manifests.service(
        DesiredService(**{**vars(want), "name": "x" * 63, "placement": Placement(millicores_limit=1500)}),
        "config",
        site.engine._options,
    )
    assert len(body["name"]) <= 39
    assert (body["cpu"], body["memory"]) == ("1500m", "4Gi")


def _compare(given: dict[str, Any], kind: str) -> None:
    kinds: dict[str, type] = {
        "string": str,
        "bool": bool,
        "int32": int,
        "[]int": list,
        "[]string": list,
        "map[string]string": dict,
    }
    for name, value in given.items():
        go = TYPES[kind][name]
        assert isinstance(value, kinds.get(go, dict)), (name, go, value)
        if go == "map[string]string":
            assert all(isinstance(each, str) for each in given[name].values()), name
