"""Registry in MLflow. Called by the reconcilers of TrainingRuns (register) and ModelServices (find)."""

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
"""On models that we made: they go with their last version. A model that a person made stays."""
_PAGE = "1000"
ALIAS_PENDING_TAG = "pelagos.dev/alias-pending"
"""On a version until its alias points to it: a crash between the two calls must not lose the alias."""


class MlflowRegistry:
    """Implements Registry."""

    def __init__(self, rest: MlflowRest) -> None:
        self._rest = rest
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def find_by_uid(self, model: str, uid: str, ownership: Ownership) -> ModelVersion | None:
        """The version that the resource ``uid`` registered; of several, the first.

        Finishes a registration that a crash interrupted before its alias was moved: nobody would register again what is found.
        """
        versions = await self._ours(model, uid, ownership)
        if not versions:
            return None
        try:
            return await self._finished(versions[0])
        except NotLeadingError:  # only looking, or no longer allowed to do more; who leads finishes it
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
        """The namespace of the model's first version under our seal; None when it is nobody's."""
        # MLflow's filters have no escapes. A quote that cannot be written is any one character: what it finds beside the model
        # is left out by _search, which compares the names again.
        if "'" in model and '"' in model:
            wanted = "name LIKE '{}'".format(model.replace("'", "_"))
        else:
            wanted = f"name = {notation.quoted(model)}"
        versions = await self._search(wanted, model)
        # The first under our seal, and not the first: a version that a person made before ours gives them no say over the model.
        return next(filter(None, map(ownership, versions)), None)

    async def owned(self) -> tuple[ModelVersion, ...]:
        """All versions that carry the uid of any resource."""
        return tuple(await self._search(f"tags.`{UID_TAG}` LIKE '%'"))

    async def register(self, want: DesiredModelVersion, ownership: Ownership) -> ModelVersion:
        """Make the version exist exactly once per uid, and its alias point to it when it is newly made."""
        async with self._lock(want.model):
            versions = await self._ours(want.model, want.uid, ownership)
            # As in tracking: MLflow numbers versions and knows no keys, so that two creators make two, and all keep the first.
            if not versions:
                # Under the lock, and before anything is made: two namespaces that want one name at once come one after the other.
                mine = namespace_in(want.tags)
                if mine is not None and await self.owner(want.model, ownership) not in (None, mine, *want.sharing):
                    raise RejectedError(SYSTEM, f"model {want.model!r} belongs to another namespace")
                await self._require_unmoved(want, ownership)
                with contextlib.suppress(ExistsError):
                    managed = notation.pairs({MANAGED_TAG: "true"})
                    await self._rest.post("registered-models/create", {"name": want.model, "tags": managed})
                tags = {**want.tags, UID_TAG: want.uid}
                # The intent goes with the version, in one request; whoever finds it moves the alias, should we die before.
                if want.alias:
                    tags[ALIAS_PENDING_TAG] = want.alias
                body = {"name": want.model, "source": want.source, "run_id": want.run_id, "tags": notation.pairs(tags)}
                await self._rest.post("model-versions/create", body)
                versions = await self._ours(want.model, want.uid, ownership)
                # Only what is under our seal is in the list: of somebody else's nothing is ever deleted.
                for version in versions[1:]:
                    await self._delete_version(want.model, version.version)
            if not versions:
                raise OutageError(SYSTEM, f"a version of {want.model!r} was altered while it was made")
            return await self._finished(versions[0])

    async def delete_version(self, model: str, version: str) -> None:
        """Delete the version, and a model that we made when it was the last; no effect when it is gone."""
        async with self._lock(model):
            await self._delete_version(model, version)
            with contextlib.suppress(AbsentError):
                found = (await self._rest.get("registered-models/get", name=model))["registered_model"]
                managed = MANAGED_TAG in notation.mapping(found.get("tags"))
                if managed and not found.get("latest_versions"):
                    await self._rest.delete("registered-models/delete", {"name": model})

    async def close(self) -> None:
        """Close the connections."""
        await self._rest.close()

    async def _require_unmoved(self, want: DesiredModelVersion, ownership: Ownership) -> None:
        """Raises ChangedError when the alias points to another version than it should, or is about to."""
        if want.alias is None or want.instead_of is None:
            return
        # One that a crash left without its alias has passed its gates before us.
        for version in await self._search(f"tags.`{ALIAS_PENDING_TAG}` = {notation.quoted(want.alias)}", want.model):
            if ownership(version) is not None:
                await self._finished(version)
        present = (await self._aliases(want.model)).get(want.alias, NOBODY)
        if present != want.instead_of:
            raise ChangedError(SYSTEM, f"the alias {want.alias} of {want.model!r} is that of version {present} by now")

    def _lock(self, model: str) -> asyncio.Lock:
        """Registering in a model and deleting it must not meet."""
        return self._changing.setdefault(model, asyncio.Lock())

    async def _finished(self, version: ModelVersion) -> ModelVersion:
        """The version, which is ours, after its alias points to it."""
        alias = version.tags.get(ALIAS_PENDING_TAG)
        # Anybody may have set the first tag; the second is under our seal.
        if not alias or alias != version.tags.get(ALIAS_TAG):
            return version
        present = (await self._aliases(version.model)).get(alias)
        if _may_move(version, present):
            body = {"name": version.model, "alias": alias, "version": version.version}
            # Who sets an alias at the same time as somebody else is told that it exists; the second time it is moved.
            try:
                await self._rest.post("registered-models/alias", body)
            except ExistsError:
                await self._rest.post("registered-models/alias", body)
        # Last: until it is gone, anybody who finds the version does all this again, which changes nothing.
        tag = {"name": version.model, "version": version.version, "key": ALIAS_PENDING_TAG}
        with contextlib.suppress(AbsentError):
            await self._rest.delete("model-versions/delete-tag", tag)
        pointed = await self.find_by_version(version.model, version.version)
        if pointed is None:
            raise OutageError(SYSTEM, f"a version of {version.model!r} was deleted while it was made")
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
        """The model's versions that carry ``uid`` under our seal, the first first."""
        found = await self._search(f"tags.`{UID_TAG}` = {notation.quoted(uid)}", model)
        # A search does not tell the aliases of what it finds; and another operator may delete what it found, as the second.
        looked_up = [await self.find_by_version(model, version.version) for version in found if ownership(version)]
        return [version for version in looked_up if version is not None]

    async def _search(self, wanted: str, model: str | None = None) -> list[ModelVersion]:
        """The model's versions of which a filter holds, ascending; without a model, those of all.

        The model's name is compared here: MLflow's filter language could not quote every name that MLflow allows.
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
    """Whether an alias that points to ``present`` is to be moved to the version: not from one that took it since.

    A version that was compared with the one that had the alias takes it from that one alone.
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
