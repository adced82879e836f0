"""Where a resource's runs live on a Kubeflow Pipelines server: a namespace, and an experiment in it. Used by the engine.

All runs of a resource are in one experiment, ``pelagos.<uid>``, so that a look-up reads only that resource's runs. The port asks
by the name of a run, which contains its resource's uid. Names and experiments are cached once they are known, and can be found
again by asking the server.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pelagos.engines.kubeflow.rest import SYSTEM, AbsentError, ExistsError, KubeflowRest
from pelagos.ports.errors import OutageError
from pelagos_contract.tags import RESOURCE_TAG

if TYPE_CHECKING:
    from collections.abc import Callable

    from pelagos.ports.pipelines import RunName, RunRequest

_UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOBODY = "unowned"


@dataclass(frozen=True)
class Place:
    """Where to look for a run: an experiment, or a whole namespace when ``experiment`` is "" because its owner is unknown."""

    namespace: str
    experiment: str


class Places:
    """``namespace`` is that of all runs; empty means each resource's own, which ``namespace_of`` looks up by uid."""

    def __init__(self, rest: KubeflowRest, namespace: str, namespace_of: Callable[[str], str | None]) -> None:
        self._rest = rest
        self._all_in = namespace
        self._namespace_of = namespace_of
        self._is_multi_user: bool | None = None
        self._owners: dict[RunName, tuple[str, str]] = {}
        self._experiments: dict[str, str] = {}

    async def check(self) -> None:
        """Raise OutageError when the server, or our settings for it, cannot be used."""
        self._is_multi_user = bool((await self._rest.is_healthy()).get("multi_user", False))
        if not self._is_multi_user and not self._all_in:
            message = (
                f"the server {self._rest.url} has a single user and runs all pipelines in its own namespace; "
                "set PELAGOS_KUBEFLOW_NAMESPACE to that namespace"
            )
            raise OutageError(SYSTEM, message)

    async def of_run(self, name: RunName) -> Place | None:
        """Where the run would be found; None when it cannot exist."""
        uid, namespace = self._owner(name)
        # Prefer the current answer to the remembered one: the resource may have become known only a moment ago.
        namespace = self._namespace_of(uid) or namespace
        if not uid:
            return Place(await self.namespace(namespace), "") if self._all_in else None
        if not namespace and not self._all_in:
            return None
        return await self._with_experiment(namespace, uid)

    def of_pods(self, name: RunName, resource: tuple[str, str, str] | None) -> str:
        """The namespace of the run's pods, "" when unknown. ``resource`` is the kind, namespace and name that the run states."""
        uid, remembered = self._owner(name)
        told = resource[1] if resource is not None else ""
        return self._all_in or self._namespace_of(uid) or remembered or told

    async def of_resource(self, uid: str) -> Place | None:
        """Where the resource's runs are; None when it has no experiment."""
        remembered = next((namespace for owner, namespace in self._owners.values() if owner == uid), "")
        return await self._with_experiment(self._namespace_of(uid) or remembered, uid)

    async def for_new_run(self, request: RunRequest) -> Place:
        """Where to create the run: the resource's experiment, which is created if needed."""
        uid, _ = self._owner(request.name)
        namespace = await self.namespace(request.namespace)
        experiment = await self._experiment(namespace, uid)
        if experiment is None:
            about = request.labels.get(RESOURCE_TAG, "runs of Pelagos")
            # Somebody else may create it between the look-up and the request; then theirs is found and used.
            with suppress(ExistsError):
                created = await self._rest.create_experiment(namespace, _experiment_name(uid), about)
                self._experiments[uid] = created["experiment_id"]
            experiment = await self._experiment(namespace, uid)
        if experiment is None:
            raise OutageError(SYSTEM, f"experiment {_experiment_name(uid)} exists, but cannot be found")
        return Place(namespace, experiment)

    async def namespace(self, resources: str) -> str:
        """The namespace to pass to the server for resources in ``resources``; a single-user server takes none.

        Raises OutageError when it is not known yet.
        """
        if self._is_multi_user is None:
            await self.check()
        if not self._is_multi_user:
            return ""
        namespace = self._all_in or resources
        if not namespace:
            raise OutageError(SYSTEM, "the namespace of a pipeline run is not known yet")
        return namespace

    async def delete_if_empty(self, place: Place, name: RunName) -> None:
        """Delete the resource's experiment if it has no runs left."""
        with suppress(AbsentError):
            async for _ in self._rest.runs(experiment=place.experiment):
                return
            await self._rest.delete_experiment(place.experiment)
            self._experiments.pop(self._owner(name)[0], None)

    def remember(self, name: RunName, uid: str, namespace: str) -> None:
        """Remember a run's owner: not every name contains a uid, and the resource may be deleted before it is looked up."""
        self._owners[name] = (uid or _NOBODY, namespace)

    def forget_run(self, name: RunName) -> None:
        """Forget the owner of a run that no longer exists."""
        self._owners.pop(name, None)

    def forget_experiment(self, identifier: str) -> None:
        """Forget an experiment that was deleted; the next run gets a new one."""
        self._experiments = {uid: known for uid, known in self._experiments.items() if known != identifier}

    def forget_experiments(self) -> None:
        """Forget all experiments, so that each is looked up again."""
        self._experiments.clear()

    async def _with_experiment(self, resources: str, uid: str) -> Place | None:
        namespace = await self.namespace(resources)
        experiment = await self._experiment(namespace, uid)
        return Place(namespace, experiment) if experiment else None

    async def _experiment(self, namespace: str, uid: str) -> str | None:
        """The id of the experiment with a resource's runs; None when there is none."""
        if uid not in self._experiments:
            async for experiment in self._rest.experiments(namespace, _experiment_name(uid)):
                # The server filters, but compare again: with a wrong experiment no run would be found.
                if experiment.get("display_name") == _experiment_name(uid):
                    self._experiments[uid] = experiment["experiment_id"]
                    break
        return self._experiments.get(uid)

    def _owner(self, name: RunName) -> tuple[str, str]:
        """Uid and namespace of a run's resource, each "" when unknown."""
        if name in self._owners:
            return self._owners[name]
        uid = _UID.search(name)
        return (uid.group(), "") if uid else ("", "")


def _experiment_name(uid: str) -> str:
    return f"pelagos.{uid}"
