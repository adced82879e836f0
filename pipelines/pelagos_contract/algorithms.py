"""Versions of the algorithms behind dataset versions and models. A change of results for the same inputs raises one by 1.

Formats, families and tasks have theirs in their own descriptions. Version 1 is that of the first release and is left out of
digests; all others are part of them. Existing objects keep the versions that made them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pelagos_contract.families import FAMILIES
from pelagos_contract.formats import AUTO, FORMATS
from pelagos_contract.tasks import TASKS

PREPARATION = 1
"""Version of cleaning: what is dropped, and what counts as a duplicate."""
SPLITTING = 1
EXPORT = 1
"""Version of the export of model packages: the graph and its predictions."""

Versions = Mapping[str, int]


def of_preparation(format_name: str, task: str) -> dict[str, int]:
    """Algorithms that make a version; with the format Auto, those of all formats that could be recognised."""
    readers = {each.name: each.version for each in FORMATS if format_name == each.name}
    if format_name == AUTO:
        readers = {each.name: each.version for each in FORMATS if task in each.tasks}
    return {"preparation": PREPARATION, "splitting": SPLITTING, **readers}


def of_training(architecture: str, task: str) -> dict[str, int]:
    """Algorithms that train, evaluate and export a model; an unknown architecture or task is left out."""
    families = [family for family in FAMILIES if architecture in family.architectures]
    found = {family.name: family.version for family in families}
    found |= {each.task.value: each.version for each in TASKS.values() if each.task == task}
    return {**found, "export": EXPORT}


def canonical(versions: Versions) -> dict[str, int]:
    """The versions that are part of digests: all but 1."""
    return {name: version for name, version in versions.items() if version != 1}


def differences(before: Versions, now: Versions) -> str:
    """Which versions differ ``now``, in words; empty when none does. An algorithm that is not listed has version 1."""
    names = [name for name in sorted({*before, *now}) if before.get(name, 1) != now.get(name, 1)]
    return ", ".join(f"{name} has version {now.get(name, 1)} (it had {before.get(name, 1)})" for name in names)
