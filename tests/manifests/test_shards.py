"""Several operators that divide the resources by labels, on a real API server: one service account, and a Lease for each."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rendering
from installed import SYSTEM, Site
from pelagos.api import meta

SHARDS = rendering.MANIFESTS / "samples/shards"


def settings(body: Mapping[str, Any]) -> dict[str, str]:
    """The settings in which the operator of a shard differs from others."""
    (container,) = body["spec"]["template"]["spec"]["containers"]
    found = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    return {name: found[name] for name in ("PELAGOS_LEASE_NAME", "PELAGOS_WATCH_SELECTOR")}


def dataset(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    spec = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}
    return {"apiVersion": meta.API_VERSION, "kind": "Dataset", "metadata": metadata, "spec": spec}


def is_judged(body: Mapping[str, Any]) -> bool:
    return bool(body.get("status", {}).get("conditions"))


def test_operators_of_the_sample_lead_their_shards_and_leave_the_others_alone(site: Site, tmp_path: Path) -> None:
    site.apply(SHARDS)
    deployed = [body for body in rendering.kustomize(SHARDS) if body["kind"] == "Deployment"]
    north, others = map(settings, sorted(deployed, key=lambda body: str(body["metadata"]["name"])))
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
    try:
        site.admit("default")
        with contextlib.ExitStack() as running:
            running.enter_context(site.operator(tmp_path / "north", **north))
            for body in (dataset("cold", **{meta.SHARD_LABEL: "north"}), dataset("warm")):
                site.create(body, "default")
            site.until("Dataset", "cold", is_judged, tmp_path / "north")
            assert not is_judged(site.read("Dataset", "warm"))

            running.enter_context(site.operator(tmp_path / "others", **others))
            site.until("Dataset", "warm", is_judged, tmp_path / "others")
            held = {body["metadata"]["name"]: body["spec"] for body in site.plane.request("GET", leases)["items"]}
            assert held.keys() == {north["PELAGOS_LEASE_NAME"], others["PELAGOS_LEASE_NAME"]}
            assert len({spec["holderIdentity"] for spec in held.values()}) == 2
            site.kubectl("delete", "datasets", "--all", "--all-namespaces", "--timeout=60s")
    finally:
        site.remove(SHARDS)
