"""Reads fields from the names of folders and files by ``spec.capture.pattern``: plain text and fields in braces.

It is not a regular expression. Each part of a pattern matches one folder or file. A field takes as little as possible, so that
matching takes time linear in pattern and name.
"""

from __future__ import annotations

from dataclasses import dataclass

from pelagos_contract.capture import REST, fields_in, literals_in

_WHOLE_REST = f"{{{REST}}}"


@dataclass(frozen=True)
class Pattern:
    """A parsed pattern. If it ``is_open``, any further path matches, but at least a file."""

    parts: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    is_open: bool

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Parse a pattern, which the contract has validated."""
        parts = text.split("/")
        is_open = len(parts) > 1 and parts[-1] == _WHOLE_REST
        kept = parts[:-1] if is_open else parts
        return cls(tuple((tuple(literals_in(part)), tuple(fields_in(part))) for part in kept), is_open)

    def fields(self, path: str) -> dict[str, str] | None:
        """The text of each field; None for a path that does not match."""
        names = path.split("/")
        if len(names) <= len(self.parts) if self.is_open else len(names) != len(self.parts):
            return None
        found: dict[str, str] = {}
        for (literals, fields), name in zip(self.parts, names, strict=False):
            told = _told(literals, fields, name)
            if told is None:
                return None
            found |= told
        found.pop(REST, None)
        return found


def _told(literals: tuple[str, ...], fields: tuple[str, ...], name: str) -> dict[str, str] | None:
    """The fields between the literals of a name: each takes at least one character, and the last one the rest."""
    if not fields:
        return {} if name == literals[0] else None
    first, *between, last = literals
    if not (name.startswith(first) and name.endswith(last)) or len(name) <= len(first) + len(last):
        return None
    rest, found = name[len(first) : len(name) - len(last)], {}
    for literal, field in zip(between, fields, strict=False):
        end = rest.find(literal, 1)
        if end < 0:
            return None
        found[field], rest = rest[:end], rest[end + len(literal) :]
    return found | {fields[-1]: rest} if rest else None
