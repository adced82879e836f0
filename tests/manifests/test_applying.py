"""What a person does with the overlays on a real API server: apply, apply again, and uninstall without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

import rendering
from installed import Site

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
    """The kinds of the Prometheus operator and of KServe, as far as kubectl needs them."""
    site.kubectl("apply", "-f", str(MONITORING))


def uninstall(site: Site, folder: Path) -> None:
    """As docs/installing.md says."""
    site.kubectl("delete", "modelservices,trainingruns,datasets", "--all", "--all-namespaces", "--timeout=60s")
    site.remove(folder)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("overlay", ["kserve", "monitoring", "networkpolicies", "single-namespace"])
def test_applying_twice_changes_nothing_and_uninstalling_leaves_nothing(site: Site, overlay: str) -> None:
    before = site.everything()
    folder = OVERLAYS / overlay

    first = site.apply(folder)
    assert all(line.endswith(" created") for line in first)
    applied = site.everything()
    again = site.apply(folder)

    # A server that knows no CEL rules drops them, and kubectl sends them anew each time; the server then writes nothing.
    assert all(line.endswith(" unchanged") for line in again if "customresourcedefinition" not in line), again
    assert site.everything() == applied
    uninstall(site, folder)
    assert site.everything().keys() == before.keys()


@pytest.mark.usefixtures("others")
def test_resources_are_deleted_before_the_operator(site: Site, tmp_path: Path) -> None:
    before = site.everything()
    folder = OVERLAYS / "cluster"
    site.apply(folder)
    with site.operator(tmp_path):
        site.kubectl("apply", "-f", "-", text=DATASET)
        site.until("Dataset", "plankton", lambda body: bool(body["metadata"].get("finalizers")), tmp_path)
        uninstall(site, folder)

    assert site.everything().keys() == before.keys()
