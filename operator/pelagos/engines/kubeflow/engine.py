"""The Pipelines port on a cluster: a Kubeflow Pipelines server runs the compiled flows, each attempt as a separate run.

Chosen by wiring for the cluster mode. The server has neither unique names nor idempotency keys, so a run is looked up before it
is created and again afterwards: if several have the same name, the oldest counts and the others are ended. State that the port
must return later (attempt, retry key) is stored with the run, as annotations of its pods. Memory is only a cache: it saves
look-ups, and remembers which runs are being ended. See ``places`` for where runs live, ``ending`` for how they end, and
``placement`` for how they are built.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import yaml

from pelagos.api import kinds, reasons
from pelagos.api.meta import UID_LABEL
from pelagos.engines.kubeflow import placement, preflight, reading, tenancy
from pelagos.engines.kubeflow.ending import Endings, Timeouts
from pelagos.engines.kubeflow.kept_logs import Ended, KeptLogs
from pelagos.engines.kubeflow.placement import Count, Mount, PodDefaults
from pelagos.engines.kubeflow.places import Place, Places
from pelagos.engines.kubeflow.preflight import Preflight
from pelagos.engines.kubeflow.reading import Judgement
from pelagos.engines.kubeflow.rest import SYSTEM, AbsentError, KubeflowRest
from pelagos.engines.kubeflow.sight import Objects, Sight
from pelagos.engines.kubernetes.objects import KubernetesObjects
from pelagos.ports.clock import Clock, SystemClock
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.leadership import Guard, unguarded
from pelagos.ports.owned import Owned, uid_in
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunRequest, require_valid_name
from pelagos_contract.tags import RESOURCE_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pelagos.engines.kubeflow.step_secrets import StepSecrets
    from pelagos.engines.kubernetes.rest import KubernetesRest
    from pelagos.settings import Settings

logger = logging.getLogger(__name__)
_WITHOUT_LOOK = frozenset({"SUCCEEDED", "SKIPPED", "CANCELED", "CANCELING"})
"""States of the server that a look at the cluster would not explain further."""
_KINDS = frozenset(kind.singular for kind in kinds.KINDS)
Struct = dict[str, Any]


@dataclass(frozen=True)
class KubeflowConfig:
    """An installation: the folder of ``compiled`` flows, the defaults of all runs, and where they run.

    ``namespace`` is used for all runs on a single-user server; empty means each resource's own. ``namespace_of`` maps a
    resource's uid to its namespace, None when it is unknown. ``page`` is the server's address as browsers reach it.
    """

    compiled: Path
    pod_defaults: PodDefaults
    namespace: str = ""
    one_tenant: bool = False
    """Whether anyone who creates resources may use everything in ``namespace``, because only one namespace is watched."""
    page: str = ""
    namespace_of: Callable[[str], str | None] = field(default=lambda _uid: None)
    timeouts: Timeouts = field(default_factory=Timeouts)
    secrets: StepSecrets | None = None
    """Creates the Secrets with the steps' keys; None: reports are not sealed."""
    logs: KeptLogs | None = None
    """Keeps the last log lines of steps; None: they are lost with their pods."""
    preflight: Preflight | None = None
    """Checks a namespace before a run is created there; None: no check."""


class Kubeflow:
    """Implements Pipelines. One operator at a time should act on a server; a second one harms no run, but ends duplicates."""

    def __init__(
        self, rest: KubeflowRest, config: KubeflowConfig, *, objects: Objects | None = None, clock: Clock | None = None
    ) -> None:
        """``objects`` reads the pods and Workflows of runs; None: a run's state is only what the server reports."""
        self._rest = rest
        self._config = config
        self._clock = clock or SystemClock()
        self._sight = Sight(objects, self._clock, config.timeouts.look)
        self._places = Places(rest, config.namespace, config.namespace_of)
        self._endings = Endings(rest, config.timeouts)
        self._latest: dict[RunName, str] = {}
        self._listed: dict[RunName, float] = {}
        self._locks: WeakValueDictionary[RunName, asyncio.Lock] = WeakValueDictionary()

    async def find(self, name: RunName) -> PipelineRun | None:
        """The latest attempt of a run; None when the server has none.

        Costs one request by id, and a listing of all attempts every ``relist`` seconds.
        """
        if name in self._latest and monotonic() - self._listed.get(name, -inf) < self._config.timeouts.relist:
            # Reading by id is the cheapest request. Listing every so often finds what it would miss: a newer attempt made by
            # another operator, and an older one that somebody retried on the server's page.
            with suppress(AbsentError):
                return await self._note(name, await self._rest.get_run(self._latest[name]))
        attempts = await self._attempts(name, await self._places.of_run(name))
        if not attempts:
            self._forget(name)
            return None
        return await self._note(name, attempts[-1])

    async def find_owned(self, uid: str) -> tuple[PipelineRun, ...]:
        """The latest attempt of each run of a resource, finished ones too; reads the runs of one experiment."""
        place = await self._places.of_resource(uid)
        if place is None:
            return ()
        latest: dict[str, Struct] = {}
        try:
            async for run in self._rest.runs(experiment=place.experiment):
                name, _ = reading.identity(run) or ("", 0)
                known = latest.get(name)
                if name and (known is None or _newness(run) < _newness(known)):
                    latest[name] = run
        except AbsentError:  # somebody deleted the experiment, and a server lists no runs without one
            self._places.forget_experiment(place.experiment)
            return ()
        return tuple(self._read(run) for run in latest.values())

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """Runs with names of ours, for any resource, from the server's namespaces for ``namespaces``."""
        places = {await self._places.namespace(namespace) for namespace in namespaces or ("",)}
        found: dict[str, Owned] = {}
        for place in sorted(places):
            async for run in self._rest.runs(namespace=place):
                name, _ = reading.identity(run) or ("", 0)
                _, namespace, _ = reading.resource(run) or ("", "", "")
                uid = uid_in(name)
                if uid is not None:
                    self._places.remember(RunName(name), uid, namespace)
                    # A retried run is as young as its latest attempt, so that a run created just now is not an orphan.
                    times = (reading.silent_since(run), found[name].made_at if name in found else None)
                    found[name] = Owned(name, uid, namespace, max(filter(None, times), default=None))
        return tuple(found.values())

    async def answers(self) -> None:
        """Ask the server for its health; raises OutageError or RejectedError when it is not healthy."""
        await self._rest.is_healthy()

    async def submit(self, request: RunRequest) -> PipelineRun:
        """Make the attempt exist exactly once, and return it, or the existing attempt that takes its place.

        Raises RejectedError for a name, a flow or parameters that cannot be run.
        """
        require_valid_name(SYSTEM, request.name)
        if self._config.namespace not in {"", request.namespace} and not self._config.one_tenant:
            request = tenancy.in_common_namespace(request, self._config.pod_defaults, self._config.namespace)
        documents = await asyncio.to_thread(self._compiled, request)
        self._places.remember(request.name, request.labels.get(UID_LABEL, ""), request.namespace)
        # The order of these steps is what launches a run only once, on a server that accepts any number of runs of one name:
        # 1. One change per run at a time, so that two passes of this operator do not both find nothing.
        # 2. Look on the server, not in memory: an operator that died between request and answer may have launched it too.
        # 3. Create only an attempt that is newer than all existing ones. A running one is adopted, even with another attempt.
        # 4. Look again (_create): the oldest run of this attempt counts, for every operator, and the others are ended.
        async with self._locked(request.name):
            place = await self._places.for_new_run(request)
            attempts = await self._attempts(request.name, place)
            count = Count(request.attempt, 1)
            if attempts:
                latest, (before, key) = await self._note(request.name, attempts[-1]), reading.count(attempts[-1])
                if latest.state not in FINISHED or request.attempt <= before.attempt:
                    return latest
                if key == request.retry_key:
                    # Attempts are limited per retry key, and a new key from a person starts the count again. A preempted attempt
                    # is not counted, because it did not fail.
                    count = Count(request.attempt, before.with_key + (latest.reason != reasons.PREEMPTED))
                # A run that counts as finished here may not be over for the server: a silent run could come back and write
                # alongside the new one. Do not wait for its end: a server that lost the run's workflow never confirms it.
                await self._endings.end_quietly([run for run in attempts if not reading.is_over(run)])
            else:
                try:
                    await self._sight.require_none_at_work(
                        request.name, request.labels.get(UID_LABEL, ""), self._where(request)
                    )
                except RejectedError:
                    # Another operator may have launched the run after step 2: then the pods are of that run, which is listed now.
                    attempts = await self._attempts(request.name, place)
                    if not attempts:
                        raise
                    return await self._note(request.name, attempts[-1])
            return await self._create(request, documents, place, count)

    async def cancel(self, name: RunName) -> None:
        """End all attempts of a run and wait until they have ended. Raises UnfinishedError when that takes longer."""
        async with self._locked(name):
            attempts = await self._attempts(name, await self._places.of_run(name))
            await self._endings.end(attempts, self._is_finished)

    async def delete(self, name: RunName) -> None:
        """End and delete all attempts, and the experiment when it is empty then. Raises UnfinishedError, as ``cancel`` does."""
        async with self._locked(name):
            place = await self._places.of_run(name)
            attempts = await self._attempts(name, place)
            # End before deleting: once a run is deleted, nobody can tell whether its pods still run.
            await self._endings.end(attempts, self._is_finished)
            for run in attempts:
                await self._endings.delete(run["run_id"])
            if place is not None and place.experiment:
                await self._places.delete_if_empty(place, name)
        self._forget(name)

    async def close(self) -> None:
        """Stop background work and clear the caches; runs continue."""
        if self._config.logs is not None:
            await self._config.logs.close()
        self._latest.clear()
        self._places.forget_experiments()

    async def check(self) -> None:
        """Raise OutageError when the server, or our settings for it, cannot be used. For readiness and `pelagos doctor`."""
        await self._places.check()

    async def _create(
        self, request: RunRequest, documents: Sequence[Struct], place: Place, count: Count
    ) -> PipelineRun:
        key, where, account = "", self._where(request), request.tenant.pipeline_service_account
        if self._config.preflight is not None:
            placed = placement.place(documents, request, self._config.pod_defaults, count)
            await self._config.preflight.require(where, preflight.needs(placed, account))
        if self._config.secrets is not None:
            # Created before the run, because a pod waits for a Secret that it names.
            key = await self._config.secrets.provide(request.namespace, where)
        body = {
            "display_name": reading.display_name(request.name, request.attempt),
            "description": _describe(request),
            "experiment_id": place.experiment,
            "pipeline_spec": placement.place(documents, request, self._config.pod_defaults, count, key),
            "runtime_config": {"parameters": dict(request.parameters)},
        }
        if account:
            body["service_account"] = account
        try:
            created = await self._rest.create_run(body)
        except RejectedError as error:
            if not isinstance(error, AbsentError):
                raise _explained(error) from error
            # An outage, so that the next pass tries again, and looks the experiment up or creates it.
            self._places.forget_experiments()
            raise OutageError(
                SYSTEM, f"the experiment of run {request.name} was deleted in the meantime: {error}"
            ) from error
        # Another operator, or an earlier request of ours whose answer was lost, may have created the same attempt.
        attempts = await self._attempts(request.name, place)
        return await self._note(request.name, attempts[-1] if attempts else created)

    async def _attempts(self, name: RunName, place: Place | None) -> list[Struct]:
        """All attempts of a run, the latest last. Of duplicates within one attempt the oldest counts; the others are ended."""
        if place is None:
            return []
        by_attempt: dict[int, list[Struct]] = {}
        try:
            async for run in self._rest.runs(experiment=place.experiment, namespace=place.namespace, part=f"{name}-a"):
                identity = reading.identity(run)
                if identity is not None and identity[0] == name:
                    by_attempt.setdefault(identity[1], []).append(run)
        except AbsentError:
            self._places.forget_experiment(place.experiment)
            return []
        for attempt, runs in by_attempt.items():
            # Every operator sorts the same way, so two of them end the same duplicates, and never each other's choice.
            runs.sort(key=reading.age)
            duplicates = [run for run in runs[1:] if not reading.is_over(run)]
            if duplicates:
                logger.warning(
                    "Pipeline run %s, attempt %d, exists %d times; the oldest continues", name, attempt, len(runs)
                )
                await self._endings.end_quietly(duplicates)
        found = [by_attempt[attempt][0] for attempt in sorted(by_attempt)]
        self._listed[name] = monotonic()
        # Somebody can retry an old attempt on the server's page. It would write alongside the latest one.
        revived = [run for run in found[:-1] if not reading.is_over(run) and self._endings.is_due(run)]
        if revived:
            logger.warning("Of pipeline run %s, an attempt before the latest still runs; it is ended", name)
            await self._endings.end_quietly(revived)
        return found

    def _read(self, run: Struct) -> PipelineRun:
        timeouts, page = self._config.timeouts, (self._config.page or self._rest.url).rstrip("/")
        since = reading.silent_since(run)
        # Measure silence by our own clock from when we first saw it, because the server's clock may be adjusted.
        identifier = str(run.get("run_id", ""))
        now = since + self._clock.age((identifier, "silent"), since) if since is not None else self._clock.now()
        judgement = Judgement(now, page, self._endings.has_ended(run), timeouts.silence, timeouts.grace)
        judgement = replace(judgement, facts=self._sight.seen(identifier), loss=self._sight.lost(identifier))
        judgement = replace(judgement, suspicion=self._sight.suspected(identifier))
        return reading.read(run, judgement)

    def _is_finished(self, run: Struct) -> bool:
        return self._read(run).state in FINISHED

    async def _note(self, name: RunName, run: Struct) -> PipelineRun:
        identifier = self._latest[name] = run["run_id"]
        state = str(run.get("state", ""))
        if state not in _WITHOUT_LOOK:
            where = self._places.of_pods(name, reading.resource(run))
            await self._sight.look(identifier, where, state, list(reading.steps(run)), is_over=reading.is_over(run))
        found = self._read(run)
        if reading.is_over(run):
            self._keep_logs(found, run)
        return found

    def _keep_logs(self, found: PipelineRun, run: Struct) -> None:
        uid, (kind, told, resource) = uid_in(found.name) or "", reading.resource(run) or ("", "", "")
        namespace = self._config.namespace_of(uid)
        # Do not trust the namespace that the run states: anyone who can start runs could have lines written to any namespace.
        if self._config.logs is not None and namespace and told == namespace and kind in _KINDS:
            pods, whose = self._config.namespace or namespace, f"{kind}/{namespace}/{resource}"
            ended = Ended(found.name, found.attempt, run["run_id"], found.finished_at, pods, uid, namespace, whose)
            self._config.logs.note(ended)

    def _where(self, request: RunRequest) -> str:
        """The namespace that the run's pods are in."""
        return self._config.namespace or request.namespace

    def _forget(self, name: RunName) -> None:
        self._sight.forget(self._latest.pop(name, ""))
        self._listed.pop(name, None)
        self._places.forget_run(name)

    def _compiled(self, request: RunRequest) -> list[Struct]:
        path = self._config.compiled / request.compiled
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RejectedError(SYSTEM, f"there is no compiled flow {path}") from None
        return list(yaml.safe_load_all(text))

    def _locked(self, name: RunName) -> asyncio.Lock:
        """The lock for changes of one run; it is dropped when nobody holds or awaits it."""
        return self._locks.setdefault(name, asyncio.Lock())


def from_settings(
    settings: Settings,
    compiled: Path,
    namespace_of: Callable[[str], str | None] = lambda _uid: None,
    guard: Guard = unguarded,
    secrets: StepSecrets | None = None,
    cluster: KubernetesRest | None = None,
) -> Kubeflow:
    """The engine as configured by the settings; ``cluster`` is the API server that has its pods.

    Raises ValueError when PELAGOS_KUBEFLOW_URL is not set.
    """
    if not settings.kubeflow_url:
        raise ValueError(
            "PELAGOS_KUBEFLOW_URL must be the address of the Kubeflow Pipelines API when PELAGOS_PIPELINES_ENGINE is kubeflow"
        )
    rest = KubeflowRest(
        settings.kubeflow_url,
        token_file=settings.kubeflow_token_file,
        ca_file=settings.kubeflow_ca_file,
        guard=guard,
    )
    page = settings.kubeflow_public_url or settings.kubeflow_url
    objects = KubernetesObjects(cluster) if cluster is not None else None
    config = KubeflowConfig(
        compiled,
        pod_defaults(settings),
        settings.kubeflow_namespace,
        one_tenant=bool(settings.namespace),
        page=page,
        namespace_of=namespace_of,
        secrets=secrets,
        logs=KeptLogs(cluster, SystemClock()) if cluster is not None else None,
        preflight=Preflight(objects) if objects is not None else None,
    )
    return Kubeflow(rest, config, objects=objects)


def pod_defaults(settings: Settings) -> PodDefaults:
    """The settings that all runs share."""
    return PodDefaults(
        image=settings.trainer_image,
        image_pull_policy=settings.image_pull_policy,
        data=Mount("", "") if settings.data_uri else Mount(settings.data_claim, str(settings.data)),
        objects=Mount("", "") if settings.objects_uri else Mount(settings.objects_claim, str(settings.objects)),
        object_storage=bool(settings.objects_uri or settings.data_uri),
        s3_endpoint=settings.s3_endpoint,
        s3_region=settings.s3_region,
        objects_secret=settings.objects_secret,
        tracking_secret=settings.tracking_secret,
        ca_config_map=settings.ca_config_map,
        environment=tuple(settings.of_steps().items()),
        user=settings.pod_user,
        pods=settings.step_pods,
    )


def _describe(request: RunRequest) -> str:
    """The description of a run, for people; older servers keep 255 characters."""
    what = request.labels.get(RESOURCE_TAG, request.name)
    return f"{what}, attempt {request.attempt}, started by Pelagos"[:255]


def _explained(error: RejectedError) -> RejectedError:
    """The error with a hint, where one is known."""
    if "archived" not in str(error).lower():
        return error
    hint = "Restore it on the page of Kubeflow Pipelines (Experiments, Archived); the run is submitted then"
    return RejectedError(SYSTEM, f"the experiment of the resource is archived, and accepts no runs. {hint}: {error}")


def _newness(run: Struct) -> tuple[int, Any]:
    """Sort key: the highest attempt first, and among its runs the oldest."""
    _, attempt = reading.identity(run) or ("", 0)
    return -attempt, reading.age(run)
