"""A table in the source that maps classes to taxa, so that no service is needed.

It has the form of the register's taxon match tool, with a column ``label`` for classes whose names differ from their taxa. Rows
without a label are taxa without a class, such as families, and provide their AphiaIDs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.metadata import Taxon
from pelagos_contract.taxonomy import MOST_SUGGESTIONS, RANKS
from pelagos_pipelines.annotations import reading
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.annotations.untrusted_input import look, printable
from pelagos_pipelines.taxonomy.taxa import Answers, Match, Placed, suggested

FIELD = "labels.taxonomy.table"
LARGEST = 16 * 2**20
"""Most bytes of the table."""
_PARSER = "pelagos_pipelines.taxonomy.table_document"


@dataclass(frozen=True)
class Row:
    """One line: the taxon, and the names of the taxa above it by rank. ``label`` is empty for a taxon without a class."""

    line: int
    label: str
    taxon: Taxon
    ranks: Mapping[str, str]


class Table:
    """The table at ``path`` in the source."""

    def __init__(self, tree: SourceFiles, path: str) -> None:
        """Read the table.

        Raises:
            RefusedError: LABELS_INVALID if it does not exist, FORMAT_INVALID if it is not such a table.
        """
        self._path = path
        if path not in tree.known:
            near = difflib.get_close_matches(path, tree.files, 1)
            hint = f" (nearest is {printable(near[0])})" if near else ""
            raise RefusedError(
                Reason.LABELS_INVALID,
                f"{printable(path)} is no file of the source{hint}: put it there, or correct the path, which begins at its root",
                FIELD,
            )
        try:
            rows = [_row(*each) for each in reading.parsed("taxa", tree, path, LARGEST, _PARSER)]
        except (ValueError, TypeError, LookupError) as error:
            raise RefusedError(
                Reason.FORMAT_INVALID, f"{printable(path)} cannot be read as a table of taxa", FIELD
            ) from error
        self._by_id: dict[int, Row] = {}
        self._by_name: dict[str, Row] = {}
        self._numbers: dict[tuple[str | None, str], int] = {}
        self._names: dict[str, list[Row]] = {}
        for row in rows:
            assert row.taxon.aphia_id is not None
            self._by_id.setdefault(row.taxon.aphia_id, row)
            self._numbers.setdefault((row.taxon.rank, row.taxon.name), row.taxon.aphia_id)
            self._names.setdefault(look(row.taxon.name), []).append(row)
            if row.label and self._by_name.setdefault(row.label, row).taxon != row.taxon:
                raise RefusedError(
                    Reason.FORMAT_INVALID,
                    f"{printable(path)}, lines {self._by_name[row.label].line} and {row.line} have one label for two taxa: remove"
                    " one of them",
                    FIELD,
                )

    @property
    def source(self) -> str:
        """The path of the table."""
        return self._path

    def answers(self, names: Iterable[str], ids: Iterable[int]) -> Answers:
        """The taxa in the table, see Register. Names are labels, or else scientific names."""
        matches = {name: self._match(name) for name in names}
        wanted = {*ids, *(each.aphia_id for each in matches.values() if each.aphia_id is not None)}
        return Answers(matches, {each: self._placed(self._by_id[each]) for each in wanted if each in self._by_id})

    def _match(self, name: str) -> Match:
        labelled = self._by_name.get(name)
        found = [labelled] if labelled is not None else self._names.get(look(name), [])
        ids = {row.taxon.aphia_id for row in found}
        if len(ids) == 1:
            return Match(aphia_id=found[0].taxon.aphia_id)
        like = found or [
            row
            for near in difflib.get_close_matches(look(name), [*self._names], MOST_SUGGESTIONS)
            for row in self._names[near][:1]
        ]
        told = [suggested(row.taxon.name, row.taxon.aphia_id, row.taxon.rank) for row in like[:MOST_SUGGESTIONS]]
        return Match(why=f"{len(ids)} taxa are called so" if ids else "it is not in the table", suggestions=told)

    def _placed(self, row: Row) -> Placed:
        above = [
            Taxon(name=name, rank=rank, aphia_id=self._numbers.get((rank, name)))
            for rank in RANKS
            if (name := row.ranks.get(rank)) and (rank, name) != (row.taxon.rank, row.taxon.name)
        ]
        return Placed(row.taxon, tuple(above))


def _row(line: int, aphia_id: int, cells: Mapping[str, str]) -> Row:
    """Parse a row of the child's answer, which is untrusted. Raises ValueError for an invalid row."""
    ranks: dict[str, str] = {rank: cells[rank.lower()] for rank in RANKS if rank.lower() in cells}
    name = cells.get("scientificname") or cells["label"]
    own = cells.get("rank") or next((rank for rank in reversed(RANKS) if ranks.get(rank) == name), None)
    if own is None and cells.get("scientificname") and len(name.split()) == 2:
        own = "Species"
    taxon = Taxon(name=name, rank=own[:1].upper() + own[1:] if own else None, aphia_id=aphia_id)
    return Row(int(line), cells.get("label", ""), taxon, ranks)
