"""The Registry port on MLflow. Called by the reconcilers of TrainingRuns (register) and ModelServices (find)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pelagos.engines.mlflow import notation
from pelagos.engines.mlflow.rest import SYSTEM, AbsentError, ExistsError, MlflowRest
from pelagos.ports.errors import ChangedError, OutageError, RejectedError
from pelagos.ports.leadership import NotLeadingError
from pelagos.ports.registry import DesiredModelVersion, ModelVersion, namespace_in
from pelagos_contract.tags import ALIAS_TAG, INSTEAD_OF_TAG, NOBODY, UID_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pelagos.ports.registry import Ownership

MANAGED_TAG = "pelagos.dev/managed"
"""A tag on models that we created: they are deleted with their last version. A model that a person created stays."""
_PAGE = "1000"
ALIAS_PENDING_TAG = "pelagos.dev/alias-pending"
"""A tag on a version until its alias points to it, so that a crash between the two calls does not lose the alias."""


class MlflowRegistry:
    """Implements Registry on an MLflow server."""

    def __init__(self, rest: MlflowRest) -> None:
        self._rest = rest
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def find_by_uid(self, model: str, uid: str, ownership: Ownership) -> ModelVersion | None:
        """The version that the resource ``uid`` registered; of several, the first. None when there is none.

        Finishes a registration that a crash interrupted before its alias was moved: once a version is found, nobody would
        register it again.
        """
        versions = await self._ours(model, uid, ownership)
        if not versions:
            return None
        try:
            return await self._finished(versions[0])
        except NotLeadingError:  # the leader finishes it
            return versions[0]

    async def find_by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """The version that ``alias`` points to; None when model or alias is unknown."""
        number = (await self._aliases(model)).get(alias)
        return await self.find_by_version(model, number) if number else None

    async def find_by_version(self, model: str, version: str) -> ModelVersion | None:
        """The version by its number; None when unknown."""
        try:
            answer = await self._rest.get("model-versions/get", name=model, version=version)
        except AbsentError:
            return None
        return _version(answer["model_version"])

    async def owner(self, model: str, ownership: Ownership) -> str | None:
        """The namespace of the model's first version under our seal; None when it belongs to nobody."""
        # MLflow's filters have no escapes, so match a quote that cannot be written by a one-character wildcard. Other models
        # that this finds are dropped by _search, which compares the names again.
        if "'" in model and '"' in model:
            wanted = "name LIKE '{}'".format(model.replace("'", "_"))
        else:
            wanted = f"name = {notation.quoted(model)}"
        versions = await self._search(wanted, model)
        # The first version under our seal, not the first of all: an earlier one by a person gives them no claim to the model.
        return next(filter(None, map(ownership, versions)), None)

    async def owned(self) -> tuple[ModelVersion, ...]:
        """All versions that carry the uid of any resource."""
        return tuple(await self._search(f"tags.`{UID_TAG}` LIKE '%'"))

    async def register(self, want: DesiredModelVersion, ownership: Ownership) -> ModelVersion:
        """Make the version exist exactly once per uid; if it is new, its alias points to it."""
        async with self._lock(want.model):
            versions = await self._ours(want.model, want.uid, ownership)
            # As in tracking: MLflow numbers versions and has no unique keys, so two creators make two, and all keep the first.
            if not versions:
                # Checked under the lock, before anything is created: two namespaces that want the same name are serialized.
                mine = namespace_in(want.tags)
                if mine is not None and await self.owner(want.model, ownership) not in (None, mine, *want.sharing):
                    raise RejectedError(SYSTEM, f"model {want.model!r} belongs to another namespace")
                await self._require_unmoved(want, ownership)
                with contextlib.suppress(ExistsError):
                    managed = notation.pairs({MANAGED_TAG: "true"})
                    await self._rest.post("registered-models/create", {"name": want.model, "tags": managed})
                tags = {**want.tags, UID_TAG: want.uid}
                # Store the intent with the version, in the same request: if we die before the alias is moved, the next one who
                # finds the version moves it.
                if want.alias:
                    tags[ALIAS_PENDING_TAG] = want.alias
                body = {"name": want.model, "source": want.source, "run_id": want.run_id, "tags": notation.pairs(tags)}
                await self._rest.post("model-versions/create", body)
                versions = await self._ours(want.model, want.uid, ownership)
                # The list has only versions under our seal: nobody else's are ever deleted.
                for version in versions[1:]:
                    await self._delete_version(want.model, version.version)
            if not versions:
                raise OutageError(SYSTEM, f"a version of {want.model!r} was altered while it was created")
            return await self._finished(versions[0])

    async def delete_version(self, model: str, version: str) -> None:
        """Delete the version, and the model if we created it and this was its last one; no effect on a missing version."""
        async with self._lock(model):
            await self._delete_version(model, version)
            with contextlib.suppress(AbsentError):
                found = (await self._rest.get("registered-models/get", name=model))["registered_model"]
                managed = MANAGED_TAG in notation.mapping(found.get("tags"))
                if managed and not found.get("latest_versions"):
                    await self._rest.delete("registered-models/delete", {"name": model})

    async def close(self) -> None:
        """Close all connections."""
        await self._rest.close()

    async def _require_unmoved(self, want: DesiredModelVersion, ownership: Ownership) -> None:
        """Raise ChangedError when the alias points to another version than expected, or is about to."""
        if want.alias is None or want.instead_of is None:
            return
        # A version that a crash left without its alias passed its gates before us, so finish it first.
        for version in await self._search(f"tags.`{ALIAS_PENDING_TAG}` = {notation.quoted(want.alias)}", want.model):
            if ownership(version) is not None:
                await self._finished(version)
        present = (await self._aliases(want.model)).get(want.alias, NOBODY)
        if present != want.instead_of:
            raise ChangedError(SYSTEM, f"the alias {want.alias} of {want.model!r} now belongs to version {present}")

    def _lock(self, model: str) -> asyncio.Lock:
        """The lock that keeps registering in a model and deleting it from overlapping."""
        return self._changing.setdefault(model, asyncio.Lock())

    async def _finished(self, version: ModelVersion) -> ModelVersion:
        """The version, which is ours, with its alias moved to it if that is still pending."""
        alias = version.tags.get(ALIAS_PENDING_TAG)
        # Anybody can set the first tag, but the second is under our seal.
        if not alias or alias != version.tags.get(ALIAS_TAG):
            return version
        present = (await self._aliases(version.model)).get(alias)
        if _may_move(version, present):
            body = {"name": version.model, "alias": alias, "version": version.version}
            # If somebody else sets the alias at the same time, MLflow answers that it exists; the second attempt moves it.
            try:
                await self._rest.post("registered-models/alias", body)
            except ExistsError:
                await self._rest.post("registered-models/alias", body)
        # Removed last: as long as the tag exists, anyone who finds the version repeats all this, which is idempotent.
        tag = {"name": version.model, "version": version.version, "key": ALIAS_PENDING_TAG}
        with contextlib.suppress(AbsentError):
            await self._rest.delete("model-versions/delete-tag", tag)
        pointed = await self.find_by_version(version.model, version.version)
        if pointed is None:
            raise OutageError(SYSTEM, f"a version of {version.model!r} was deleted while it was created")
        return pointed

    async def _delete_version(self, model: str, version: str) -> None:
        with contextlib.suppress(AbsentError):
            await self._rest.delete("model-versions/delete", {"name": model, "version": version})

    async def _aliases(self, model: str) -> Mapping[str, str]:
        try:
            answer = await self._rest.get("registered-models/get", name=model)
        except AbsentError:
            return {}
        return {item["alias"]: item["version"] for item in answer["registered_model"].get("aliases", ())}

    async def _ours(self, model: str, uid: str, ownership: Ownership) -> list[ModelVersion]:
        """The model's versions that carry ``uid`` under our seal, the oldest first."""
        found = await self._search(f"tags.`{UID_TAG}` = {notation.quoted(uid)}", model)
        # Search results have no aliases, so read each version; another operator may have deleted one as a duplicate since.
        looked_up = [await self.find_by_version(model, version.version) for version in found if ownership(version)]
        return [version for version in looked_up if version is not None]

    async def _search(self, wanted: str, model: str | None = None) -> list[ModelVersion]:
        """The model's versions that match a filter, in ascending order; without ``model``, those of all models.

        The model's name is compared here, because MLflow's filter language cannot quote every name that MLflow allows.
        """
        found: list[ModelVersion] = []
        token = ""
        while True:
            page = {"page_token": token} if token else {}
            answer = await self._rest.get("model-versions/search", filter=wanted, max_results=_PAGE, **page)
            found += [
                _version(version) for version in answer.get("model_versions", ()) if model in (None, version["name"])
            ]
            token = answer.get("next_page_token", "")
            if not token:
                return sorted(found, key=lambda version: int(version.version))


def _may_move(version: ModelVersion, present: str | None) -> bool:
    """Whether to move an alias from ``present`` to the version: not if a newer one has taken it since.

    A version that was compared with the holder of the alias may take it only from that holder.
    """
    compared = version.tags.get(INSTEAD_OF_TAG)
    if compared is not None:
        return (present or NOBODY) == compared
    return present is None or int(present) < int(version.version)


def _version(found: dict[str, Any]) -> ModelVersion:
    return ModelVersion(
        model=found["name"],
        version=found["version"],
        source=found["source"],
        run_id=found.get("run_id", ""),
        aliases=tuple(sorted(found.get("aliases", ()))),
        tags=notation.mapping(found.get("tags")),
        made_at=notation.moment(found.get("creation_timestamp")),
    )
