"""Versions of what makes dataset versions and models. A change that gives other outcomes for the same inputs raises one by 1.

A format, a family and a task have theirs in their own descriptions. Version 1 is that of the first release and is left
out of digests; another one is in them. What exists keeps the versions that it was made by.
"""

from __future__ import annotations

from collections.abc import Mapping

from pelagos_contract.families import FAMILIES
from pelagos_contract.formats import AUTO, FORMATS
from pelagos_contract.tasks import TASKS

PREPARATION = 1
"""Cleaning: what is dropped, and what is taken for a duplicate."""
SPLITTING = 1
EXPORT = 1
"""Model packages: the exported graph and its answers."""

Versions = Mapping[str, int]


def of_preparation(format_name: str, task: str) -> dict[str, int]:
    """What a version is made by; of formats those that may be recognised."""
    readers = {each.name: each.version for each in FORMATS if format_name == each.name}
    if format_name == AUTO:
        readers = {each.name: each.version for each in FORMATS if task in each.tasks}
    return {"preparation": PREPARATION, "splitting": SPLITTING, **readers}


def of_training(architecture: str, task: str) -> dict[str, int]:
    """What a model is made and measured by, as far as there is such a family and task."""
    families = [family for family in FAMILIES if architecture in family.architectures]
    found = {family.name: family.version for family in families}
    found |= {each.task.value: each.version for each in TASKS.values() if each.task == task}
    return {**found, "export": EXPORT}


def canonical(versions: Versions) -> dict[str, int]:
    """Those that go into digests."""
    return {name: version for name, version in versions.items() if version != 1}


def differences(before: Versions, now: Versions) -> str:
    """In words, which are others ``now``; one that is not there has version 1. Empty when none is."""
    names = [name for name in sorted({*before, *now}) if before.get(name, 1) != now.get(name, 1)]
    return ", ".join(f"{name} has version {now.get(name, 1)} (it had {before.get(name, 1)})" for name in names)
