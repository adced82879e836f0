"""One real cluster for all tests in this folder (harness/cluster.py); images are built once, offline.

Skipped where no node can run (tools/node/supported.sh says why). Nothing is intercepted: the programs are Kubernetes',
containerd's and ours. Each test uses its own namespace.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.harness import machine
from cluster.harness.cluster import Cluster
from cluster.harness.later import Later, components
from cluster.platform.kserve import Kserve
from cluster.platform.kueue import Kueue
from cluster.platform.services import Platform
from cluster.platform.site import make_tenant
from model_packages import environments, make_want, packages
from pelagos.engines.triton_local.server import site_packages

__all__ = ["environments", "make_want", "packages"]

_SECONDS = 1500
"""Limit of one test with its shared fixtures: starting the cluster and building an image without a cache take minutes."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, ready for pods."""
    require_node()
    running = Cluster.start(tmp_path_factory.mktemp("cluster"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def operator_image(cluster: Cluster) -> str:
    """The operator's image, built from this tree."""
    return cluster.images.build("operator")


@pytest.fixture(scope="session")
def serving_image(cluster: Cluster) -> str:
    """The model server's image for CPUs, with the Triton of a wheel."""
    return cluster.images.build("serving")


@pytest.fixture(scope="session")
def gateway_image(cluster: Cluster) -> str:
    """The image of the gateway's program, which authorizes calls beside an Envoy."""
    return cluster.images.build("gateway")


@pytest.fixture(scope="session")
def envoy_image(cluster: Cluster) -> str:
    """In place of the official image, which no registry here has: the same version, of its wheel, at the same path."""
    return cluster.images.build_around(
        site_packages(machine.ENVIRONMENTS / "triton") / "envoy/_bin/envoy", "/usr/local/bin/envoy"
    )


@pytest.fixture(scope="session")
def hub_image(cluster: Cluster) -> str:
    """The hub's image."""
    return cluster.images.build("hub")


@pytest.fixture(scope="session")
def deepaas_image(cluster: Cluster) -> str:
    """The base of the images of single models."""
    return cluster.images.build("deepaas")


@pytest.fixture(scope="session")
def trainer_image(cluster: Cluster) -> str:
    """The trainer's image without its environment, which pods mount from this machine: see platform/environments.py."""
    return cluster.images.build("trainer")


@pytest.fixture(scope="session")
def platform(cluster: Cluster) -> Platform:
    """MLflow, object storage and the pipeline server in the cluster, and a tenant."""
    running = Platform.start(cluster)
    make_tenant(cluster)
    return running


@pytest.fixture(scope="session")
def kserve(cluster: Cluster, request: pytest.FixtureRequest) -> Kserve:
    """KServe's own controller, which is built while the tests run that do not need it."""
    return Kserve.start(cluster, request.config.stash[_LATER].program("kserve"))


@pytest.fixture(scope="module")
def kueue(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Kueue]:
    """The real Kueue, built while other tests run. Those tests run before its webhooks exist, which every pod would pass."""
    program = request.config.stash[_LATER].program("kueue")
    running = Kueue.install(cluster, tmp_path_factory.mktemp("kueue") / "kustomization", program)
    yield running
    running.uninstall()


_LATER = pytest.StashKey[Later]()
_numbers = itertools.count(1)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that is deleted with all its pods."""
    name = f"test-{next(_numbers)}"
    cluster.create_namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def require_node() -> None:
    """Skip where no node can run; fail where one could run but is not installed."""
    if os.geteuid() != 0:
        pytest.skip("no root")
    if reason := machine.unsupported():
        pytest.skip(f"no Kubernetes node can run on this machine: {reason}")
    if missing := machine.not_installed():
        pytest.fail(missing)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests: those that need only the cluster, those of programs that are built beside them, those that look back."""
    ours = [item for item in items if "/tests/cluster/" in item.path.as_posix()]
    for item in ours:
        item.add_marker(pytest.mark.timeout(_SECONDS))
    needed = {item.path: set[str]() for item in ours}
    for item in ours:
        needed[item.path] |= _later(item)
    order = list(components())
    items.sort(
        key=lambda item: (
            item.path in needed,
            item.path in needed and item.path.stem == "test_rights",
            max((order.index(name) + 1 for name in needed.get(item.path, ())), default=0),
        )
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start building the programs that the chosen tests need later."""
    names = set[str]().union(*(_later(item) for item in session.items))
    if names and not session.config.option.collectonly and os.geteuid() == 0 and not machine.unsupported():
        later = session.config.stash[_LATER] = Later(Path(tempfile.mkstemp(prefix="pelagos-later-")[1]))
        later.begin(names)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop builds that are still in progress; the next run continues them."""
    if later := session.config.stash.get(_LATER, None):
        later.stop()


def _later(item: pytest.Item) -> set[str]:
    """The components among a test's fixtures, which have the same names."""
    return {*components()} & {*getattr(item, "fixturenames", ())}
