"""Checks of the API server: version, our kinds, rights, leadership, and admission of resources."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from pelagos import engine_registry
from pelagos.api import permissions
from pelagos.api.admission import POLICIES
from pelagos.api.permissions import Permission, Where
from pelagos.cli.diagnosis import network
from pelagos.cli.diagnosis.sections import Section
from pelagos.engines.diagnosis import DoctorContext, Finding, failure, hidden, note, ok, warning
from pelagos.engines.kubernetes import served_kinds
from pelagos.engines.kubernetes.leases import LONGEST_DURATION
from pelagos.engines.kubernetes.tenants import admitting

MOST = 20
"""Most tenant namespaces in which rights are checked."""
OLDEST = (1, 20)
OLDEST_WITH_CEL = (1, 25)
ACCOUNT = "pelagos-operator"
_IN_TENANTS = frozenset({Where.TENANTS, Where.STEPS})
_REQUESTS_AT_ONCE = 8
_Request = tuple[str, str, str, str]
"""A right to ask about: namespace, resource, verb and name."""


async def version(context: DoctorContext) -> Iterable[Finding]:
    """Check that the API server is new enough."""
    answer = await context.api.get("/version")
    if answer.status != 200:
        return [hidden("version", answer)]
    told = str(answer.body.get("gitVersion", "unknown"))
    found = re.match(r"v?(\d+)\.(\d+)", told)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    if number == (0, 0):
        return [note("version", f"{told} at {context.api.server}: built without a version")]
    if number < OLDEST:
        return [failure("version", f"{told} at {context.api.server}", "Use Kubernetes 1.20 or newer.")]
    if number < OLDEST_WITH_CEL:
        message = (
            f"{told} at {context.api.server}; it does not know CEL, so the operator itself checks rules across fields"
        )
        return [ok("version", message)]
    return [ok("version", f"{told} at {context.api.server}")]


async def kinds(context: DoctorContext) -> Iterable[Finding]:
    """Check that our kinds are served, with a schema that fits."""
    lacking = await served_kinds.missing(context.api)
    outdated = await served_kinds.outdated(context.api)
    problems = ([lacking] if lacking else []) + list(outdated.values())
    if problems:
        return [failure("kinds", problem, served_kinds.HINT) for problem in problems]
    return [ok("kinds", "Dataset, TrainingRun and ModelService are served in this version's schema")]


async def rights(context: DoctorContext) -> Iterable[Finding]:
    """Check every right that the operator needs, at the API server, for the operator's own account if that is known."""
    account = await _account(context)
    room = asyncio.Semaphore(_REQUESTS_AT_ONCE)
    wanted = [(right, what) for right in _needed(context) for what in _single(context, right)]

    async def ask(right: Permission, what: _Request) -> bool | None:
        async with room:
            return await _allowed(context, account, right, what)

    answers = await asyncio.gather(*(ask(*each) for each in wanted))
    who = account or "the user who runs this command"
    if None in answers:
        return [note("rights", f"cannot be asked for {who}", "Run `pelagos doctor` in the operator's pod.")]
    denied: dict[tuple[Permission, str], list[str]] = {}
    for (right, (place, resource, verb, _)), allowed in zip(wanted, answers, strict=True):
        if not allowed:
            denied.setdefault((right, place), []).append(f"{verb} {resource}")
    if not denied:
        return [ok("rights", f"{who} has all {len(wanted)} that are required")]
    return [
        failure(
            "rights",
            f"{who} may not {', '.join(lacking)} ({right.group or 'core'})"
            + (f" in the namespace {place}: " if place else ": ")
            + right.why,
            _give(context, right, place),
        )
        for (right, place), lacking in denied.items()
    ]


def _give(context: DoctorContext, right: Permission, place: str) -> str:
    if right.where in _IN_TENANTS and not context.settings.namespace:
        return f"Make the namespace a tenant: {admitting(place, context.home)}"
    return f"Apply the roles: {served_kinds.APPLY} manifests/overlays/cluster (or the overlay that you installed)"


def _needed(context: DoctorContext) -> Iterator[Permission]:
    serving = engine_registry.chosen(context.settings).serving
    # Not those for pipelines: the Kubeflow server checks them, and the check pipelines() covers that.
    for right in (*permissions.PERMISSIONS, *serving.rights):
        if not (context.settings.namespace and right.where is Where.CLUSTER):
            if right.where is Where.OWN and "leases" in right.resources and not context.settings.leader_election:
                continue
            yield right


def _single(context: DoctorContext, right: Permission) -> Iterator[_Request]:
    """The requests that check a right; a tenant right is asked only once per tenant, because they are all bound together."""
    only = context.settings.namespace or ""
    if right.where in _IN_TENANTS and not only:
        for place in context.tenants[:MOST]:
            yield place, right.resources[0], right.verbs[0], (right.names or ("",))[0]
        return
    place = context.home if right.where is Where.OWN else "" if right.where is Where.CLUSTER else only
    for resource in right.resources:
        for verb in right.verbs:
            for name in right.names or ("",):
                yield place, resource, verb, name


async def _allowed(context: DoctorContext, account: str, right: Permission, what: _Request) -> bool | None:
    place, resource, verb, name = what
    plural, _, part = resource.partition("/")
    attributes = {"group": right.group, "resource": plural, "verb": verb, "subresource": part, "name": name}
    if place:
        attributes["namespace"] = place
    kind = "SubjectAccessReview" if account else "SelfSubjectAccessReview"
    spec: dict[str, Any] = {"resourceAttributes": attributes} | ({"user": account} if account else {})
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    answer = await context.api.ask("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body)
    return bool(answer.body.get("status", {}).get("allowed")) if answer.status == 201 else None


async def _account(context: DoctorContext) -> str:
    """The operator's service account; "" when it does not exist, or we may not see it."""
    answer = await context.api.get(f"/api/v1/namespaces/{context.home}/serviceaccounts/{ACCOUNT}")
    return f"system:serviceaccount:{context.home}:{ACCOUNT}" if answer.status == 200 else ""


async def leadership(context: DoctorContext) -> Iterable[Finding]:
    """Check who holds the Lease, and when it was last renewed."""
    if not context.settings.leader_election:
        return [note("leader", "one operator, which needs no Lease (PELAGOS_LEADER_ELECTION)")]
    name = context.settings.lease_name
    where = f"Lease {context.home}/{name}"
    answer = await context.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{context.home}/leases/{name}")
    if answer.status == 404:
        return [warning("leader", f"there is no {where}: no operator has ever led", _LOOK.format(home=context.home))]
    if answer.status != 200:
        return [hidden("leader", answer)]
    spec = answer.body.get("spec", {})
    holder = spec.get("holderIdentity")
    if not holder:
        return [warning("leader", f"nobody holds the {where}", _LOOK.format(home=context.home))]
    age = _age(str(spec.get("renewTime") or ""))
    if age is not None and age > 3 * context.settings.lease_seconds:
        message = f"{holder} has not renewed the {where} for {age:.0f} s"
        return [warning("leader", message, _LOOK.format(home=context.home))]
    if (spec.get("leaseDurationSeconds") or 0) > LONGEST_DURATION:
        message = f"{holder} holds the {where} for {spec['leaseDurationSeconds']} s, which no operator does"
        hint = f"If {holder} is not an operator: kubectl -n {context.home} delete lease {name}"
        return [warning("leader", message, hint)]
    return [ok("leader", f"{holder}")]


_LOOK = "See why the operator does not run: kubectl -n {home} describe pods"


def _age(time: str) -> float | None:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
    except ValueError:
        return None


async def admission(context: DoctorContext) -> Iterable[Finding]:
    """Check for admission policies that refuse at once the resources that the operator would refuse later."""
    group = await context.api.get("/apis/admissionregistration.k8s.io/v1")
    served = {entry.get("name") for entry in group.body.get("resources", ())}
    if "validatingadmissionpolicies" not in served:
        return [
            note(
                "admission",
                "this server does not support admission policies (1.30 does); the operator reports the same later",
            )
        ]
    root = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    answers = {name: await context.api.get(f"{root}/{name}") for name in POLICIES}
    lacking = [name for name, answer in answers.items() if answer.status == 404]
    if lacking:
        hint = "add the component manifests/components/admission, or with Helm admission.enabled=true"
        return [note("admission", f"not installed: {', '.join(lacking)}; the operator reports the same later", hint)]
    refused = next((answer for answer in answers.values() if answer.status != 200), None)
    return [hidden("admission", refused) if refused else ok("admission", f"policies {', '.join(POLICIES)}")]


SECTION = Section(
    "API server",
    (
        ("version", version),
        ("kinds", kinds),
        ("rights", rights),
        ("leader", leadership),
        ("admission", admission),
        ("network", network.look),
    ),
)
