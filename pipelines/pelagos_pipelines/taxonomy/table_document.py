"""Parses the rows of a table of taxa in a child of the sandbox; `table` converts them to taxa."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

from pelagos_contract.taxonomy import LARGEST_ID, RANKS
from pelagos_pipelines.annotations import tables
from pelagos_pipelines.annotations.drawings import OtherKindError, refusals
from pelagos_pipelines.annotations.untrusted_input import encoded, invalid, is_seen
from pelagos_pipelines.sandbox import Answer

MOST_ROWS = 20_000
MAX_CELL = 300
COLUMNS = ("label", "scientificname", "rank", *(rank.lower() for rank in RANKS))
"""Columns that are read beside the AphiaID, in upper or lower case."""
_ID = ("AphiaID", "aphiaId", "aphiaID", "aphiaid", "APHIAID")


def taxa(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The rows of a table, as JSON in raw: for each its line number, AphiaID, and cells by COLUMNS."""
    with refusals():
        where = arguments["where"]
        found = list[tuple[int, int, dict[str, str]]]()
        try:
            for line, cells in tables.rows(where, file, *({name} for name in _ID)):
                if len(found) == MOST_ROWS:
                    raise invalid(f"{where} has more than {MOST_ROWS} rows: leave out what no class is of")
                found.append((line, *_row(f"{where}, line {line}", cells)))
        except OtherKindError as error:
            raise invalid(f"{where} has no column AphiaID: name the columns in its first line") from error
        return Answer(raw=encoded(where, found))


def _row(place: str, cells: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    plain = {name.lower(): cell.strip() for name, cell in cells.items()}
    number = plain.pop("aphiaid")
    if not (number.isascii() and number.isdigit() and 0 < int(number[:10]) <= LARGEST_ID):
        raise invalid(f"{place}: AphiaID is no number from 1 to {LARGEST_ID}: correct it, or remove the row")
    named = {name: plain[name] for name in COLUMNS if plain.get(name)}
    for name, cell in named.items():
        if len(cell) > MAX_CELL or not cell.isprintable() or not is_seen(cell):
            raise invalid(f"{place}: {name} is no name, which is text of at most {MAX_CELL} characters on one line")
    if not {"label", "scientificname"} & named.keys():
        raise invalid(f"{place}: there is neither label nor ScientificName: say which class, or taxon, it is")
    return int(number), named
