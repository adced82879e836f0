"""A real API server is prepared: credentials, the default namespace, and our resources."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import pytest

from control_plane import ControlPlane
from pelagos.embedded import cluster, credentials
from pelagos.embedded.layout import Layout

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def test_resources_are_served_and_a_second_time_changes_nothing(control_plane: ControlPlane) -> None:
    definitions = cluster.definitions()
    async with cluster.Api.connect(control_plane.url, control_plane.token, control_plane.authority) as api:
        await cluster.prepare(api, definitions)
        first = {
            item["metadata"]["name"]: item["metadata"]["resourceVersion"]
            for item in (await api.get(_DEFINITIONS))["items"]
        }
        await cluster.prepare(api, definitions)
        second = {
            item["metadata"]["name"]: item["metadata"]["resourceVersion"]
            for item in (await api.get(_DEFINITIONS))["items"]
        }
    assert first == second
    plurals = {"datasets", "trainingruns", "modelservices", "trials"}
    assert set(first) == {f"{plural}.pelagos.dev" for plural in plurals}
    for plural in plurals:
        assert control_plane.request("GET", f"/apis/pelagos.dev/v1alpha1/namespaces/default/{plural}")["items"] == []


async def test_a_changed_resource_is_replaced(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with cluster.Api.connect(control_plane.url, control_plane.token, control_plane.authority) as api:
        await cluster.prepare(api, cluster.definitions())
        path = f"{_DEFINITIONS}/datasets.pelagos.dev"
        there = await api.get(path)
        there["metadata"]["labels"] = {"app.kubernetes.io/part-of": "something-else"}
        await api.put(path, there)
        await cluster.prepare(api, cluster.definitions())
        assert (await api.get(path))["metadata"]["labels"] == {"app.kubernetes.io/part-of": "pelagos"}


def test_kubectl_works_with_the_kubeconfig_and_nobody_works_without(control_plane: ControlPlane) -> None:
    kubectl = Path(sys.executable).parents[2] / "control-plane" / "bin" / "kubectl"
    environment = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)}
    done = subprocess.run(
        [kubectl, "auth", "can-i", "*", "*", "--all-namespaces"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "yes"
    assert stat.S_IMODE(control_plane.kubeconfig.stat().st_mode) == 0o600
    assert stat.S_IMODE(control_plane.layout.tokens.stat().st_mode) == 0o600
    stranger = ControlPlane(control_plane.layout, control_plane.url, "wrong", control_plane.authority)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        stranger.request("GET", "/api/v1/namespaces")


def test_credentials_are_kept(layout: Layout) -> None:
    credentials.prepare(layout)
    before = {file.name: file.read_bytes() for file in [layout.tokens, *layout.certificates.iterdir()]}
    credentials.prepare(layout)
    assert {file.name: file.read_bytes() for file in [layout.tokens, *layout.certificates.iterdir()]} == before


def test_half_a_certificate_is_made_anew(layout: Layout) -> None:
    """The server would refuse to start with it."""
    certificate, key = layout.certificates / "apiserver.crt", layout.certificates / "apiserver.key"
    certificate.write_text("certificate")
    key.write_text("")
    credentials.prepare(layout)
    assert not certificate.exists()
    assert not key.exists()


def test_an_old_certificate_is_made_anew_before_it_expires(layout: Layout) -> None:
    for name in ("apiserver.crt", "apiserver.key"):
        file = layout.certificates / name
        file.write_text("old")
        os.utime(file, (0, 0))
    credentials.prepare(layout)
    assert not (layout.certificates / "apiserver.crt").exists()


def test_a_certificate_from_the_future_is_made_anew(layout: Layout) -> None:
    """The clock was set back since; a certificate that is not valid yet would keep every client out."""
    for name in ("apiserver.crt", "apiserver.key"):
        file = layout.certificates / name
        file.write_text("not yet valid")
        os.utime(file, (time.time() + 3600, time.time() + 3600))
    credentials.prepare(layout)
    assert not (layout.certificates / "apiserver.crt").exists()


@pytest.mark.parametrize("content", ["", "half", "a,b,c\n"])
def test_a_broken_token_file_is_replaced(layout: Layout, content: str) -> None:
    layout.tokens.write_text(content)
    credentials.prepare(layout)
    token = credentials.token(layout)
    assert token is not None
    assert len(token) >= 40
