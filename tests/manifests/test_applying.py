"""A person's commands with the overlays on a real API server: apply, apply again, and uninstall without a trace."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import rendering
from installed import SYSTEM, Site
from pelagos.engines.kubernetes import served_kinds

OVERLAYS = rendering.MANIFESTS / "overlays"
MONITORING = Path(__file__).parent / "kinds_of_others.yaml"
DATASET = """
apiVersion: pelagos.dev/v1alpha1
kind: Dataset
metadata: {name: plankton, namespace: default}
spec: {source: {volume: {path: plankton}}, task: Detection}
"""


@pytest.fixture
def others(site: Site) -> None:
    """Create the kinds of the Prometheus operator and of KServe, as far as kubectl needs them."""
    site.kubectl("apply", "-f", str(MONITORING))


def uninstall(site: Site, folder: Path) -> None:
    """Uninstall as docs/installing.md says."""
    site.kubectl("delete", "modelservices,trainingruns,datasets", "--all", "--all-namespaces", "--timeout=60s")
    site.remove(folder)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("overlay", "components"), [("kserve", ("monitoring", "networkpolicies")), ("single-namespace", ())]
)
def test_applying_twice_changes_nothing_and_uninstalling_leaves_nothing(
    site: Site, tmp_path: Path, overlay: str, components: Sequence[str]
) -> None:
    before = site.everything()
    folder = tmp_path / "with-components"
    folder.mkdir()
    rendering.kustomization(
        folder, resources=[f"overlays/{overlay}"], components=[f"components/{name}" for name in components]
    )

    first = site.apply(folder)
    assert all(line.endswith(" created") for line in first)
    applied = site.everything()
    again = site.apply(folder)

    # A server without CEL drops the rules, and kubectl sends them each time; the server then writes nothing.
    judged = [line for line in again if site.knows_all or "customresourcedefinition" not in line]
    assert all(line.endswith(" unchanged") for line in judged), again
    assert site.everything() == applied
    uninstall(site, folder)
    assert site.everything().keys() == before.keys()


@pytest.fixture
def namespace(site: Site) -> Iterator[None]:
    """The operator's namespace, which a dry run does not create."""
    site.kubectl("create", "namespace", SYSTEM)
    yield
    site.kubectl("delete", "namespace", SYSTEM, "--wait=false")
    site.finalize(SYSTEM)


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("overlay", ["cluster", "gpu", "triton-only"])
def test_a_dry_run_on_a_server_takes_every_object_and_changes_nothing(site: Site, overlay: str) -> None:
    before = site.everything()

    said = site.kubectl(*site.applying, "--dry-run=server", "-k", str(OVERLAYS / overlay)).splitlines()

    assert len(said) == len(rendering.kustomize(OVERLAYS / overlay))
    assert [
        line for line in said if not line.endswith(("created (server dry run)", "configured (server dry run)"))
    ] == []
    assert [line for line in said if "configured" in line] == [f"namespace/{SYSTEM} configured (server dry run)"]
    assert site.everything() == before


@pytest.mark.usefixtures("namespace")
def test_a_dry_run_on_a_server_refuses_what_an_installation_could_not_be(site: Site, tmp_path: Path) -> None:
    change = "[{op: replace, path: /spec/selector/matchLabels, value: {app: another}}]"
    patch = {"target": {"kind": "Deployment"}, "patch": change}
    rendering.kustomization(tmp_path, resources=["overlays/gpu"], patches=[patch])

    site.kubectl(*site.applying, "--dry-run=server", "-k", str(OVERLAYS / "gpu"))
    site.kubectl(*site.applying, "--dry-run=server", "-k", str(tmp_path), code=1)


@pytest.mark.usefixtures("others")
def test_what_is_applied_stays_as_it_was_applied_and_goes_without_a_trace(site: Site, tmp_path: Path) -> None:
    before = site.everything()
    folder = OVERLAYS / "cluster"
    site.apply(folder)
    site.admit("default")
    with site.operator(tmp_path):
        site.kubectl("apply", "-f", "-", text=DATASET)
        body = site.until("Dataset", "plankton", lambda body: bool(body.get("status", {}).get("conditions")), tmp_path)

        # The operator wrote status and finalizer, which Git does not own.
        assert body["metadata"]["finalizers"]
        assert owners_of_spec(body) == {"kubectl-client-side-apply"}
        assert site.kubectl("diff", "-f", "-", text=DATASET) == ""
        assert site.kubectl("apply", "-f", "-", text=DATASET).strip().endswith("unchanged")
        uninstall(site, folder)

    assert site.everything().keys() == before.keys()


def owners_of_spec(body: Mapping[str, Any]) -> set[str]:
    """The managers of fields of spec, labels or annotations."""
    found = set()
    for entry in body["metadata"]["managedFields"]:
        fields = entry["fieldsV1"]
        if "f:spec" in fields or {"f:labels", "f:annotations"} & fields.get("f:metadata", {}).keys():
            found.add(entry["manager"])
    return found


@pytest.mark.parametrize("is_there", [False, True], ids=["a server without them", "as `pelagos up` made them"])
def test_what_is_said_of_missing_definitions_installs_them_on_a_server_without_cel_rules(
    site: Site, is_there: bool
) -> None:
    """kubectl's own validation and server-side apply refuse the rules there."""
    definitions = str(rendering.MANIFESTS / "crds")
    if is_there:
        for file in sorted((rendering.MANIFESTS / "crds").glob("*.pelagos.dev.yaml")):
            site.kubectl("create", "--validate=false", "-f", str(file))

    program, *arguments = shlex.split(served_kinds.HINT)

    assert program == "kubectl"
    assert len(site.kubectl(*arguments).splitlines()) == 4
    assert len(site.kubectl("get", "customresourcedefinitions", "--output=name").splitlines()) >= 3
    site.kubectl("delete", "-k", definitions, "--wait=false")
    site.until_gone("pelagos")
