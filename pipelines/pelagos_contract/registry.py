"""What there is of one kind, such as formats, by name. Both planes keep theirs in it; specs are held against the names.

`register` is a call that somebody makes: nothing that is installed is looked for, or loaded, by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """An entry, which says its name."""

    @property
    def name(self) -> str:
        """As in specs and packages."""


Entry = TypeVar("Entry", bound=Named)


class UnknownNameError(ValueError):
    """There is nothing of that name; the message says what there is."""


class Registry(Generic[Entry]):
    """Entries of one ``kind`` in the order in which they are told. Later ones come last."""

    def __init__(self, kind: str, entries: Iterable[Entry]) -> None:
        """With the entries that we bring."""
        self.kind = kind
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
        """Add an entry. ValueError when its name is taken: nothing takes the place of another."""
        if entry.name in self._entries:
            raise ValueError(f"there is a {self.kind} {entry.name!r} already")
        self._entries[entry.name] = entry

    def withdraw(self, name: str) -> None:
        """Take back what was registered. Raises UnknownNameError."""
        del self._entries[self.named(name).name]

    def named(self, name: str) -> Entry:
        """The entry of that name. Raises UnknownNameError."""
        if name not in self._entries:
            raise UnknownNameError(f"there is no {self.kind} {name!r}; there are {', '.join(self._entries)}")
        return self._entries[name]
