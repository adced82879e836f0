"""Names of classes in ``spec.labels``: those that a source gives, and new ones."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_SEPARATORS = re.compile(r"[/\\]")
LONGEST = 200
"""Most characters of a name."""
WILDCARD = "*"
"""Matches any characters, or none."""


def _name(name: str) -> str:
    """Normalize a class name like the annotation readers. Raises ValueError for an impossible name."""
    plain = unicodedata.normalize("NFC", name.strip())
    if not plain or _CONTROL.search(plain):
        raise ValueError("write the name of a class: text on one line")
    return plain


def _new_name(name: str) -> str:
    """Normalize a new name, which must also be usable as a folder name, since some views name folders by classes."""
    plain = _name(name)
    if _SEPARATORS.search(plain) or plain.startswith(".") or WILDCARD in plain:
        raise ValueError(rf"a new name must have no / and no \ and no {WILDCARD} in it, and does not begin with a dot")
    return plain


def is_new(name: str) -> bool:
    """Whether a name from elsewhere is valid as a new class name: one line, no path and no pattern."""
    try:
        return len(name) <= LONGEST and _new_name(name) == name
    except ValueError:
        return False


def once(names: Any) -> Any:
    """The mapping, unless two keys are the same name after normalization, of which one would be lost silently."""
    if isinstance(names, Mapping) and all(isinstance(name, str) for name in names):
        counts = Counter(unicodedata.normalize("NFC", name.strip()) for name in names)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"{twice[0]} is listed more than once, with different spaces or in another Unicode form")
    return names


def _sorted(names: list[str]) -> list[str]:
    return sorted(set(names))


OldName = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_name)]
NewName = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_new_name)]
Names = Annotated[list[OldName], AfterValidator(_sorted)]


def fits(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern, in which only * is special. Takes linear time, unlike a regular expression."""
    first, *rest = pattern.split(WILDCARD)
    if not rest:
        return name == pattern
    *middle, last = rest
    end = len(name) - len(last)
    if len(first) > end or not name.startswith(first) or not name.endswith(last):
        return False
    place = len(first)
    for part in middle:
        found = name.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True
