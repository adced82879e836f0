"""What there is of one kind, such as formats, by name. Both planes keep theirs in it; specs are held against the names.

`register` is a call that somebody makes: nothing that is installed is looked for, or loaded, by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """An entry, which says its name."""

    @property
    def name(self) -> str:
        """As in specs and packages."""


Entry = TypeVar("Entry", bound=Named)
NAME = r"[A-Za-z][-A-Za-z0-9_.]*"
"""Names stand in specs, in the paths of packages and in digests."""


class UnknownNameError(ValueError):
    """There is nothing of that name; the message says what there is."""


class Registry(Generic[Entry]):
    """Entries of one ``kind`` in the order in which they are told. Later ones come last."""

    def __init__(
        self,
        kind: str,
        entries: Iterable[Entry],
        *,
        reserved: Collection[str] = (),
        others: Callable[[Entry], Iterable[str]] = lambda _: (),
    ) -> None:
        """With the entries that we bring. None is called as ``reserved`` says; ``others``: names that an entry has besides."""
        self.kind = kind
        self._reserved, self._others = reserved, others
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            self.register(entry)

    def __iter__(self) -> Iterator[Entry]:
        """All entries."""
        return iter(tuple(self._entries.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._entries)

    def register(self, entry: Entry) -> None:
        """Add an entry. ValueError for a name that cannot be one, or is taken: nothing takes the place of another."""
        if not re.fullmatch(NAME, entry.name) or entry.name in self._reserved:
            raise ValueError(f"a {self.kind} cannot be called {entry.name!r}; another name of letters and digits can")
        if entry.name in self._entries:
            raise ValueError(f"there is a {self.kind} {entry.name!r} already")
        for known in self:
            if shared := {*self._others(entry)}.intersection(self._others(known)):
                raise ValueError(
                    f"{self.kind} {entry.name!r}: {min(shared)!r} is of the {self.kind} {known.name!r} already"
                )
        self._entries[entry.name] = entry

    def withdraw(self, name: str) -> None:
        """Take back what was registered. Raises UnknownNameError."""
        del self._entries[self.named(name).name]

    def named(self, name: str) -> Entry:
        """The entry of that name. Raises UnknownNameError."""
        if name not in self._entries:
            raise UnknownNameError(f"there is no {self.kind} {name!r}; there are {', '.join(self._entries)}")
        return self._entries[name]
