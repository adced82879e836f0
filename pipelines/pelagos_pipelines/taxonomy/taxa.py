"""The answers of a register of names, common to all registers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pelagos_contract.metadata import Taxon


@dataclass(frozen=True)
class Placed:
    """An accepted taxon. ``above`` are the taxa above it, highest first, of all ranks in the register.

    ``given`` is the AphiaID that was requested or found by name, if another one is accepted for it.
    """

    taxon: Taxon
    above: Sequence[Taxon] = ()
    given: int | None = None


@dataclass(frozen=True)
class Match:
    """The match of a name: the AphiaID of the only taxon with it, or None with the reason ``why`` and ``suggestions``."""

    aphia_id: int | None = None
    why: str = ""
    suggestions: Sequence[str] = ()


@dataclass(frozen=True)
class Answers:
    """Answers for names and AphiaIDs. An id that is not in ``placed`` does not exist in the register.

    ``asked_at``: the Unix time of the oldest answer; None for a register without requests.
    """

    matches: Mapping[str, Match]
    placed: Mapping[int, Placed]
    asked_at: float | None = None
    warnings: Sequence[str] = field(default_factory=tuple)


class Register(Protocol):
    """A register of names."""

    @property
    def source(self) -> str:
        """The register's address or path, for people."""

    def answers(self, names: Iterable[str], ids: Iterable[int]) -> Answers:
        """Look up names and AphiaIDs; ``placed`` also has the accepted taxa that the names match.

        Raises:
            RefusedError: TAXONOMY_UNAVAILABLE, SOURCE_NOT_ALLOWED; FORMAT_INVALID for a table.
        """


def suggested(name: str, aphia_id: int | None, rank: str | None, kingdom: str | None = None) -> str:
    """A taxon in words for people: ``Gadus morhua (126436, Species, Animalia)``."""
    more = ", ".join(str(part) for part in (aphia_id, rank, kingdom) if part)
    return f"{name} ({more})" if more else name
