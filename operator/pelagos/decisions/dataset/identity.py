"""The inputs of a version of a Dataset, and the names and keys derived from them."""

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
    """All that a version is made from: the recipe in canonical form, the source's fingerprint, and versions of algorithms."""

    recipe: Mapping[str, Any]
    source: str
    algorithms: algorithms.Versions

    @cached_property
    def digest(self) -> str:
        """Identifies the inputs, and so the one pipeline run for them."""
        versions = algorithms.canonical(self.algorithms)
        return digests.digest(
            {"recipe": self.recipe, "source": self.source} | ({"algorithms": versions} if versions else {})
        )


@dataclass(frozen=True)
class Earlier:
    """The inputs of the last run, as status or a record has them, with their ``digest``.

    ``noted`` is None where only the digest is known, as in the first releases.
    """

    digest: str
    noted: MadeFrom | None = None

    @property
    def algorithms(self) -> algorithms.Versions:
        """The versions of algorithms that the last run used; those that are absent have version 1."""
        return self.noted.algorithms if self.noted is not None else {}


def request(spec: DatasetSpec) -> dict[str, Any]:
    """The request to the preparation pipeline: the fields of spec that decide the content of a version, and no others."""
    dumped = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {name: value for name, value in dumped.items() if name in DECISIVE}


def recipe(spec: DatasetSpec) -> dict[str, Any]:
    """The same fields in canonical form."""
    return {name: value for name, value in HISTORY.canonical(spec).items() if name in DECISIVE}


def inputs(spec: DatasetSpec, fingerprint: Fingerprint) -> Inputs:
    """The inputs that a version would be made from now, with this release's defaults and algorithms."""
    versions = algorithms.of_preparation(spec.format, spec.task)
    return Inputs(recipe(spec), fingerprint.digest, versions)


def earlier(status: Mapping[str, Any]) -> Earlier | None:
    """The inputs of the last run, from status; None before the first run."""
    digest, noted = status.get("inputsDigest"), status.get("madeFrom")
    return Earlier(digest, MadeFrom.model_validate(noted) if noted else None) if digest else None


def keyed(spec: DatasetSpec, fingerprint: Fingerprint, generation: int, before: Earlier | None) -> Inputs:
    """The inputs of the run that counts now. Those of before, if only our defaults or algorithms have changed since."""
    now = inputs(spec, fingerprint)
    if before is None:
        return now
    is_unedited = before.noted is not None and before.noted.generation == generation
    recipe = before.noted.recipe if before.noted is not None and is_unedited else now.recipe
    versions = dict.fromkeys(now.algorithms, 1) | dict(before.algorithms)
    kept = Inputs(recipe, fingerprint.digest, versions)
    return kept if kept.digest == before.digest else now


def reason(before: Earlier | None, key: Inputs, now: Inputs) -> str | None:
    """Why a version is made from ``now``, if an upgrade is part of the cause; else None. ``key``: the inputs until now."""
    if before is None:
        return None
    if before.digest == now.digest:
        return before.noted.reason if before.noted is not None else None
    if before.digest == key.digest:
        return f"made again because {differences(key, now)}"
    found = algorithms.differences(before.algorithms, now.algorithms)
    return f"the source or the recipe changed, and {found}" if found else None


def differences(before: Inputs, now: Inputs) -> str:
    """A description of the changes that an upgrade made between two inputs; empty when there are none."""
    recipes = HISTORY.completed(before.recipe, Recipe), HISTORY.completed(now.recipe, Recipe)
    found = (algorithms.differences(before.algorithms, now.algorithms), rules.differences(*recipes))
    return ", ".join(filter(None, found))


def name_run(uid: str, digest: str) -> RunName:
    """Name of the run that prepares a version from the inputs with this digest."""
    return digests.run_name("dataset", uid, digest)
