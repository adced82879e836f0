"""The port Pipelines on a cluster: compiled flows run by a Kubeflow Pipelines server, each attempt a run of its own there.

Chosen by wiring for the cluster mode. The server knows neither unique names nor an idempotency key, so a run is looked up
before it is created and once more after it: of several with one name the oldest counts, the others are ended. All runs of a
resource are in one experiment, ``pelagos.<uid>``, so that no look-up reads more than that resource's runs. What the port must
give back later (attempt, retry key) is kept with the run, as annotations of its pods. Nothing in memory is needed: it saves
look-ups, and remembers which runs were being ended.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import yaml

from pelagos.api.meta import UID_LABEL
from pelagos.engines.kubeflow import placement, reading, tenancy
from pelagos.engines.kubeflow.placement import Count, Mount, PodDefaults
from pelagos.engines.kubeflow.reading import Judgement
from pelagos.engines.kubeflow.rest import SYSTEM, AbsentError, BrokenError, ExistsError, KubeflowRest
from pelagos.ports.clock import Clock, SystemClock
from pelagos.ports.errors import OutageError, RejectedError, UnfinishedError
from pelagos.ports.leadership import Guard, NotLeadingError, unguarded
from pelagos.ports.owned import Owned, uid_in
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from pelagos.engines.kubeflow.step_secrets import StepSecrets
    from pelagos.settings import Settings

logger = logging.getLogger(__name__)
Struct = dict[str, Any]

_UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_NOBODY = "unowned"


@dataclass(frozen=True)
class Timeouts:
    """How long the engine waits for what the server does later, in seconds, and how often it looks."""

    end: float = 1.0
    """For runs to end after they were asked to; then the caller is told to come again, and can do something else meanwhile."""
    unconfirmed: float = 300.0
    """For a server that never confirms an end, because the run's workflow is gone; then the run counts as canceled."""
    poll: float = 0.25
    silence: timedelta = reading.SILENCE
    grace: timedelta = reading.SILENCE_GRACE


@dataclass(frozen=True)
class KubeflowConfig:
    """An installation: the ``compiled`` flows, what their runs have in common, and where they are.

    ``namespace`` is that of all runs, for a server of a single user; empty: each resource's own. ``namespace_of`` tells the
    namespace of a resource by its uid, None when it is not known. ``page`` is the server's address in people's browsers.
    """

    compiled: Path
    pod_defaults: PodDefaults
    namespace: str = ""
    one_tenant: bool = False
    """Whether whoever makes resources may use all that is in ``namespace``: only one namespace is watched."""
    page: str = ""
    namespace_of: Callable[[str], str | None] = field(default=lambda _uid: None)
    timeouts: Timeouts = Timeouts()
    secrets: StepSecrets | None = None
    """Makes the Secrets with the keys of steps; None: reports are not sealed."""


@dataclass(frozen=True)
class _Place:
    """Where a run is looked for: an experiment, or a whole namespace when its owner is not known."""

    namespace: str
    experiment: str


class Kubeflow:
    """Implements Pipelines. One operator at a time may act on a server; a second one does harm to no run, but ends duplicates."""

    def __init__(self, rest: KubeflowRest, config: KubeflowConfig, *, clock: Clock | None = None) -> None:
        self._rest = rest
        self._config = config
        self._clock = clock or SystemClock()
        self._multi_user: bool | None = None
        self._latest: dict[RunName, str] = {}
        self._owners: dict[RunName, tuple[str, str]] = {}
        self._experiments: dict[str, str] = {}
        self._ending: dict[str, float] = {}
        self._accepted: set[str] = set()
        self._given_up: set[str] = set()
        self._locks: dict[RunName, _Lock] = {}

    async def find(self, name: RunName) -> PipelineRun | None:
        """As in the port."""
        run = await self._again(name)
        if run is None:
            run = await self._find_latest(name)
        if run is None:
            self._forget(name)
            return None
        self._latest[name] = run["run_id"]
        return self._read(run)

    async def find_owned(self, uid: str) -> tuple[PipelineRun, ...]:
        """As in the port; reads the runs of one experiment."""
        namespaces = {namespace for owner, namespace in self._owners.values() if owner == uid}
        namespace = await self._namespace(self._config.namespace_of(uid) or next(iter(namespaces), ""))
        experiment = await self._experiment(namespace, uid)
        if experiment is None:
            return ()
        latest: dict[str, Struct] = {}
        try:
            async for run in self._rest.runs(experiment=experiment):
                name, _ = reading.identity(run) or ("", 0)
                known = latest.get(name)
                if name and (known is None or _newness(run) < _newness(known)):
                    latest[name] = run
        except AbsentError:  # somebody deleted the experiment, and a server shows no runs without one
            self._experiments.pop(uid, None)
            return ()
        return tuple(self._read(run) for run in latest.values())

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """As in the port: runs with names of ours, in the namespaces that the server has them in."""
        places = {await self._namespace(namespace) for namespace in namespaces} or {await self._namespace("")}
        found: dict[str, Owned] = {}
        for place in sorted(places):
            async for run in self._rest.runs(namespace=place):
                name, _ = reading.identity(run) or ("", 0)
                uid, namespace = uid_in(name), _namespace_in(str(run.get("description", "")))
                if uid is not None:
                    self._owners[RunName(name)] = (uid, namespace)
                    latest = max(filter(None, (reading.silent_since(run), _made(found, name))), default=None)
                    found[name] = Owned(name, uid, namespace, latest)
        return tuple(found.values())

    async def answers(self) -> None:
        """Ask the server whether it is well; raises OutageError or RejectedError when it is not."""
        await self._rest.is_healthy()

    async def submit(self, request: RunRequest) -> PipelineRun:
        """As in the port. Raises RejectedError for a name, a flow or parameters that cannot be run."""
        if not _NAME.fullmatch(request.name):
            message = f"run name {request.name!r} must be 1 to 200 letters, digits, '.', '_' or '-', the first a letter or digit"
            raise RejectedError(SYSTEM, message)
        if self._config.namespace not in {"", request.namespace} and not self._config.one_tenant:
            request = tenancy.in_common_namespace(request, self._config.pod_defaults, self._config.namespace)
        documents = await asyncio.to_thread(self._compiled, request)
        uid = request.labels.get(UID_LABEL) or _NOBODY
        self._owners[request.name] = (uid, request.namespace)
        async with self._locked(request.name):
            place = await self._place_to_create(request, uid)
            attempts = await self._attempts(request.name, place)
            count = Count(request.attempt, 1)
            if attempts:
                latest, (before, key) = self._read(attempts[-1]), reading.count(attempts[-1])
                if latest.state not in FINISHED or request.attempt <= before.attempt:
                    return self._note(request.name, attempts[-1])
                if key == request.retry_key:
                    count = Count(request.attempt, before.with_key + 1)
                await self._end_quietly([run for run in attempts if not reading.is_over(run)])
            return await self._create(request, documents, place, count)

    async def cancel(self, name: RunName) -> None:
        """As in the port; returns when the run has ended. Raises UnfinishedError when that takes longer."""
        async with self._locked(name):
            await self._end(await self._attempts(name, await self._place(name)))

    async def delete(self, name: RunName) -> None:
        """As in the port: all attempts, and the experiment when nothing else is in it."""
        async with self._locked(name):
            place = await self._place(name)
            attempts = await self._attempts(name, place)
            await self._end(attempts)
            for run in attempts:
                await self._delete(run["run_id"])
            if place is not None and place.experiment:
                await self._delete_if_empty(place, name)
        self._forget(name)

    async def close(self) -> None:
        """Forget what is in memory; runs go on."""
        self._latest.clear()
        self._experiments.clear()

    async def check(self) -> None:
        """Raises OutageError when the server cannot be used, or not as it is set up. For readiness, and `pelagos doctor`."""
        self._multi_user = bool((await self._rest.is_healthy()).get("multi_user", False))
        if not self._multi_user and not self._config.namespace:
            message = (
                f"the server {self._rest.url} has a single user and runs all pipelines in its own namespace; "
                "set PELAGOS_KUBEFLOW_NAMESPACE to that namespace"
            )
            raise OutageError(SYSTEM, message)

    async def _create(
        self, request: RunRequest, documents: Sequence[Struct], place: _Place, count: Count
    ) -> PipelineRun:
        key = ""
        if self._config.secrets is not None:
            key = await self._config.secrets.provide(request.namespace, self._config.namespace or request.namespace)
        body = {
            "display_name": reading.display_name(request.name, request.attempt),
            "description": _describe(request),
            "experiment_id": place.experiment,
            "pipeline_spec": placement.place(documents, request, self._config.pod_defaults, count, key),
            "runtime_config": {"parameters": dict(request.parameters)},
        }
        if request.tenant.pipeline_service_account:
            body["service_account"] = request.tenant.pipeline_service_account
        try:
            created = await self._rest.create_run(body)
        except AbsentError as error:
            self._experiments.clear()
            raise OutageError(SYSTEM, f"the experiment of run {request.name} was deleted meanwhile: {error}") from error
        # Another operator, or a request of ours whose answer was lost, may have created it too, an instant ago.
        attempts = await self._attempts(request.name, place)
        return self._note(request.name, attempts[-1] if attempts else created)

    async def _again(self, name: RunName) -> Struct | None:
        """The run by its id, when that is known: the cheapest look there is."""
        identifier = self._latest.get(name)
        if identifier is None:
            return None
        try:
            return await self._rest.get_run(identifier)
        except AbsentError:
            return None

    async def _find_latest(self, name: RunName) -> Struct | None:
        attempts = await self._attempts(name, await self._place(name))
        return attempts[-1] if attempts else None

    async def _attempts(self, name: RunName, place: _Place | None) -> list[Struct]:
        """All attempts of a run, the latest last. Of several runs with one name the oldest counts; the others are ended."""
        if place is None:
            return []
        by_attempt: dict[int, list[Struct]] = {}
        try:
            async for run in self._rest.runs(experiment=place.experiment, namespace=place.namespace, part=f"{name}-a"):
                identity = reading.identity(run)
                if identity is not None and identity[0] == name:
                    by_attempt.setdefault(identity[1], []).append(run)
        except AbsentError:
            self._experiments = {
                owner: known for owner, known in self._experiments.items() if known != place.experiment
            }
            return []
        for attempt, runs in by_attempt.items():
            runs.sort(key=reading.age)
            duplicates = [run for run in runs[1:] if not reading.is_over(run)]
            if duplicates:
                logger.warning(
                    "Pipeline run %s, attempt %d, exists %d times; the oldest goes on", name, attempt, len(runs)
                )
                await self._end_quietly(duplicates)
        return [by_attempt[attempt][0] for attempt in sorted(by_attempt)]

    async def _end(self, runs: Sequence[Struct]) -> None:
        """End what the server says is going on, and wait for it."""
        alive = [run for run in runs if not reading.is_over(run) and run["run_id"] not in self._given_up]
        for run in alive:
            await self._terminate(run)
        deadline = monotonic() + self._config.timeouts.end
        for run in alive:
            if self._read(run).state not in FINISHED:  # one that is silent never answers
                await self._wait_for_end(run["run_id"], deadline)
            else:
                self._given_up.add(run["run_id"])

    async def _end_quietly(self, runs: Sequence[Struct]) -> None:
        """End runs that nobody waits for; what the server cannot end is left."""
        for run in runs:
            try:
                await self._terminate(run)
            except NotLeadingError:  # only looking; who leads ends them
                return
            except (OutageError, RejectedError) as error:
                logger.warning("Pipeline run %s could not be ended: %s", run.get("display_name"), error)

    async def _terminate(self, run: Struct) -> None:
        identifier = run["run_id"]
        self._ending.setdefault(identifier, monotonic())
        if reading.is_being_ended(run):
            return
        try:
            await self._rest.terminate_run(identifier)
        except AbsentError:
            return
        except BrokenError as error:
            # So it answers too when the run's workflow is gone; whether the run ends is seen by looking.
            logger.warning("Pipeline run %s could not be ended at once: %s", run.get("display_name"), error)
        except RejectedError:
            now = await self._get(identifier)
            if now is not None and not reading.is_over(now) and not reading.is_being_ended(now):
                raise
        else:
            self._accepted.add(identifier)

    async def _wait_for_end(self, identifier: str, deadline: float) -> None:
        while True:
            run = await self._get(identifier)
            if run is None or reading.is_over(run):
                return
            if monotonic() - self._ending[identifier] > self._config.timeouts.unconfirmed:
                self._given_up.add(identifier)
                return
            if monotonic() > deadline:
                raise UnfinishedError(
                    SYSTEM, f"run {run.get('display_name')} is being ended; it is looked at again later"
                )
            await asyncio.sleep(self._config.timeouts.poll)

    async def _delete(self, identifier: str) -> None:
        with suppress(AbsentError):
            await self._rest.delete_run(identifier)
        if await self._get(identifier) is not None:
            raise OutageError(
                SYSTEM, f"the server said that run {identifier} is deleted, and still has it; asked again later"
            )
        self._ending.pop(identifier, None)
        self._accepted.discard(identifier)
        self._given_up.discard(identifier)

    async def _delete_if_empty(self, place: _Place, name: RunName) -> None:
        with suppress(AbsentError):
            async for _ in self._rest.runs(experiment=place.experiment):
                return
            await self._rest.delete_experiment(place.experiment)
            self._experiments.pop(self._owner(name)[0], None)

    async def _get(self, identifier: str) -> Struct | None:
        try:
            return await self._rest.get_run(identifier)
        except AbsentError:
            return None

    async def _place(self, name: RunName) -> _Place | None:
        """Where the run would be; None when it cannot exist."""
        uid, namespace = self._owner(name)
        namespace = self._config.namespace_of(uid) or namespace
        if not uid:
            return _Place(await self._namespace(namespace), "") if self._config.namespace else None
        if not namespace and not self._config.namespace:
            return None
        namespace = await self._namespace(namespace)
        experiment = await self._experiment(namespace, uid)
        return _Place(namespace, experiment) if experiment else None

    async def _place_to_create(self, request: RunRequest, uid: str) -> _Place:
        namespace = await self._namespace(request.namespace)
        experiment = await self._experiment(namespace, uid)
        if experiment is None:
            about = request.labels.get("pelagos.dev/resource", "runs of Pelagos")
            with suppress(ExistsError):
                created = await self._rest.create_experiment(namespace, _experiment_name(uid), about)
                self._experiments[uid] = created["experiment_id"]
            experiment = await self._experiment(namespace, uid)
        if experiment is None:
            raise OutageError(SYSTEM, f"experiment {_experiment_name(uid)} exists and cannot be found")
        return _Place(namespace, experiment)

    async def _experiment(self, namespace: str, uid: str) -> str | None:
        """Id of the experiment of a resource's runs; None when there is none."""
        if uid not in self._experiments:
            async for experiment in self._rest.experiments(namespace, _experiment_name(uid)):
                if experiment.get("display_name") == _experiment_name(uid):
                    self._experiments[uid] = experiment["experiment_id"]
                    break
        return self._experiments.get(uid)

    async def _namespace(self, resources: str) -> str:
        """The namespace to name to the server; a server of a single user wants none."""
        if self._multi_user is None:
            await self.check()
        if not self._multi_user:
            return ""
        namespace = self._config.namespace or resources
        if not namespace:
            raise OutageError(SYSTEM, "the namespace of a pipeline run is not known yet")
        return namespace

    def _owner(self, name: RunName) -> tuple[str, str]:
        """Uid and namespace of a run's resource, as far as they are known."""
        if name in self._owners:
            return self._owners[name]
        uid = _UID.search(name)
        return (uid.group(), "") if uid else ("", "")

    def _read(self, run: Struct) -> PipelineRun:
        identifier, timeouts = str(run.get("run_id", "")), self._config.timeouts
        # A server takes a request to end a run only while the run goes on; some call that run failed afterwards.
        ended = identifier in self._given_up or (identifier in self._accepted and run.get("state") == "FAILED")
        page = (self._config.page or self._rest.url).rstrip("/")
        since = reading.silent_since(run)
        now = since + self._clock.age((identifier, "silent"), since) if since is not None else self._clock.now()
        judgement = Judgement(now, page, ended, timeouts.silence, timeouts.grace)
        return reading.read(run, judgement)

    def _note(self, name: RunName, run: Struct) -> PipelineRun:
        self._latest[name] = run["run_id"]
        return self._read(run)

    def _forget(self, name: RunName) -> None:
        self._latest.pop(name, None)
        self._owners.pop(name, None)

    def _compiled(self, request: RunRequest) -> list[Struct]:
        path = self._config.compiled / f"{request.flow}.yaml"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RejectedError(SYSTEM, f"there is no compiled flow {path}") from None
        return list(yaml.safe_load_all(text))

    @asynccontextmanager
    async def _locked(self, name: RunName) -> AsyncIterator[None]:
        """One change of a run at a time; the lock lives as long as somebody wants it."""
        lock = self._locks.setdefault(name, _Lock())
        lock.wanted += 1
        try:
            async with lock.lock:
                yield
        finally:
            lock.wanted -= 1
            if not lock.wanted:
                self._locks.pop(name, None)


@dataclass
class _Lock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


def from_settings(
    settings: Settings,
    compiled: Path,
    namespace_of: Callable[[str], str | None] = lambda _uid: None,
    guard: Guard = unguarded,
    secrets: StepSecrets | None = None,
) -> Kubeflow:
    """The engine that the settings describe. Raises ValueError for settings without PELAGOS_KUBEFLOW_URL."""
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
    config = KubeflowConfig(
        compiled,
        pod_defaults(settings),
        settings.kubeflow_namespace,
        one_tenant=bool(settings.namespace),
        page=page,
        namespace_of=namespace_of,
        secrets=secrets,
    )
    return Kubeflow(rest, config)


def pod_defaults(settings: Settings) -> PodDefaults:
    """What the settings say that all runs have in common."""
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
        ceilings=tuple(settings.ceilings().items()),
    )


def _experiment_name(uid: str) -> str:
    return f"pelagos.{uid}"


def _describe(request: RunRequest) -> str:
    """For people; older servers keep 255 characters."""
    what = request.labels.get("pelagos.dev/resource", request.name)
    return f"{what}, attempt {request.attempt}, started by Pelagos"[:255]


def _namespace_in(description: str) -> str:
    """The reverse of ``_describe``, as far as the resource's namespace goes."""
    parts = description.split(",", 1)[0].split("/")
    return parts[1] if len(parts) == 3 else ""


def _made(found: Mapping[str, Owned], name: str) -> datetime | None:
    known = found.get(name)
    return known.made_at if known else None


def _newness(run: Struct) -> tuple[int, Any]:
    """To sort by: the highest attempt first, and of its runs the oldest."""
    _, attempt = reading.identity(run) or ("", 0)
    return -attempt, reading.age(run)
