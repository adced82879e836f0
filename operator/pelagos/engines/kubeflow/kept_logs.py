"""Keeps the last log lines of ended steps, for when their pods have been deleted. Called by the engine kubeflow.

They are stored in the ConfigMap ``pelagos-log-<uid>`` in the resource's namespace. The resource owns it, so it is deleted with
the resource; anyone who may read ConfigMaps there can read it with kubectl or the command line. Each resource has one, for the
latest attempt of its latest run, with two keys per step: ``<step>.log`` has the lines, ``<step>.json`` says which pod ended and
how. The pod's environment is never read. Nothing here delays or fails a pass.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from pelagos.api import kinds, meta, reasons
from pelagos.api.kinds import Kind
from pelagos.engines.kubeflow import facts, steps
from pelagos.engines.kubeflow.facts import RUN_LABEL
from pelagos.engines.kubeflow.placement import ATTEMPT_ANNOTATION, RUN_ANNOTATION
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.engines.kubernetes.objects import Collection, KubernetesObjects
from pelagos.engines.kubernetes.rest import SYSTEM, KubernetesRest
from pelagos.observability import metrics
from pelagos.ports.clock import Clock
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import OutageError, RejectedError, TooLargeError
from pelagos_contract.tags import RESOURCE_TAG
from pelagos_contract.text import shown, shown_output

logger = logging.getLogger(__name__)

CONFIG_MAPS = Collection("v1", "ConfigMap", "configmaps")
PODS = Collection("v1", "Pod", "pods")
_MANAGED_BY = "app.kubernetes.io/managed-by"
LINES = 200
BYTES = 64 * 1024
"""Bounds on the last lines that are kept per step."""
_READ = 16 * BYTES
"""Bytes to read at most. More than is kept, because the API server cuts off the end, which matters most."""
_FEWER = 10
"""Number of lines to read instead when LINES exceeded _READ bytes."""
_PODS = 100
"""How many pods of a run are read. Bounded, because anyone who may create pods can label them as of the run."""
_STEPS = 8
"""How many steps' lines are kept per run, so that they stay below the size limit of a ConfigMap."""
_AGE = timedelta(days=1)
"""How long after a run's end its logs are tried; later its pods are deleted, or their logs were read."""
_AGAIN = timedelta(minutes=1)
_AT_ONCE = 2
"""How many runs are read concurrently."""
_REMEMBERED = 5000
_TOO_LARGE = re.compile(r"too (long|large)|larger than", re.IGNORECASE)
_STEP = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LONGEST = 200
Body = Mapping[str, Any]


def name_of(uid: str) -> str:
    """The name of the ConfigMap with a resource's kept lines."""
    return f"pelagos-log-{uid}"


@dataclass(frozen=True)
class Ended:
    """A run that is over. ``server_id`` is its id on the server, ``pods`` the namespace of its pods.

    ``resource`` is ``<kind>/<namespace>/<name>``, as the run states it; ``uid`` and ``namespace`` of the resource are verified.
    """

    run: str
    attempt: int
    server_id: str
    finished_at: datetime | None
    pods: str
    uid: str
    namespace: str
    resource: str


@dataclass(frozen=True)
class Kept:
    """The last lines of a step. ``pod`` and ``uid`` identify its pod; ``exit_code`` is None when the cluster does not say."""

    step: str
    text: str
    pod: str
    uid: str
    exit_code: int | None
    reason: str
    finished_at: str


def parse(body: Body, run: str) -> tuple[int, list[Kept]]:
    """Attempt and kept lines of ``run`` from the ConfigMap; (0, []) when it is about another run, or its notes are unreadable."""
    notes, data = body["metadata"].get("annotations") or {}, body.get("data") or {}
    told = str(notes.get(ATTEMPT_ANNOTATION, ""))
    if notes.get(RUN_ANNOTATION) != run or not told.isdecimal():
        return 0, []
    found = []
    for key, text in data.items():
        step = key.removesuffix(".log")
        if step == key:
            continue
        try:
            about = json.loads(data[f"{step}.json"])
            code, fields = about["exitCode"], [str(about[name]) for name in ("pod", "uid", "reason", "finishedAt")]
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        pod, uid, reason, finished_at = fields
        found.append(Kept(step, str(text), pod, uid, code if isinstance(code, int) else None, reason, finished_at))
    return int(told[:9]), sorted(found, key=lambda kept: kept.finished_at)


def render(ended: Ended, kept: Iterable[Kept]) -> dict[str, Any]:
    """The ConfigMap for a run's kept lines, of the last _STEPS steps at most."""
    owner = {
        "apiVersion": meta.API_VERSION,
        "kind": _kind(ended).kind,
        "name": ended.resource.rpartition("/")[2],
        "uid": ended.uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }
    data: dict[str, str] = {}
    for each in list(kept)[-_STEPS:]:
        about = asdict(each)
        about |= {"exitCode": about.pop("exit_code"), "finishedAt": about.pop("finished_at")}
        text = about.pop("text")
        data |= {f"{each.step}.log": text, f"{each.step}.json": json.dumps(about, sort_keys=True)}
    return {
        "apiVersion": CONFIG_MAPS.api_version,
        "kind": CONFIG_MAPS.kind,
        "metadata": {
            "name": name_of(ended.uid),
            "namespace": ended.namespace,
            "labels": {
                "app.kubernetes.io/name": "pelagos-log",
                _MANAGED_BY: meta.FIELD_MANAGER,
                "app.kubernetes.io/part-of": "pelagos",
                meta.UID_LABEL: ended.uid,
            },
            "annotations": {
                RUN_ANNOTATION: ended.run,
                ATTEMPT_ANNOTATION: str(ended.attempt),
                RESOURCE_TAG: ended.resource,
            },
            "ownerReferences": [owner],
        },
        "data": data,
    }


def last_lines(log: bytes) -> str:
    """The last LINES lines and BYTES bytes of a log, safe to display; a cut is moved to the start of a line."""
    text = "\n".join(shown_output(log.decode("utf-8", errors="backslashreplace")).rstrip("\n").split("\n")[-LINES:])
    data = text.encode()
    if len(data) <= BYTES:
        return text
    cut = data[-BYTES:].decode(errors="ignore")
    return cut.partition("\n")[2] or cut


class NotOursError(RejectedError):
    """A ConfigMap of the name exists that is not ours."""


class KeptLogs:
    """Keeps log lines through ``rest``, in background tasks, so that no pass waits for them."""

    def __init__(self, rest: KubernetesRest, clock: Clock) -> None:
        self._rest = rest
        self._objects = KubernetesObjects(rest)
        self._clock = clock
        self._noted: dict[str, datetime | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)

    def note(self, ended: Ended) -> None:
        """Start keeping the lines of a finished run, unless that is done or was tried within a minute. Never blocks or raises."""
        now = self._clock.now()
        again = self._noted.get(ended.server_id, now)
        is_old = ended.finished_at is not None and now - ended.finished_at > _AGE
        if again is None or again > now or is_old:
            return
        while len(self._noted) >= _REMEMBERED:
            del self._noted[next(iter(self._noted))]
        # Set before the task starts, so that the next passes do not start it again while it runs.
        self._noted[ended.server_id] = now + _AGAIN
        task = asyncio.create_task(self._try(ended))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel the tasks in progress, and wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _try(self, ended: Ended) -> None:
        try:
            async with self._room:
                await self.keep(ended)
            self._noted[ended.server_id] = None
        except OutageError as error:
            logger.info("The last lines of pipeline run %s will be kept later: %s", ended.run, error)
        except RejectedError as error:
            # Do not retry: it would be refused again in a minute, and the run itself does not suffer.
            self._noted[ended.server_id] = None
            logger.warning("The last lines of pipeline run %s cannot be kept: %s", ended.run, error)
            await self._tell(ended, _cause(error), str(error))
        except Exception as error:
            self._noted[ended.server_id] = None
            logger.exception("The last lines of pipeline run %s were not kept", ended.run)
            await self._tell(ended, "failed", f"{type(error).__name__}, see the operator's log")

    async def _tell(self, ended: Ended, cause: str, why: str) -> None:
        metrics.LINES_LOST.labels(cause).inc()
        message = f"the last lines of the steps of run {ended.run}, attempt {ended.attempt}, are not kept: {why}"
        with suppress(OutageError, RejectedError):
            await KubernetesApi(self._rest).post_event(
                _resource(ended), severity="Warning", reason=reasons.LINES_NOT_KEPT, message=message
            )

    async def keep(self, ended: Ended) -> None:
        """Read and store the log ends of ended pods that are not kept yet. Raises OutageError and RejectedError."""
        there = await self._objects.get(CONFIG_MAPS, ended.namespace, name_of(ended.uid))
        if there is not None and not _is_ours(there, ended.uid):
            where = f"{ended.namespace}/{name_of(ended.uid)}"
            raise NotOursError(
                SYSTEM, f"the ConfigMap {where} does not belong to Pelagos, and is left as it is; delete it"
            )
        attempt, kept = parse(there, ended.run) if there is not None else (0, [])
        if attempt > ended.attempt:
            return
        known = {each.step: each for each in kept} if attempt == ended.attempt else {}
        pods = await self._objects.list(PODS, ended.pods, {RUN_LABEL: ended.server_id}, most=_PODS)
        fresh = [pod for pod in steps.of_run(pods, ended.run) if steps.has_ended(pod, steps.CONTAINER)]
        added = False
        for pod in sorted(fresh, key=lambda pod: str(pod["metadata"].get("creationTimestamp"))):
            step, uid = facts.step_of(pod), str(pod["metadata"]["uid"])
            if not _STEP.fullmatch(step) or (step in known and known[step].uid == uid):
                continue
            log = await self._log(pod)
            if log is not None:
                known[step], added = _kept(pod, step, last_lines(log)), True
        if added:
            await self._objects.apply(CONFIG_MAPS, render(ended, known.values()))

    async def _log(self, pod: Body) -> bytes | None:
        metadata = pod["metadata"]
        path = f"{PODS.path(metadata['namespace'], metadata['name'])}/log"
        found = None
        for number in (LINES, _FEWER):
            query = urlencode({"container": steps.CONTAINER, "tailLines": number, "limitBytes": _READ})
            found = await self._rest.read(f"{path}?{query}", most=_READ)
            if found is None or len(found) < _READ:
                break
        return found


def _cause(error: RejectedError) -> str:
    if isinstance(error, NotOursError):
        return "not-ours"
    is_large = isinstance(error, TooLargeError) or _TOO_LARGE.search(str(error))
    return "too-large" if is_large else "refused"


def _resource(ended: Ended) -> Resource:
    """The resource that the run belongs to, as an event needs it."""
    kind, name = _kind(ended), ended.resource.rpartition("/")[2]
    return Resource(kind, ended.namespace, name, ended.uid, generation=0, version="", deleting=False)


def _kind(ended: Ended) -> Kind:
    return next(each for each in kinds.KINDS if each.singular == ended.resource.partition("/")[0])


def _is_ours(body: Body, uid: str) -> bool:
    labels = body["metadata"].get("labels") or {}
    return (labels.get(_MANAGED_BY), labels.get(meta.UID_LABEL)) == (meta.FIELD_MANAGER, uid)


def _kept(pod: Body, step: str, text: str) -> Kept:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    state = next((each.get("state") or {} for each in statuses if each.get("name") == steps.CONTAINER), {})
    end = state.get("terminated") or {}
    code = end.get("exitCode")
    told = {name: shown(str(end.get(name) or ""))[:_LONGEST] for name in ("reason", "finishedAt")}
    return Kept(
        step=step,
        text=text,
        pod=str(pod["metadata"]["name"]),
        uid=str(pod["metadata"]["uid"]),
        exit_code=code if isinstance(code, int) else None,
        reason=told["reason"],
        finished_at=told["finishedAt"],
    )
