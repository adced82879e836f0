"""The checks of ``pelagos doctor`` for a Kubeflow Pipelines server. Called through the descriptor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from pelagos.engines.diagnosis import DoctorContext, Finding, failure, fetch, first_line, ok, warning
from pelagos.engines.kubeflow import namespace_diagnosis
from pelagos.settings import Settings

MOST = 20
"""How many namespaces are checked."""


async def look(context: DoctorContext) -> Iterable[Finding]:
    """Check the server, whether it is multi-user, whether we may list runs, and the namespaces of the pods."""
    given = context.settings
    subject, url = "pipelines", given.kubeflow_url.rstrip("/")
    if not url:
        return [
            failure(subject, "PELAGOS_KUBEFLOW_URL is empty", "Set it, for example to http://ml-pipeline.kubeflow:8888")
        ]
    reply = await fetch(
        f"{url}/apis/v2beta1/healthz", ca=given.kubeflow_ca_file, headers=_token(given.kubeflow_token_file)
    )
    if reply.status != 200:
        hint = (
            "Correct PELAGOS_KUBEFLOW_URL, or the token (PELAGOS_KUBEFLOW_TOKEN_FILE; audience pipelines.kubeflow.org)."
        )
        return [failure(subject, f"{url} answers {reply.status}: {first_line(reply.text)}", hint)]
    findings = [ok(subject, f"Kubeflow Pipelines (v2beta1) at {url}")]
    many = '"multi_user":true' in reply.text.replace(" ", "")
    if many and given.kubeflow_namespace:
        message = f"the server is multi-user, and all runs go to namespace {given.kubeflow_namespace}"
        findings.append(
            warning(subject, message, "Leave PELAGOS_KUBEFLOW_NAMESPACE empty: then runs go to their tenants.")
        )
    if not many and not given.kubeflow_namespace:
        message = "the server is single-user, and PELAGOS_KUBEFLOW_NAMESPACE is empty"
        findings.append(warning(subject, message, "Set it to the namespace in which that server runs pipelines."))
    # Pods run where runs do: in the one namespace of a single-user server, else in those of the tenants.
    places = (given.kubeflow_namespace,) if given.kubeflow_namespace else context.tenants[:MOST] if many else ()
    account = "default-editor" if many else "pipeline-runner"
    looked = await asyncio.gather(*(namespace_diagnosis.look(context, place, account) for place in places))
    found = [finding for each in looked for finding in each]
    return [*findings, *await _runs(given, context.tenants if many else ()), *found]


async def _runs(given: Settings, tenants: tuple[str, ...]) -> list[Finding]:
    """Check that the operator may list runs: a healthy server can refuse that, a multi-user one per namespace."""
    places = (given.kubeflow_namespace,) if given.kubeflow_namespace and tenants else tenants[:MOST] or ("",)
    found = await asyncio.gather(*(_runs_in(given, place) for place in places))
    return [finding for finding in found if finding is not None] or [ok("pipelines", "the operator may list runs")]


async def _runs_in(given: Settings, namespace: str) -> Finding | None:
    query = f"page_size=1&namespace={namespace}" if namespace else "page_size=1"
    url = f"{given.kubeflow_url.rstrip('/')}/apis/v2beta1/runs?{query}"
    reply = await fetch(url, ca=given.kubeflow_ca_file, headers=_token(given.kubeflow_token_file))
    if reply.status == 200:
        return None
    where = f" in namespace {namespace}" if namespace else ""
    message = f"the operator may not list runs{where}: {reply.status} {first_line(reply.text)}"
    hint = f"Bind its account to the ClusterRole kubeflow-edit{where}, and check whether it sends a token (kubeflow.token)."
    return failure("pipelines", message, hint)


def _token(file: Path | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {file.read_text(encoding='utf-8').strip()}"} if file and file.exists() else {}
