"""Argo CD understands every status that the operator writes, and its actions have the effects that they name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

import kstatus
from argo_cd import FOLDER, HEALTH, run
from kstatus import Kstatus
from pelagos.api import kinds, meta

Body = dict[str, Any]
MEANT = {Kstatus.CURRENT: "Healthy", Kstatus.FAILED: "Degraded", Kstatus.IN_PROGRESS: "Progressing"}


def without_empty(node: Any) -> Any:
    """Lua has one empty table for lists and mappings; Argo CD restores the original type."""
    if isinstance(node, dict):
        return {key: without_empty(value) for key, value in node.items() if value not in ([], {})}
    return node


def stalled(bodies: list[Body]) -> Body:
    return copy.deepcopy(next(body for body in bodies if kstatus.read_body(body) is Kstatus.FAILED))


def test_argo_cd_and_flux_agree_about_every_status(bodies: list[Body]) -> None:
    seen = set()
    for body in bodies:
        read = kstatus.read_body(body)
        if read is Kstatus.TERMINATING or not body["status"]:
            continue  # Argo CD recognizes by itself that an object is being deleted.
        health = run(HEALTH, body)
        seen.add(health["status"])
        is_paused = health["status"] == "Suspended" and body["spec"].get("suspend") and read is not Kstatus.CURRENT
        assert is_paused or health["status"] == MEANT[read], (body, health)

    assert seen == {"Healthy", "Degraded", "Progressing", "Suspended"}


def test_a_message_says_reason_and_cause(bodies: list[Body]) -> None:
    body = stalled(bodies)
    (ready,) = (condition for condition in body["status"]["conditions"] if condition["type"] == "Ready")

    assert run(HEALTH, body)["message"] == f"{ready['reason']}: {ready['message']}"


@pytest.mark.parametrize("state", [Kstatus.CURRENT, Kstatus.FAILED])
def test_a_status_of_an_older_generation_is_no_verdict(bodies: list[Body], state: Kstatus) -> None:
    body = copy.deepcopy(next(body for body in bodies if body["status"] and kstatus.read_body(body) is state))
    body["metadata"]["generation"] += 1

    assert run(HEALTH, body) == {"status": "Progressing", "message": "Waiting for the operator"}


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": 1}, {"observedGeneration": 1, "conditions": []}])
def test_what_the_operator_has_not_seen_is_waited_for(status: Any) -> None:
    body = {"metadata": {"generation": 1}, "spec": {}} | ({} if status is None else {"status": status})

    assert run(HEALTH, body)["status"] == "Progressing"


def test_retry_is_offered_to_what_is_stalled_and_sets_a_new_token(bodies: list[Body]) -> None:
    body = stalled(bodies)

    assert run("actions/discovery.lua", body)["retry"] == {"disabled": False}
    after = run("actions/retry.lua", body)
    token = after["metadata"]["annotations"]["pelagos.dev/retry"]
    assert token.endswith("Z")
    assert without_empty(after["spec"]) == without_empty(body["spec"])


def test_retry_keeps_other_annotations(bodies: list[Body]) -> None:
    body = stalled(bodies)
    body["metadata"]["annotations"] = {"note": "keep"}

    assert run("actions/retry.lua", body)["metadata"]["annotations"]["note"] == "keep"


def test_suspend_and_resume_are_each_others_opposite(bodies: list[Body]) -> None:
    body = stalled(bodies)
    suspended = run("actions/suspend.lua", body)

    assert suspended["spec"]["suspend"] is True
    offered = run("actions/discovery.lua", suspended)
    assert offered == {"retry": {"disabled": True}, "suspend": {"disabled": True}, "resume": {"disabled": False}}
    assert run("actions/resume.lua", suspended)["spec"]["suspend"] is False


def test_the_patch_of_argocd_cm_holds_these_files_for_every_kind() -> None:
    patch = yaml.safe_load((FOLDER / "argocd-cm.yaml").read_text())

    assert set(patch["data"]) == {
        f"resource.customizations.{part}.pelagos.dev_{kind.kind}"
        for part in ("health", "actions")
        for kind in kinds.KINDS
        if part == "health" or issubclass(kind.spec, meta.BaseSpec)
    }
    for kind in kinds.KINDS:
        assert patch["data"][f"resource.customizations.health.pelagos.dev_{kind.kind}"] == (FOLDER / HEALTH).read_text()
        if not issubclass(kind.spec, meta.BaseSpec):
            continue
        actions = yaml.safe_load(patch["data"][f"resource.customizations.actions.pelagos.dev_{kind.kind}"])
        assert actions["discovery.lua"] == (FOLDER / "actions/discovery.lua").read_text()
        for entry in actions["definitions"]:
            assert entry["action.lua"] == (FOLDER / f"actions/{entry['name']}.lua").read_text()
