"""The checks of ``pelagos doctor`` for namespaces in which steps run: whether everything that their pods need exists."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from decimal import Decimal
from urllib.parse import quote

from pelagos.engines.diagnosis import DoctorContext, Finding, failure, hidden, items, note, ok, warning
from pelagos.engines.kubeflow import preflight
from pelagos.engines.kubeflow.preflight import Needs, Store

_USUAL = Needs((("cpu", Decimal(2)), ("memory", Decimal(4 * 1024**3))))
"""A step's requests when its resource names none."""
_SECONDS = 4.0
_PORTS = {"http": 80, "https": 443}
_DOCUMENTED = "docs/installing.md, The artifact store, has one to copy."


async def look(context: DoctorContext, namespace: str, account: str) -> Iterable[Finding]:
    """Check one namespace; ``account`` is the service account of steps whose tenant names none."""
    return [
        *await _artifacts(context, namespace),
        *await _account(context, namespace, account),
        *await _quotas(context, namespace),
    ]


async def _artifacts(context: DoctorContext, namespace: str) -> list[Finding]:
    answer = await context.api.get(f"/api/v1/namespaces/{namespace}/configmaps/{preflight.LAUNCHER}")
    if answer.status not in {200, 404}:
        return [hidden(namespace, answer)]
    try:
        store = preflight.store(answer.body if answer.status == 200 else None)
    except ValueError as error:
        message = f"the ConfigMap {preflight.LAUNCHER} cannot be used, and every step fails after its work: {error}"
        return [failure(namespace, message, _DOCUMENTED)]
    found = [*await _credentials(context, namespace, store, is_named=answer.status == 200)]
    return found + ([await _reach(namespace, store)] if store.endpoint else [])


async def _credentials(context: DoctorContext, namespace: str, store: Store, *, is_named: bool) -> list[Finding]:
    by = f"the ConfigMap {preflight.LAUNCHER}" if is_named else f"no ConfigMap {preflight.LAUNCHER}, so the usual"
    if not store.secret:
        told = f"artifacts go to {store.endpoint or f'{store.scheme}://'} with credentials of the pods ({by})"
        return [note(namespace, told)]
    answer = await context.api.get(f"/api/v1/namespaces/{namespace}/secrets/{quote(store.secret, safe='')}")
    if answer.status not in {200, 404}:
        return [hidden(namespace, answer)]
    lacking = [key for key in store.keys if key not in (answer.body.get("data") or {})]
    if answer.status == 404 or lacking:
        what = "does not exist" if answer.status == 404 else f"has no key {', '.join(lacking)}"
        message = f"the Secret {store.secret} for artifacts at {store.endpoint} {what} ({by}): every step fails after its work"
        return [failure(namespace, message, _DOCUMENTED)]
    return [ok(namespace, f"artifacts go to {store.endpoint} by the Secret {store.secret} ({by})")]


async def _reach(namespace: str, store: Store) -> Finding:
    """Whether the artifact store answers. Only checked from a pod, because names of Services do not resolve elsewhere."""
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        return note(namespace, f"whether {store.endpoint} answers can only be seen from the operator's pod")
    scheme, _, rest = store.endpoint.rpartition("://")
    host, _, port = rest.partition("/")[0].partition(":")
    number = int(port) if port.isdecimal() else _PORTS.get(scheme, 443)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, number), _SECONDS)
        writer.close()
    except (OSError, TimeoutError, ValueError, OverflowError) as error:  # also for an invalid host name or port number
        message = f"the artifact store {store.endpoint} cannot be reached from here: {error or 'no answer'}"
        hint = f"Check that it runs, and that {preflight.LAUNCHER} names it; every step would fail after its work. {_DOCUMENTED}"
        return warning(namespace, message, hint)
    return ok(namespace, f"the artifact store {store.endpoint} answers")


async def _account(context: DoctorContext, namespace: str, account: str) -> list[Finding]:
    answer = await context.api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}")
    if answer.status == 404:
        message = f"the ServiceAccount {account}, as which steps run whose tenant names none, does not exist"
        return [warning(namespace, message, "Name one: pipelineServiceAccount of the tenant.")]
    return [hidden(namespace, answer)] if answer.status != 200 else []


async def _quotas(context: DoctorContext, namespace: str) -> list[Finding]:
    answer = await context.api.get(f"/api/v1/namespaces/{namespace}/resourcequotas")
    if answer.status != 200:
        return [hidden(namespace, answer)]
    found = filter(None, (preflight.too_small(quota, _USUAL) for quota in items(answer)))
    return [
        warning(namespace, f"a step with the usual resources never fits: {why}", "See spec.resources.") for why in found
    ]
