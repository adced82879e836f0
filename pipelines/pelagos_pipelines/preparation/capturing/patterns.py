"""What the names of folders and files say by ``spec.capture.pattern``: plain text and fields in braces, and no expression.

A part of a pattern fits one folder or file. A field takes as little as it can, so that fitting takes time linear in both.
"""

from __future__ import annotations

from dataclasses import dataclass

from pelagos_contract.capture import REST, fields_in, literals_in

_WHOLE_REST = f"{{{REST}}}"


@dataclass(frozen=True)
class Pattern:
    """A pattern, taken apart. ``is_open``: whatever follows fits, at least a file."""

    parts: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    is_open: bool

    @classmethod
    def of(cls, text: str) -> Pattern:
        """One that the contract has let pass."""
        parts = text.split("/")
        is_open = len(parts) > 1 and parts[-1] == _WHOLE_REST
        kept = parts[:-1] if is_open else parts
        return cls(tuple((tuple(literals_in(part)), tuple(fields_in(part))) for part in kept), is_open)

    def fields(self, path: str) -> dict[str, str] | None:
        """The text of each field; None for a path that it does not fit."""
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
    """What a name says between the literals; every field takes a character, and the last one all that is left."""
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
