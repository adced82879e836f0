"""The Tracking port on MLflow. Called by the reconciler of TrainingRuns; the pipeline fills the run that is created here."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pelagos.engines.mlflow import notation
from pelagos.engines.mlflow.rest import SYSTEM, AbsentError, ExistsError, MlflowRest
from pelagos.ports.errors import OutageError
from pelagos.ports.tracking import DesiredTrackedRun, Outcome, Sealing, TrackedRun
from pelagos_contract.tags import INTENT_TAG, SEAL_TAG, UID_TAG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARENT_TAG = "mlflow.parentRunId"
"""MLflow's own tag, which makes a run the child of another."""
_PAGE = 1000
_SEARCHED_AT_ONCE = 500
"""Most experiments in one search for runs, because each becomes a variable of one SQL statement."""


class MlflowTracking:
    """Implements Tracking. ``public_url`` is the server's address for browsers; empty means the one that we use."""

    def __init__(self, rest: MlflowRest, public_url: str = "") -> None:
        self._rest = rest
        self._public_url = (public_url or rest.uri).rstrip("/")
        self._creating: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def uri(self) -> str:
        """The tracking server's address for pipelines."""
        return self._rest.uri

    async def get_run(self, run_id: str) -> TrackedRun | None:
        """The run with this id; None when it, or its experiment, is deleted."""
        try:
            run = (await self._rest.get("runs/get", run_id=run_id))["run"]
            if run["info"]["lifecycle_stage"] != "active":
                return None
            found = await self._rest.get("experiments/get", experiment_id=run["info"]["experiment_id"])
        except AbsentError:
            return None
        experiment = found["experiment"]
        return self._tracked(run, experiment["name"]) if experiment["lifecycle_stage"] == "active" else None

    async def find_runs(self, uid: str) -> tuple[TrackedRun, ...]:
        """All active runs tagged with ``uid``, the oldest first."""
        return tuple(await self._runs(uid))

    async def owned(self) -> tuple[TrackedRun, ...]:
        """All active runs that carry the uid of any resource."""
        return tuple(await self._search(f"tags.`{UID_TAG}` LIKE '%'"))

    async def create_run(self, want: DesiredTrackedRun, sealing: Sealing) -> TrackedRun:
        """Make the run exist, exactly once per uid.

        MLflow has no unique keys. So the run is looked up, created, sealed, and looked up again: if two were created at once,
        every creator keeps the oldest and deletes the others under our seal. A run that was created but not sealed, because its
        creator died or the reply was lost, is sealed first. If somebody copies our intent into their own run at that moment,
        figures are written to that run, but nothing more: no decision is ever based on its content.
        """
        lock = self._creating.setdefault(want.uid, asyncio.Lock())
        async with lock:
            if found := await self._sealed(want.uid, sealing):
                return found
            experiment = await self._experiment(want.experiment)
            # Look again: restoring a deleted experiment also brings back its runs, possibly ours.
            if found := await self._sealed(want.uid, sealing):
                return found
            # The seal covers the run's id, which is only known from the server's answer. So a new run has no seal for a moment;
            # until then the tag with our intent marks it as ours.
            body = {
                "experiment_id": experiment,
                "run_name": want.name,
                "start_time": _now(),
                "tags": notation.pairs({**want.tags, UID_TAG: want.uid, INTENT_TAG: sealing.intent}),
            }
            made = str((await self._rest.post("runs/create", body))["run"]["info"]["run_id"])
            await self.seal_run(made, sealing.seal(made))
            ours = [run for run in await self._runs(want.uid) if sealing.owns(run)]
            if not ours:
                raise OutageError(SYSTEM, f"run {made} was deleted or altered while it was created")
            # Every creator sorts the same way, so all keep the same run. Somebody else's run, without our seal, is never deleted.
            for run in ours[1:]:
                await self.delete_run(run.id)
            return ours[0]

    async def seal_run(self, run_id: str, seal: str) -> None:
        """Set our seal; no effect when it is already set, or the run no longer exists."""
        tag = {"run_id": run_id, "key": SEAL_TAG, "value": seal}
        with contextlib.suppress(AbsentError):
            await self._rest.post("runs/set-tag", tag)

    async def _sealed(self, uid: str, sealing: Sealing) -> TrackedRun | None:
        """The oldest run that is ours; an interrupted creation is finished. None when there is none."""
        runs = await self._runs(uid)
        # A sealed run takes precedence over an unsealed one, however old, because figures are written to the sealed one.
        ours = next((run for run in runs if sealing.owns(run)), None)
        if ours is not None:
            return ours
        begun = next((run for run in runs if SEAL_TAG not in run.tags and sealing.began(run)), None)
        if begun is None:
            return None
        seal = sealing.seal(begun.id)
        await self.seal_run(begun.id, seal)
        return replace(begun, tags={**begun.tags, SEAL_TAG: seal})

    async def set_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Set the run's outcome, even if it has ended; no effect when it is already set or the run no longer exists."""
        info = await self._info(run_id)
        if info is None or info["status"] == outcome.value:
            return
        # Nested runs first, so that they are not forgotten if this is interrupted.
        if outcome is not Outcome.RUNNING:
            for nested in await self._nested(info):
                if nested["status"] == Outcome.RUNNING.value:
                    await self._update(nested["run_id"], outcome)
        await self._update(run_id, outcome)

    async def delete_run(self, run_id: str) -> None:
        """Delete the run with its nested runs; no effect when it no longer exists."""
        info = await self._info(run_id)
        if info is None:
            return
        for one in (*await self._nested(info), info):
            with contextlib.suppress(AbsentError):
                await self._rest.post("runs/delete", {"run_id": one["run_id"]})

    async def close(self) -> None:
        """Close all connections."""
        await self._rest.close()

    async def _update(self, run_id: str, outcome: Outcome) -> None:
        change: dict[str, Any] = {"run_id": run_id, "status": outcome.value}
        if outcome is not Outcome.RUNNING:
            change["end_time"] = _now()
        with contextlib.suppress(AbsentError):
            await self._rest.post("runs/update", change)

    async def _nested(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        """Runs that steps created below a run, one for each of several trainings.

        Anyone who may write there can add more, or attach other runs of the experiment. Those are only ended, or deleted, with
        this one. A run with the uid of a resource is left alone.
        """
        wanted = f"tags.`{PARENT_TAG}` = {notation.quoted(info['run_id'])}"
        search = {"experiment_ids": [info["experiment_id"]], "filter": wanted}
        found = [run async for run in self._pages("runs/search", "runs", search)]
        return [run["info"] for run in found if UID_TAG not in notation.mapping(run["data"].get("tags"))]

    async def _info(self, run_id: str) -> dict[str, Any] | None:
        try:
            answer = await self._rest.get("runs/get", run_id=run_id)
        except AbsentError:
            return None
        info: dict[str, Any] = answer["run"]["info"]
        return info if info["lifecycle_stage"] == "active" else None

    async def _experiment(self, name: str) -> str:
        """The id of the experiment of this name, which is created or restored if needed."""
        try:
            experiment = await self._experiment_by_name(name)
        except AbsentError:
            try:
                return str((await self._rest.post("experiments/create", {"name": name}))["experiment_id"])
            except ExistsError:  # somebody has created it since the look-up
                experiment = await self._experiment_by_name(name)
        if experiment["lifecycle_stage"] != "active":
            await self._rest.post("experiments/restore", {"experiment_id": experiment["experiment_id"]})
        return str(experiment["experiment_id"])

    async def _experiment_by_name(self, name: str) -> dict[str, Any]:
        answer = await self._rest.get("experiments/get-by-name", experiment_name=name)
        experiment: dict[str, Any] = answer["experiment"]
        return experiment

    async def _runs(self, uid: str) -> list[TrackedRun]:
        """All active runs of the resource, the oldest first."""
        return await self._search(f"tags.`{UID_TAG}` = {notation.quoted(uid)}")

    async def _search(self, wanted: str) -> list[TrackedRun]:
        """All active runs that match a filter, the oldest first."""
        names = {e["experiment_id"]: e["name"] async for e in self._pages("experiments/search", "experiments", {})}
        ids = list(names)
        found = []
        for start in range(0, len(ids), _SEARCHED_AT_ONCE):
            search = {
                "experiment_ids": ids[start : start + _SEARCHED_AT_ONCE],
                "filter": wanted,
            }
            found += [run async for run in self._pages("runs/search", "runs", search)]
        found.sort(key=lambda run: (run["info"]["start_time"], run["info"]["run_id"]))
        return [self._tracked(run, names[run["info"]["experiment_id"]]) for run in found]

    async def _pages(self, operation: str, key: str, search: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        token = ""
        while True:
            page = {"page_token": token} if token else {}
            answer = await self._rest.post(operation, {**search, "max_results": _PAGE, **page})
            for item in answer.get(key, ()):
                yield item
            token = answer.get("next_page_token", "")
            if not token:
                return

    def _tracked(self, run: dict[str, Any], experiment: str) -> TrackedRun:
        info, data = run["info"], run["data"]
        return TrackedRun(
            id=info["run_id"],
            experiment=experiment,
            url=f"{self._public_url}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}",
            # MLflow also has SCHEDULED: not ended, so for us it is running.
            outcome=Outcome.RUNNING if info["status"] == "SCHEDULED" else Outcome(info["status"]),
            tags=notation.mapping(data.get("tags")),
            # Numbers that JSON cannot express arrive as the strings NaN and Infinity, which float() parses.
            metrics={metric["key"]: float(metric["value"]) for metric in data.get("metrics", ())},
            artifact_uri=info["artifact_uri"],
            started_at=notation.moment(info.get("start_time")),
        )


def _now() -> int:
    """The time in milliseconds since 1970, as MLflow stores it."""
    return int(datetime.now(UTC).timestamp() * 1000)
