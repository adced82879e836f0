"""Reads tables in text files (CSV, TSV) row by row, in a child of the sandbox.

A cell is text: formulas of spreadsheets are never evaluated.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, BinaryIO

from pelagos_pipelines.annotations.drawings import OtherKindError
from pelagos_pipelines.annotations.untrusted_input import invalid, is_encodable

MAX_HEADER = 2**20
"""Most characters of the header line."""
MAX_CELL = 2**24
"""Most characters of a cell: the outline of an animal can have thousands of points."""
_DELIMITERS = ",;\t"


def columns(file: BinaryIO, *wanted: Set[str]) -> Set[str]:
    """The names of the columns if they include one set of ``wanted``. Raises OtherKindError for any other file."""
    return frozenset(_header(_text(file), wanted)[0])


def rows(
    where: str, file: BinaryIO, *wanted: Set[str], longest: int = MAX_CELL
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The line number and the cells by column names, for every row of a table that has one set of ``wanted`` columns.

    ``longest``: most characters of a cell.
    Raises:
        OtherKindError: it has other columns.
        RefusedError: FORMAT_INVALID when it is not a table.
    """
    text = _text(file)
    names, delimiter = _header(text, wanted)
    if len(set(names)) < len(names):
        raise invalid(f"{where} has two columns with the same name: remove one")
    csv.field_size_limit(longest)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise invalid(
                f"{where}, line {reader.line_num + 1} has quotes or cells that are not valid in a table: export it again"
            ) from error
        if cells is None:
            return
        if not cells:
            continue
        if not is_encodable("".join(cells)):
            raise invalid(f"{where}, line {reader.line_num + 1} is not UTF-8 text: save the file as UTF-8")
        while len(cells) > len(names) and not cells[-1]:  # trailing separators
            cells.pop()
        if len(cells) != len(names):
            raise invalid(
                f"{where}, line {reader.line_num + 1} has {len(cells)} cells, but there are {len(names)} columns: export it again"
            )
        yield reader.line_num + 1, dict(zip(names, cells, strict=True))


def names(file: BinaryIO) -> list[str]:
    """The names of the columns of any table, with the delimiter that gives the most columns. The file is rewound.

    Raises:
        OtherKindError: the first line is not a header.
    """
    text = _text(file)
    try:
        line = text.readline(MAX_HEADER)
        found = [next(csv.reader([line], delimiter=delimiter), []) for delimiter in _DELIMITERS]
    except csv.Error as error:
        raise OtherKindError from error
    finally:
        text.detach()  # otherwise the file would be closed with the wrapper
        file.seek(0)
    return [name.strip() for name in max(found, key=len)]


def _text(file: BinaryIO) -> Any:
    # surrogateescape, so that invalid UTF-8 is reported for its own row and not while the header is read.
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _header(text: Any, wanted: Sequence[Set[str]]) -> tuple[list[str], str]:
    """The names of the columns, and the delimiter."""
    try:
        line = text.readline(MAX_HEADER)
        for delimiter in _DELIMITERS:
            names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
            while names and not names[-1]:
                names.pop()
            if any(names_of <= set(names) for names_of in wanted):
                return names, delimiter
    except csv.Error as error:
        raise OtherKindError from error
    raise OtherKindError
