"""Which namespace a prefix belongs to. Pure; called by the code that reads the ConfigMaps of tenant_settings.py, and by its fake.

A prefix gives access to a part of the storage, or of MLflow's experiments. It belongs to one namespace, with everything below it
and every folder above it, unless both namespaces name each other in ``sharedWith``. Two that claim the same are both refused:
objects can be rewritten, so they do not show which came first, and a wrong answer would open one tenant's data to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pelagos.api import tenant_settings

Given = Mapping[str, str]
"""The data of a namespace's ConfigMap."""


@dataclass(frozen=True)
class Begun:
    """A resource whose status says that it began, and stores its data, below a prefix."""

    namespace: str
    prefix: str


@dataclass(frozen=True)
class _Kind:
    """A kind of prefix: its key, the default for a namespace, and whether two prefixes overlap."""

    key: str
    usual: Callable[[str], str]
    overlap: Callable[[str, str], bool]

    def of(self, namespace: str, given: Given | None) -> str:
        """The prefix of a namespace, from its ConfigMap if there is one."""
        found = (given or {}).get(self.key, self.usual(namespace))
        return found.casefold()  # Some storages and databases do not distinguish case.


def _within(one: str, other: str) -> bool:
    """Whether two folders are equal, or one is above the other. The empty one is above all."""
    shorter, longer = sorted((one, other), key=len)
    return not shorter or longer == shorter or longer.startswith(f"{shorter}/")


def _begins(one: str, other: str) -> bool:
    """Whether a name can have both prefixes."""
    return one.startswith(other) or other.startswith(one)


_STORAGE = _Kind("storagePrefix", lambda namespace: namespace, _within)
_EXPERIMENTS = _Kind("experimentPrefix", lambda namespace: f"{namespace}/", _begins)


def usual(namespace: str) -> dict[str, str]:
    """The default prefixes of a namespace."""
    return {kind.key: kind.usual(namespace) for kind in (_STORAGE, _EXPERIMENTS)}


def conflict(namespace: str, given: Mapping[str, Given], begun: Iterable[Begun] = ()) -> str | None:
    """Why a namespace may not have its prefixes: key, value, and the other namespace. None when it may.

    ``given``: the data of all namespaces that have a ConfigMap; ``begun``: where resources of any namespace are stored.
    """
    places = sorted({(each.namespace, each.prefix.casefold()) for each in begun if each.namespace != namespace})
    places = [each for each in places if not _shared(namespace, each[0], given)]
    others = sorted(each for each in given if each != namespace and not _shared(namespace, each, given))
    for kind in (_STORAGE, _EXPERIMENTS):
        mine = kind.of(namespace, given.get(namespace))
        for other in others:
            theirs = kind.of(other, given[other])
            if kind.overlap(mine, theirs):
                return _words(kind, namespace, given, f"{theirs!r}, the {kind.key} of the namespace {other}")
    for other, prefix in places:
        if _STORAGE.overlap(_STORAGE.of(namespace, given.get(namespace)), prefix):
            return _words(
                _STORAGE, namespace, given, f"{prefix!r}, where resources of the namespace {other} are stored"
            )
        theirs = _EXPERIMENTS.of(other, given.get(other))
        if _EXPERIMENTS.overlap(_EXPERIMENTS.of(namespace, given.get(namespace)), theirs):
            return _words(_EXPERIMENTS, namespace, given, f"{theirs!r}, the experimentPrefix of the namespace {other}")
    return None


def _shared(one: str, other: str, given: Mapping[str, Given]) -> bool:
    """Whether both namespaces name each other in ``sharedWith``."""
    named = (tenant_settings.listed(given.get(each, {}).get("sharedWith", "")) for each in (one, other))
    return all(who in names for who, names in zip((other, one), named, strict=True))


def _words(kind: _Kind, namespace: str, given: Mapping[str, Given], what: str) -> str:
    own = given.get(namespace, {})
    value = own.get(kind.key, kind.usual(namespace))
    default = "" if kind.key in own else " (the default)"
    return (
        f"{kind.key} is {value!r}{default}, which overlaps with {what}. A prefix belongs to one namespace: give this one "
        f"another prefix, or let both share it by name (sharedWith in the ConfigMaps {tenant_settings.PREFIX}<namespace> "
        "of both)"
    )
