"""Names of classes as specs write them: those that a source gives, and new ones. For the parts of ``spec.labels``."""

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
"""Characters of a name."""
WILDCARD = "*"
"""Any characters, or none."""


def _name(name: str) -> str:
    """As readers have class names. Raises ValueError for what none can be."""
    plain = unicodedata.normalize("NFC", name.strip())
    if not plain or _CONTROL.search(plain):
        raise ValueError("write the name of a class: text on one line")
    return plain


def _new_name(name: str) -> str:
    """One that can be the name of a folder, too, as classes are in some views."""
    plain = _name(name)
    if _SEPARATORS.search(plain) or plain.startswith(".") or WILDCARD in plain:
        raise ValueError(rf"a new name has no / and no \ and no {WILDCARD} in it, and does not begin with a dot")
    return plain


def is_new(name: str) -> bool:
    """Whether a class can be called so by us: a name that somebody else gives is no path, no pattern, and on one line."""
    try:
        return len(name) <= LONGEST and _new_name(name) == name
    except ValueError:
        return False


def once(names: Any) -> Any:
    """What has names as keys, unless two of them are the same name: one would be lost without a word."""
    if isinstance(names, Mapping) and all(isinstance(name, str) for name in names):
        counts = Counter(unicodedata.normalize("NFC", name.strip()) for name in names)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"{twice[0]} stands there more than once, in other spaces or another Unicode form")
    return names


def _sorted(names: list[str]) -> list[str]:
    return sorted(set(names))


OldName = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_name)]
NewName = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_new_name)]
Names = Annotated[list[OldName], AfterValidator(_sorted)]


def fits(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern, in which * alone has a meaning. In time linear in both."""
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
