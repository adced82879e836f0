"""The functions that kopf calls: at login, start and stop, and for every event of every kind."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import kopf
from typing_extensions import override

from pelagos import wiring
from pelagos.api import kinds, meta
from pelagos.handlers import listening, watched
from pelagos.ports.cluster import from_body, identity
from pelagos.settings import Settings

logger = logging.getLogger("pelagos.handlers")


@kopf.on.login()
async def login(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> kopf.AiohttpSession | None:
    """Log in as a pod, else with the kubeconfig."""
    found = _log_in(settings)
    # Kept across sessions: kopf logs in again when a token expires, perhaps between two pages of a list.
    pages = memo.setdefault("pages", listening.Pages(lambda: memo.operator.loop))
    return listening.session(found, pages) if found else None


def _log_in(settings: kopf.OperatorSettings) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Configure kopf for watching only, and start reconciling. ``memo.start`` builds the operator from credentials."""
    watch_only(settings, memo.get("watch_selector", ""))
    memo.operator = await memo.start(_credentials(settings))
    try:
        await memo.operator.begin()
    except asyncio.CancelledError:  # Stopped while it waits for our kinds: kopf does not call ``stop`` then.
        await memo.operator.stop()
        raise
    memo.following = asyncio.create_task(watched.follow(memo.operator, memo.insights), name="watched kinds")
    memo.following.add_done_callback(_tell_fault)


def _tell_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        logger.error(
            "watches no longer follow the kinds that are served: restart the operator", exc_info=task.exception()
        )


def watch_only(settings: kopf.OperatorSettings, selector: str = "") -> None:
    """Configure kopf for the part that we use: watches that never stay silent or end for good, and nothing that writes."""
    if selector:
        settings.watching.label_selectors[meta.GROUP, kopf.EVERYTHING] = selector
    # The driver posts events itself, about transitions of Ready; kopf would add others.
    settings.posting.enabled = False
    settings.networking.request_timeout = 30
    settings.networking.enforce_retry_after = True
    # A watch can fall silent without an error, so it is ended every five minutes: by the server or, if that does not, by us
    # half a minute later.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    # kopf keeps a task and a queue for each object with recent events, and the first list has thousands: release them soon.
    settings.queueing.idle_timeout = 1
    # ``watched`` decides which kinds are watched; kopf would need permission to list all CRDs and namespaces.
    settings.scanning.disabled = True
    # Longer than stopping takes (loop.GRACE and releasing the Lease), shorter than the pod's terminationGracePeriodSeconds.
    settings.process.ultimate_exiting_timeout = 20
    # Not our own finalizer: kopf removes the one named here from every object for which none of its handlers needs it.
    settings.persistence.finalizer = f"{meta.GROUP}/kopf"
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Stop reconciling. Pipelines and model servers keep running."""
    memo.following.cancel()
    await memo.operator.stop()


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps kopf from copying every object at every event to find what changed: passes look at the present state instead."""

    @override
    def build(self, **_: Any) -> kopf.BodyEssence:
        """Returns an empty essence: there is nothing to compare."""
        return kopf.BodyEssence({})

    @override
    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Returns None: no earlier essence is stored."""
        return None

    @override
    def store(self, **_: Any) -> None:
        """Writes nothing to the object."""


class _NoProgress(kopf.StatusProgressStorage):
    """Keeps kopf from removing its own annotations from the essence, which has none."""

    @override
    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Returns the essence unchanged."""
        return essence


def _watch(kind: kinds.Kind) -> None:
    def is_news(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> bool:
        """Whether kopf should call ``seen``. Most events are about our own writes, which the cache knows from the replies."""
        if event["type"] == "DELETED":
            # Whether this deletion is news depends on the uid, not on the version: see Cache.remove.
            return True
        return kind.kind in memo.operator.working and memo.operator.loop.is_news(*identity(kind, event["object"]))

    @kopf.on.event(meta.GROUP, meta.VERSION, kind.plural, when=is_news)
    async def seen(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
        resource = from_body(kind, event["object"])
        if event["type"] == "DELETED":
            memo.operator.loop.gone(resource.key, resource.uid)
        else:
            memo.operator.loop.seen(resource)


for _kind in kinds.KINDS:
    _watch(_kind)


def _credentials(settings: kopf.OperatorSettings) -> wiring.Credentials:
    found = _log_in(settings)
    if found is None:
        raise kopf.PermanentError("neither a service account nor a kubeconfig says how to reach the API server")
    file = wiring.SERVICE_ACCOUNT / "token"
    return wiring.Credentials(
        server=found.server,
        token=found.token,
        ca_path=_text(found.ca_path),
        ca_data=_text(found.ca_data),
        certificate_path=_text(found.certificate_path),
        private_key_path=_text(found.private_key_path),
        insecure=bool(found.insecure),
        # The file in which a pod's token is renewed. Only if kopf's token came from it: another one must not be replaced.
        token_file=file if file.exists() and file.read_text(encoding="utf-8").strip() == found.token else None,
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return os.fsdecode(value)


Start = Callable[[wiring.Credentials], Awaitable[wiring.Operator]]


def prepared(settings: Settings, begin: Start) -> dict[str, Any]:
    """The keyword arguments for ``kopf.run``. ``begin`` builds the operator from the credentials that kopf finds."""
    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)
    insights = watched.Insights()
    memo = kopf.Memo(start=begin, insights=insights, watch_selector=settings.watch_selector)
    scope = {"namespaces": [settings.namespace]} if settings.namespace else {"clusterwide": True}
    return {"standalone": True, "memo": memo, "insights": insights, **scope}
