"""What a version of a Dataset is made from, and the names and keys that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pelagos.api.dataset import DatasetSpec, MadeFrom
from pelagos.decisions import digests, rules
from pelagos.ports.pipelines import RunName
from pelagos.ports.volumes import Fingerprint
from pelagos_contract import algorithms, history
from pelagos_contract.dataset import Recipe

HISTORY = history.of_subject("Dataset")
DECISIVE = frozenset(str(field.alias) for field in Recipe.model_fields.values())
"""Fields of spec that decide the content of a version."""


@dataclass(frozen=True)
class Inputs:
    """All that a version is made from: its recipe in canonical form, the source's content, and versions of algorithms."""

    recipe: Mapping[str, Any]
    source: str
    algorithms: algorithms.Versions

    @cached_property
    def digest(self) -> str:
        """Key of the one pipeline run."""
        versions = algorithms.canonical(self.algorithms)
        return digests.digest(
            {"recipe": self.recipe, "source": self.source} | ({"algorithms": versions} if versions else {})
        )


@dataclass(frozen=True)
class Earlier:
    """The inputs of the last run, as status or a record has them; ``digest`` is theirs.

    ``noted`` is None where status has the digest alone, as those of the first releases.
    """

    digest: str
    noted: MadeFrom | None = None

    @property
    def algorithms(self) -> algorithms.Versions:
        """Those that are not there have version 1."""
        return self.noted.algorithms if self.noted is not None else {}


def request(spec: DatasetSpec) -> dict[str, Any]:
    """The request of the preparation pipeline: what decides the content of a version, and nothing else."""
    dumped = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {name: value for name, value in dumped.items() if name in DECISIVE}


def recipe(spec: DatasetSpec) -> dict[str, Any]:
    """The same in canonical form."""
    return {name: value for name, value in HISTORY.canonical(spec).items() if name in DECISIVE}


def inputs(spec: DatasetSpec, fingerprint: Fingerprint) -> Inputs:
    """What a version would be made from now."""
    versions = algorithms.of_preparation(spec.format, spec.task)
    return Inputs(recipe(spec), fingerprint.digest, versions)


def earlier(status: Mapping[str, Any]) -> Earlier | None:
    """What status says of the last run; None before the first."""
    digest, noted = status.get("inputsDigest"), status.get("madeFrom")
    return Earlier(digest, MadeFrom.model_validate(noted) if noted else None) if digest else None


def keyed(spec: DatasetSpec, fingerprint: Fingerprint, generation: int, before: Earlier | None) -> Inputs:
    """What the run that counts is made from: as before, where nothing but defaults or algorithms of ours changed since."""
    now = inputs(spec, fingerprint)
    if before is None:
        return now
    is_unedited = before.noted is not None and before.noted.generation == generation
    recipe = before.noted.recipe if before.noted is not None and is_unedited else now.recipe
    versions = dict.fromkeys(now.algorithms, 1) | dict(before.algorithms)
    kept = Inputs(recipe, fingerprint.digest, versions)
    return kept if kept.digest == before.digest else now


def reason(before: Earlier | None, key: Inputs, now: Inputs) -> str | None:
    """Why ``now`` is made, where an upgrade has a part in that. ``key``: what counted so far."""
    if before is None:
        return None
    if before.digest == now.digest:
        return before.noted.reason if before.noted is not None else None
    if before.digest == key.digest:
        return f"made again because {differences(key, now)}"
    found = algorithms.differences(before.algorithms, now.algorithms)
    return f"the source or the recipe changed, and {found}" if found else None


def differences(before: Inputs, now: Inputs) -> str:
    """In words, what an upgrade changed; empty when nothing."""
    recipes = HISTORY.completed(before.recipe, Recipe), HISTORY.completed(now.recipe, Recipe)
    found = (algorithms.differences(before.algorithms, now.algorithms), rules.differences(*recipes))
    return ", ".join(filter(None, found))


def name_run(uid: str, digest: str) -> RunName:
    """Name of that run."""
    return digests.run_name("dataset", uid, digest)
