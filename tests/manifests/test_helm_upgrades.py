"""Helm installs an earlier chart, upgrades it to this one and rolls it back on a real API server, with objects in progress.

No controller runs: the operator is started here, with the rights of the chart's service account, and stopped where a Deployment
with the strategy Recreate would stop it. It launches fakes, which outlive it as Kubeflow and MLflow do.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import installed
import rendering
import sites
import upstream
from integration.test_life_of_a_training import DATASET, PREPARED, SERVICE, TRAINING, run_of, succeed, trained
from pelagos.api import kinds
from pelagos.engines.kubernetes.tenants import KubernetesTenants, Place
from pelagos.ports.tenants import Tenant
from pelagos.settings import Settings
from pelagos.wiring import Credentials, rest_client
from sites import condition, has_reason, is_ready

EARLIER = "091197d5614afe1f9a41e9966037b86c07eb9614"
"""The commit of the chart that is installed first. Move it to that of a release when there is one."""
TENANT = "marine-lab"
RELEASE = "pelagos"
VALUES = {"createNamespace": False, "tenants": [{"namespace": TENANT}]}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The earlier chart."""
    folder = tmp_path_factory.mktemp("earlier")
    chart = rendering.CHART.relative_to(rendering.ROOT)
    packed = subprocess.run(
        ["git", "archive", EARLIER, str(chart)], cwd=rendering.ROOT, capture_output=True, check=False
    )
    if packed.returncode != 0:
        pytest.skip(f"this clone does not hold the commit {EARLIER[:7]}: {packed.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder / chart


@dataclass
class Release:
    """An installation by Helm."""

    server: installed.Site
    values: Path

    def helm(self, *arguments: str | Path) -> str:
        """Run Helm as an administrator."""
        where = (f"--kubeconfig={self.server.plane.kubeconfig}", f"--namespace={installed.SYSTEM}")
        command = [upstream.program("helm"), *arguments, *where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def older(self) -> tuple[str, ...]:
        """Options for a server without CEL rules: such a server refuses definitions with rules in a server-side apply."""
        return () if int(self.server.plane.request("GET", "/version")["minor"]) >= 25 else ("--server-side=false",)

    def state(self) -> tuple[int, str]:
        """The release's revision, and Helm's status of it."""
        (found,) = json.loads(self.helm("list", "--output=json"))
        return int(found["revision"]), found["status"]

    def definitions(self) -> dict[str, Any]:
        """The schemas of our kinds on the server."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        items = self.server.plane.request("GET", path)["items"]
        return {body["metadata"]["name"]: body["spec"]["versions"][0]["schema"] for body in items}


@pytest.fixture
def release(tmp_path: Path, earlier: Path) -> Iterator[Release]:
    """The earlier chart, installed on a server without our kinds."""
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES))
    with installed.site(tmp_path / "site") as server:
        made = Release(server, values)
        made.helm("install", RELEASE, earlier, "--create-namespace", f"--values={values}", *made.older())
        yield made


class Deployed(sites.Site):
    """The operator as the release runs it: its service account, a Lease, all namespaces."""

    def settings(self) -> Settings:
        """Settings with the rights of the service account."""
        return (
            super()
            .settings()
            .model_copy(
                update={
                    "kubeconfig": self.home / "kubeconfig",
                    "namespace": None,
                    "leader_election": True,
                    "lease_namespace": installed.SYSTEM,
                }
            )
        )


@pytest.fixture
async def lab(release: Release, tmp_path: Path) -> AsyncIterator[Deployed]:
    """The tenant that the chart creates."""
    plane = release.server.plane
    told = yaml.safe_load(plane.kubeconfig.read_text(encoding="utf-8"))
    told["users"][0]["user"] = {"token": release.server.token()}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(told), encoding="utf-8")
    client = rest_client(Credentials(plane.url, release.server.token(), str(plane.authority), None))
    tenants = KubernetesTenants(client, Tenant(), Place(installed.SYSTEM, ""))
    made = Deployed(plane, TENANT, tmp_path, make_tenants=lambda _: tenants)
    made.fakes.volumes.put(f"{TENANT}/plankton/1.png")
    yield made
    await made.stop_operator()
    await client.close()


async def replaced(site: Deployed, *, by: Any) -> None:
    """Act as a Deployment with the strategy Recreate when its template changes."""
    by()
    await site.stop_operator()
    await site.start_operator()


def defaulted(schema: Mapping[str, Any], value: Any) -> Any:
    """A value as an API server reads it: missing fields get the defaults of the definition."""
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = schema.get("properties", {})
    missing = {name: field["default"] for name, field in fields.items() if "default" in field and name not in value}
    return {name: defaulted(fields.get(name, {}), item) for name, item in (value | missing).items()}


@pytest.mark.parametrize(
    ("kind", "spec"), [("datasets", DATASET), ("trainingruns", TRAINING), ("modelservices", SERVICE)]
)
def test_new_definitions_add_nothing_to_what_is_stored_that_the_earlier_operator_would_refuse(
    earlier: Path, kind: str, spec: Mapping[str, Any]
) -> None:
    """The definitions come first, and stay when the operator is rolled back: it refuses unknown fields."""
    before, after = (
        yaml.safe_load((chart / "crds" / f"{kind}.pelagos.dev.yaml").read_text(encoding="utf-8"))["spec"]["versions"][0]
        for chart in (earlier, rendering.CHART)
    )
    schemas = [version["schema"]["openAPIV3Schema"]["properties"]["spec"] for version in (before, after)]
    stored = defaulted(schemas[0], spec)

    assert defaulted(schemas[1], stored) == stored


def uids(release: Release) -> dict[str, str]:
    """The uids of all our objects, and of everything in the release."""
    kinds = "datasets,trainingruns,modelservices,serviceaccounts,rolebindings,clusterroles,clusterrolebindings,deployments,crds"
    listed = json.loads(release.server.kubectl("get", kinds, "--all-namespaces", "--output=json"))["items"]
    ours = [body for body in listed if "pelagos" in json.dumps(body["metadata"])]
    assert not [body for body in ours if "deletionTimestamp" in body["metadata"]]
    return {f"{body['kind']}/{body['metadata']['name']}": body["metadata"]["uid"] for body in ours}


def update_definitions(release: Release) -> None:
    """Update the definitions as docs/installing.md says; Helm never does."""
    release.server.kubectl("apply", "--validate=false", "-k", str(rendering.MANIFESTS / "crds"))


async def test_an_upgrade_and_a_rollback_keep_what_is_in_progress(lab: Deployed, release: Release) -> None:
    earlier_definitions = release.definitions()
    await lab.create("Dataset", "plankton", DATASET)
    await lab.create("TrainingRun", "detector", TRAINING)
    await lab.create("ModelService", "detector", SERVICE)
    # First the definitions: objects made under earlier ones stay, and the rights are still those of the earlier chart.
    update_definitions(release)
    await lab.start_operator()
    await lab.wait("Dataset", "plankton", has_reason("Queued"))
    await succeed(lab, "dataset", PREPARED)
    await lab.wait("TrainingRun", "detector", has_reason("Queued"))
    running = run_of(lab, "training")
    lab.fakes.pipelines.start(running)
    await lab.wait("TrainingRun", "detector", has_reason("Running"))
    before = uids(release)

    await replaced(lab, by=lambda: release.helm("upgrade", RELEASE, rendering.CHART, f"--values={release.values}"))
    assert release.state() == (2, "deployed")
    assert uids(release).items() >= before.items()
    assert run_of(lab, "training") == running, "the training went on, and no other began"

    lab.fakes.leave(running, trained())
    lab.fakes.pipelines.succeed(running)
    await lab.wait("TrainingRun", "detector", is_ready)
    served = await lab.wait("ModelService", "detector", is_ready)
    await lab.create("TrainingRun", "again", TRAINING | {"hyperparameters": {"epochs": 4, "imageSize": 64}})
    await lab.wait("TrainingRun", "again", has_reason("Queued"))
    runs = set(lab.fakes.pipelines.runs)

    await replaced(lab, by=lambda: release.helm("rollback", RELEASE, "1"))
    assert release.state() == (3, "deployed")
    assert uids(release).items() >= before.items()
    (again,) = runs - {running} - {name for name in runs if name.startswith("dataset")}
    lab.fakes.leave(again, trained(0.7))
    lab.fakes.pipelines.start(again)
    lab.fakes.pipelines.succeed(again)
    await lab.wait("TrainingRun", "again", is_ready)
    assert set(lab.fakes.pipelines.runs) == runs, "nothing was trained twice"
    assert lab.fakes.pipelines.attempts_begun == 3
    after = await lab.wait("ModelService", "detector", is_ready)
    assert after["status"]["url"] == served["status"]["url"]

    # The earlier roles know no Trials, which this operator asks for; the earlier operator would not.
    forbidden = release.server.acts().forbidden
    assert {act for act in forbidden if act.resource != "trials" and act.name != kinds.TRIAL.crd} == set()
    assert release.definitions().keys() == earlier_definitions.keys() | {kinds.TRIAL.crd}


async def test_what_is_uninstalled_leaves_the_resources_of_people(lab: Deployed, release: Release) -> None:
    update_definitions(release)
    await lab.start_operator()
    await lab.create("Dataset", "plankton", DATASET)
    await lab.wait("Dataset", "plankton", has_reason("Queued"))
    await lab.stop_operator()

    release.helm("uninstall", RELEASE, "--cascade=orphan")

    assert condition(await lab.get("Dataset", "plankton"), "Ready")["reason"] == "Queued"
    assert len(release.definitions()) == 4
