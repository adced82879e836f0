"""What a register of names answers, whichever it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pelagos_contract.metadata import Taxon


@dataclass(frozen=True)
class Placed:
    """An accepted taxon. ``above`` are the taxa above it, the highest first, of all ranks that the register has.

    ``given`` is the AphiaID that was asked for, or found by name, where another is accepted for it.
    """

    taxon: Taxon
    above: Sequence[Taxon] = ()
    given: int | None = None


@dataclass(frozen=True)
class Match:
    """A name: the AphiaID of the one taxon that is called so, or None, ``why``, and ``suggestions`` for people."""

    aphia_id: int | None = None
    why: str = ""
    suggestions: Sequence[str] = ()


@dataclass(frozen=True)
class Answers:
    """Of names and AphiaIDs: what each of them is. An id that is not in ``placed`` is none of the register.

    ``asked_at``: when the oldest of the answers was given, in seconds since 1970; None for a register that nobody asks.
    """

    matches: Mapping[str, Match]
    placed: Mapping[int, Placed]
    asked_at: float | None = None
    warnings: Sequence[str] = field(default_factory=tuple)


class Register(Protocol):
    """A register of names."""

    @property
    def source(self) -> str:
        """Where it is, for people."""

    def answers(self, names: Iterable[str], ids: Iterable[int]) -> Answers:
        """What names and AphiaIDs are, each accepted taxon that names match among ``placed``, too.

        Raises:
            RefusedError: TAXONOMY_UNAVAILABLE, SOURCE_NOT_ALLOWED; FORMAT_INVALID for a table.
        """


def suggested(name: str, aphia_id: int | None, rank: str | None, kingdom: str | None = None) -> str:
    """A taxon as people are told of it: ``Gadus morhua (126436, Species, Animalia)``."""
    more = ", ".join(str(part) for part in (aphia_id, rank, kingdom) if part)
    return f"{name} ({more})" if more else name
