"""``pelagos orphans``: lists processes and stored objects whose resource no longer exists, and removes them on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pelagos import engine_factory
from pelagos.api import kinds, meta, tenant_settings
from pelagos.cli import doctor, installed, outputs
from pelagos.cli.outputs import Output
from pelagos.embedded.failures import StartError
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.clock import SystemClock
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.reconcilers import orphans as finding
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.orphans import Living, Scope, State, Thing
from pelagos.reconcilers.probes import Probes
from pelagos.settings import Settings
from pelagos.wiring import own_namespace, rest_client

PAGE = 500
_STYLES = {State.ORPHANED: "yellow", State.RETAINED: "", State.USED: "green", State.YOUNG: "dim", State.UNKNOWN: "dim"}


def orphans(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only what belongs to this namespace.")] = "",
    output: outputs.Option = Output.TABLE,
    delete: Annotated[bool, typer.Option("--delete", help="Remove what is orphaned, after asking.")] = False,
    retained: Annotated[
        bool, typer.Option("--retained", help="With --delete: also what deletionPolicy Retain kept.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --delete: do not ask.")] = False,
    context: Annotated[str, typer.Option(help="Context of the kubeconfig.")] = "",
) -> None:
    """List pipeline runs, model servers, folders, tracked runs and registered versions that belong to no resource.

    An object is orphaned; retained: dataset versions, models and records, which stay after their resource unless its
    deletionPolicy was Delete; used: an existing resource names it; young: changed within the last hour. Settings are those
    of the environment (PELAGOS_...): on a cluster, run it in the operator's pod.

    Exit codes: 0, or 1 when something could not be checked or removed; then nothing, or nothing more, is removed.
    """
    settings = doctor.completed(installed.settings(), context)
    if settings.namespace and namespace not in {"", settings.namespace}:
        raise StartError(
            f"--namespace is {namespace}, but this operator works only in {settings.namespace} (PELAGOS_NAMESPACE): what "
            f"belongs to {namespace} cannot be determined here"
        )
    api = rest_client(doctor.credentials(settings, context))
    try:
        wish = Wish(namespace or settings.namespace or "", output, delete=delete, retained=retained, sure=yes)
        asyncio.run(_run(settings, api, wish))
    except (OutageError, RejectedError, ValueError) as error:
        raise StartError(f"{error}. Until everything can be checked, nothing is removed") from error


@dataclass(frozen=True)
class Wish:
    """The user's request; ``only``: the single namespace to consider, "" for all."""

    only: str = ""
    output: Output = Output.TABLE
    delete: bool = False
    retained: bool = False
    sure: bool = False


async def _run(settings: Settings, api: KubernetesRest, wish: Wish) -> None:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(api.close)
        dependencies = await _dependencies(settings, api, stack)

        async def living() -> Living:
            return await list_resources(api, settings.namespace or "")

        known = await _namespaces(api, await living(), settings)
        await manage(dependencies, Scope(wish.only, known), living, wish)


async def manage(dependencies: Dependencies, scope: Scope, living: Callable[[], Awaitable[Living]], wish: Wish) -> None:
    """Show the orphans, and remove those that the user wants removed."""
    found = await finding.find(dependencies, scope, living)
    if wish.output is not Output.TABLE:
        outputs.write([_document(thing) for thing in found], wish.output)
    else:
        installed.result_console().print(_table(found) if found else Text("Everything belongs to a resource."))
    chosen = finding.removable(found, retained=wish.retained)
    if not wish.delete or not chosen:
        return
    if not wish.sure and not typer.confirm(f"Remove {len(chosen)} of these for good?", err=True):
        raise typer.Exit(1)
    # Look again: resources may have changed while we waited for the user's answer.
    again = finding.removable(await finding.find(dependencies, scope, living), retained=wish.retained)
    still = {thing.key for thing in again}
    for thing in chosen:
        if thing.key in still:
            await finding.remove(thing, dependencies)
            installed.progress_console().print(f"removed {thing.what.value} {thing.owned.name}", soft_wrap=True)


async def list_resources(api: KubernetesRest, namespace: str) -> Living:
    """All resources of all our kinds, page by page. Raises OutageError unless every page could be read."""
    uids: set[str] = set()
    texts: dict[str, str] = {}
    for kind in kinds.KINDS:
        place = f"/namespaces/{namespace}" if namespace else ""
        path, token = f"/apis/{meta.API_VERSION}{place}/{kind.plural}?limit={PAGE}", ""
        while True:
            answer = await api.get(path + (f"&continue={token}" if token else ""))
            items = answer.body.get("items")
            if answer.status != 200 or not isinstance(items, list):
                raise OutageError("kubernetes", f"the list of all {kind.kind}s cannot be read: {answer.message}")
            for body in items:
                metadata = body["metadata"]
                uids.add(metadata["uid"])
                said = json.dumps([body.get("spec"), body.get("status"), metadata.get("annotations")])
                texts[f"{kind.kind}/{metadata['namespace']}/{metadata['name']}"] = said
            token = str((answer.body.get("metadata") or {}).get("continue") or "")
            if not token:
                break
    return Living(frozenset(uids), texts)


async def _namespaces(api: KubernetesRest, living: Living, settings: Settings) -> frozenset[str]:
    """The namespaces to search: those of resources, and tenants' namespaces that have no resources left."""
    if settings.namespace:
        return frozenset({settings.namespace})
    named = {name.split("/")[1] for name in living.texts}
    answer = await api.get(f"/api/v1/namespaces/{settings.lease_namespace or own_namespace()}/configmaps")
    listed = answer.body.get("items") if answer.status == 200 else None
    names = (str(item["metadata"]["name"]) for item in listed or ())
    return frozenset(
        named | {name.removeprefix(tenant_settings.PREFIX) for name in names if name.startswith(tenant_settings.PREFIX)}
    )


async def _dependencies(settings: Settings, api: KubernetesRest, stack: AsyncExitStack) -> Dependencies:
    engines, clock = engine_factory.choose(settings, api, lambda _uid: None), SystemClock()
    for close in engines.closing:
        stack.push_async_callback(close)
    engines.authority.require()
    return Dependencies(
        cluster=KubernetesApi(api),
        pipelines=engines.pipelines,
        tracking=engines.tracking,
        registry=engines.registry,
        serving=engines.serving,
        objects=engines.objects,
        volumes=engines.volumes,
        tenants=engines.tenants,
        authority=engines.authority,
        clock=clock,
        cache=Cache(),
        probes=Probes(engines.serving, clock, timedelta(seconds=settings.probe_interval)),
    )


def _document(thing: Thing) -> dict[str, Any]:
    made = thing.owned.made_at
    return {
        "what": thing.what.value,
        "name": thing.owned.name,
        "namespace": thing.owned.namespace,
        "uid": thing.owned.uid,
        "changedAt": made.strftime("%Y-%m-%dT%H:%M:%SZ") if made else None,
        "state": thing.state.value,
        "usedBy": thing.used_by or None,
    }


def _table(found: Sequence[Thing]) -> Table:
    table = Table("STATE", "WHAT", "NAMESPACE", "NAME", "AGE", box=None, pad_edge=False)
    for thing in found:
        state = Text(thing.state.value + (f" by {thing.used_by}" if thing.used_by else ""), _STYLES[thing.state])
        owned = thing.owned
        table.add_row(state, thing.what.value, owned.namespace or "?", Text(owned.name, overflow="fold"), _age(thing))
    return table


def _age(thing: Thing) -> str:
    if thing.owned.made_at is None:
        return "?"
    seconds = max((datetime.now(UTC) - thing.owned.made_at).total_seconds(), 0)
    return f"{seconds / 86400:.0f} d" if seconds >= 172800 else f"{seconds / 3600:.1f} h"
