"""Registries: the entries of one kind, such as formats, by name. Used by both planes; specs are validated against the names.

Entries are added by explicit calls of `register`: installed packages are never discovered or loaded automatically.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """An entry with a name."""

    @property
    def name(self) -> str:
        """The name in specs and packages."""


Entry = TypeVar("Entry", bound=Named)
NAME = r"[A-Za-z][-A-Za-z0-9_.]*"
"""Pattern of names, which appear in specs, in the paths of packages and in digests."""


class UnknownNameError(ValueError):
    """There is no entry with this name; the message lists the existing names."""


class Registry(Generic[Entry]):
    """Entries of one ``kind`` in the order of registration."""

    def __init__(
        self,
        kind: str,
        entries: Iterable[Entry],
        *,
        reserved: Collection[str] = (),
        others: Callable[[Entry], Iterable[str]] = lambda _: (),
    ) -> None:
        """Start with our own entries. ``reserved``: names that no entry may have; ``others``: additional names of an entry."""
        self.kind = kind
        self._reserved, self._others = reserved, others
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            self.register(entry)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, in order of registration; safe against changes during the iteration."""
        return iter(tuple(self._entries.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in order of registration."""
        return tuple(self._entries)

    def register(self, entry: Entry) -> None:
        """Add an entry. Raises ValueError for an invalid name, or one that is taken: entries cannot be replaced."""
        if not re.fullmatch(NAME, entry.name) or entry.name in self._reserved:
            raise ValueError(f"a {self.kind} cannot be called {entry.name!r}; another name of letters and digits can")
        if entry.name in self._entries:
            raise ValueError(f"a {self.kind} {entry.name!r} already exists")
        for known in self:
            if shared := {*self._others(entry)}.intersection(self._others(known)):
                raise ValueError(
                    f"{self.kind} {entry.name!r}: {min(shared)!r} already belongs to the {self.kind} {known.name!r}"
                )
        self._entries[entry.name] = entry

    def withdraw(self, name: str) -> None:
        """Remove a registered entry. Raises UnknownNameError."""
        del self._entries[self.named(name).name]

    def named(self, name: str) -> Entry:
        """The entry with this name. Raises UnknownNameError."""
        if name not in self._entries:
            raise UnknownNameError(f"there is no {self.kind} {name!r}; there are {', '.join(self._entries)}")
        return self._entries[name]
