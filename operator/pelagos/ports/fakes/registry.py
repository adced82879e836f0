"""A model registry in memory. For tests of reconcilers; passes the same contract tests as MLflow's engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pelagos.ports.errors import ChangedError, OutageError, RejectedError
from pelagos.ports.registry import DesiredModelVersion, ModelVersion, namespace_in
from pelagos_contract.tags import NOBODY, UID_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pelagos.ports.registry import Ownership

_FORBIDDEN = "/:"
"""MLflow refuses these in names of models. So does the fake, so that no test relies on more than MLflow offers."""


@dataclass
class _Model:
    versions: dict[str, ModelVersion] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


class RegistryFake:
    """Implements Registry. ``outage`` makes every call fail, and ``denied`` does as with expired credentials.

    ``created`` counts the versions ever created.
    """

    def __init__(self) -> None:
        self.outage = False
        self.denied = False
        self.created = 0
        self._models: dict[str, _Model] = {}

    async def find_by_uid(self, model: str, uid: str, ownership: Ownership) -> ModelVersion | None:
        """The version that the resource with this uid registered, under our seal."""
        found = self._model(model)
        ours = (
            version for version in found.versions.values() if version.tags.get(UID_TAG) == uid and ownership(version)
        )
        return next((self._version(found, version.version) for version in ours), None)

    async def find_by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """The version that ``alias`` points to; None when model or alias is unknown."""
        found = self._model(model)
        return self._version(found, found.aliases.get(alias))

    async def find_by_version(self, model: str, version: str) -> ModelVersion | None:
        """The version with this number; None when there is none."""
        return self._version(self._model(model), version)

    async def owner(self, model: str, ownership: Ownership) -> str | None:
        """The namespace that the model belongs to."""
        return next(filter(None, map(ownership, self._model(model).versions.values())), None)

    async def owned(self) -> tuple[ModelVersion, ...]:
        """All versions with a uid in their tags."""
        self._model("")
        versions = (version for model in self._models.values() for version in model.versions.values())
        return tuple(version for version in versions if version.tags.get(UID_TAG))

    async def register(self, want: DesiredModelVersion, ownership: Ownership) -> ModelVersion:
        """Create the version, exactly once per uid, and move its alias to it if it is new."""
        if found := await self.find_by_uid(want.model, want.uid, ownership):
            return found
        if any(character in want.model for character in _FORBIDDEN) or not want.model.strip():
            raise RejectedError("registry", f"Invalid model name {want.model!r}. Names cannot contain '/' or ':'.")
        mine = namespace_in(want.tags)
        if mine is not None and await self.owner(want.model, ownership) not in (None, mine, *want.sharing):
            raise RejectedError("registry", f"model {want.model!r} belongs to another namespace")
        has_it = self._model(want.model).aliases.get(want.alias or "", NOBODY)
        if want.alias and want.instead_of not in {None, has_it}:
            raise ChangedError("registry", f"the alias {want.alias} of {want.model!r} now belongs to version {has_it}")
        self.created += 1
        model = self._models.setdefault(want.model, _Model())
        number = str(max((int(known) for known in model.versions), default=0) + 1)
        tags = {**want.tags, UID_TAG: want.uid}
        version = ModelVersion(want.model, number, want.source, want.run_id, aliases=(), tags=tags)
        model.versions[number] = version
        if want.alias:
            model.aliases[want.alias] = number
        return self._version(model, number) or version

    async def delete_version(self, model: str, version: str) -> None:
        """Delete the version, and the model if it was the last one. No effect when it no longer exists."""
        found = self._model(model)
        found.versions.pop(version, None)
        found.aliases = {alias: number for alias, number in found.aliases.items() if number != version}
        if not found.versions:
            self._models.pop(model, None)

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Move an alias, as a person does in the registry's pages."""
        self._models[model].aliases[alias] = version

    def plant(self, model: str, tags: Mapping[str, str], *, run_id: str = "", number: str = "") -> ModelVersion:
        """Write as somebody else with access to the registry: a version with any tags, even in place of an existing one."""
        found = self._models.setdefault(model, _Model())
        number = number or str(max((int(known) for known in found.versions), default=0) + 1)
        found.versions[number] = ModelVersion(model, number, "theirs", run_id, aliases=(), tags=dict(tags))
        found.versions = dict(sorted(found.versions.items(), key=lambda item: int(item[0])))
        return found.versions[number]

    def forget(self, model: str) -> None:
        """Delete a model, as somebody else with access to the registry."""
        self._models.pop(model, None)

    async def close(self) -> None:
        """No effect: nothing is open."""

    def _model(self, name: str) -> _Model:
        if self.outage:
            raise OutageError("registry", "connection refused")
        if self.denied:
            raise RejectedError("registry", "HTTP 403 the token has expired")
        return self._models.get(name, _Model())

    def _version(self, model: _Model, number: str | None) -> ModelVersion | None:
        version = model.versions.get(number or "")
        aliases = tuple(sorted(alias for alias, points_to in model.aliases.items() if points_to == number))
        return replace(version, aliases=aliases) if version else None
