"""The Secret with the key of a namespace's steps, on a real API server."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest

from control_plane import ControlPlane
from pelagos.engines.kubeflow.step_secrets import StepSecrets
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.authority import Authority
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.fakes.authority import KeysFake
from pelagos_contract.sealing import STEP_NAMESPACE_KEY

NEW = b"a newer key, that seals from now on."


@pytest.fixture
async def rest(plane: ControlPlane) -> AsyncIterator[KubernetesRest]:
    made = KubernetesRest(plane.url, tls=plane.tls(), token=plane.token)
    for name in ("steps-bay", "steps-reef"):
        await made.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield made
    await made.close()


async def content(rest: KubernetesRest, namespace: str, name: str) -> str:
    answer = await rest.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    assert answer.body["immutable"] is True
    return base64.b64decode(answer.body["data"][STEP_NAMESPACE_KEY]).decode()


async def test_it_is_made_once_and_by_a_new_operator_found(rest: KubernetesRest) -> None:
    authority = Authority(KeysFake())
    name = await StepSecrets(rest, authority).provide("steps-bay", "steps-bay")

    assert await StepSecrets(rest, authority).provide("steps-bay", "steps-bay") == name
    assert await content(rest, "steps-bay", name) == authority.namespace_key("steps-bay")


async def test_namespaces_that_run_in_one_place_have_different_keys(rest: KubernetesRest) -> None:
    authority = Authority(KeysFake())
    secrets = StepSecrets(rest, authority)
    bay, reef = [await secrets.provide(namespace, "steps-reef") for namespace in ("steps-bay", "steps-reef")]

    assert bay != reef
    assert await content(rest, "steps-reef", bay) == authority.namespace_key("steps-bay")
    assert await content(rest, "steps-reef", reef) == authority.namespace_key("steps-reef")


async def test_a_rotated_key_is_another_secret_and_the_old_one_stays(rest: KubernetesRest) -> None:
    keys = KeysFake()
    authority = Authority(keys)
    secrets = StepSecrets(rest, authority)
    before, old = await secrets.provide("steps-bay", "steps-bay"), authority.namespace_key("steps-bay")
    keys.known = (NEW, *keys.known)

    after = await secrets.provide("steps-bay", "steps-bay")

    assert after != before
    assert await content(rest, "steps-bay", before) == old
    assert await content(rest, "steps-bay", after) == authority.namespace_key("steps-bay")


async def test_where_it_may_not_be_made_this_is_said(plane: ControlPlane, rest: KubernetesRest) -> None:
    with pytest.raises(RejectedError, match=r"Secret nowhere-at-all/pelagos-steps-.* cannot be created: .*not found"):
        await StepSecrets(rest, Authority(KeysFake())).provide("nowhere-at-all", "nowhere-at-all")
    stranger = KubernetesRest(plane.url, tls=plane.tls(), token="nobody")
    with pytest.raises(OutageError, match="cannot be created"):
        await StepSecrets(stranger, Authority(KeysFake())).provide("steps-bay", "steps-bay")
    await stranger.close()
