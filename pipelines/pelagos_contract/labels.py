"""Which classes of a source a version has, and what they are called there: ``spec.labels`` of a Dataset.

All names in it but the new ones are those that the source gives, so that no part depends on another: ``include`` and ``exclude``
select, ``rename`` and ``merge`` name what is left. Lists say the same in any order, and so do digests of them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from pelagos_contract.base import Strict

DEEPEST = 32
"""Folders in folders."""
_LEVEL = r"^(First|Last|Supercategory|[1-9]|[12][0-9]|3[0-2])$"
_LEVELS = f"write a number from 1 to {DEEPEST}, First, Last or Supercategory"
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_SEPARATORS = re.compile(r"[/\\]")
MOST_BYTES = 32_000
"""Of labels in JSON: a step is told its request in one argument, of which Linux takes 128 KiB."""
WILDCARD = "*"
"""Any characters, or none."""


def _level(value: Any) -> Any:
    """A number wherever it is one. Raises ValueError, which says what is allowed."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(_LEVELS)
    text = str(value)
    if not re.fullmatch(_LEVEL, text):
        raise ValueError(_LEVELS)
    return int(text) if text.isdigit() else text


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


def _once(names: Any) -> Any:
    """What has names as keys, unless two of them are the same name: one would be lost without a word."""
    if isinstance(names, Mapping) and all(isinstance(name, str) for name in names):
        counts = Counter(unicodedata.normalize("NFC", name.strip()) for name in names)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"{twice[0]} stands there more than once, in other spaces or another Unicode form")
    return names


def _sorted(names: list[str]) -> list[str]:
    return sorted(set(names))


OldName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_name)]
NewName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_new_name)]
Names = Annotated[list[OldName], AfterValidator(_sorted)]
Level = Annotated[
    int | str,
    BeforeValidator(_level),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maximum": DEEPEST,
            "pattern": _LEVEL,
            "maxLength": 16,
        }
    ),
]


class Labels(Strict):
    """Which classes of the source a version has, and what they are called there."""

    include: Annotated[
        Names,
        Field(
            max_length=300,
            description="Only these classes, by their names in the source; * stands for any characters. Default: all.",
        ),
    ] = []
    exclude: Annotated[
        Names,
        Field(
            max_length=300, description="All but these, also of those that include names; * stands for any characters."
        ),
    ] = []
    rename: Annotated[
        dict[OldName, NewName],
        Field(max_length=300, description="New names of classes by their names in the source: {cod: Gadus morhua}."),
        BeforeValidator(_once),
    ] = {}
    merge: Annotated[
        dict[NewName, Annotated[Names, Field(min_length=1, max_length=500)]],
        Field(
            max_length=200,
            description="Classes that are made of several: {flatfish: [plaice, dab]}, by their names in the source; * stands for "
            "any characters. A name, here or in rename, goes before a pattern.",
        ),
        BeforeValidator(_once),
    ] = {}
    level: Annotated[
        Level | None,
        Field(
            description="Which level of a hierarchy is the class. ImageFolder: the number of the folder, counted from the root "
            "of the source without those of splits, or First or Last, as classFolder has them. Coco: Supercategory. Others have "
            "no levels."
        ),
    ] = None
    emptied: Annotated[
        Literal["Drop", "Background"],
        Field(
            description="Images that show nothing but classes that are left out. Drop: they are left out, too, as "
            "ExcludedClass. Background: they are images on which there is nothing to find; not for Classification."
        ),
    ] = "Drop"

    @model_validator(mode="after")
    def _is_short(self) -> Self:
        size = len(json.dumps(self.written()))
        if size > MOST_BYTES:
            raise ValueError(
                f"all names together take {size} bytes as JSON, and at most {MOST_BYTES} fit; use patterns, with *"
            )
        return self


def faults(labels: Labels) -> Iterator[tuple[str, str]]:
    """Fields that contradict themselves or others, whatever the source holds, and why with what to do."""
    if both := _shared(labels.include, labels.exclude):
        yield "labels.exclude", f"{both} stands in labels.include, too: take it out of one"
    old, new = labels.rename.keys(), labels.rename.values()
    if chained := _shared(old, new):
        yield (
            "labels.rename",
            f"{chained} is an old name and a new one: give each class the name that it is to have in the end",
        )
    if same := [name for name, count in Counter(new).items() if count > 1]:
        yield "labels.rename", f"{same[0]} is the new name of several classes: write them in labels.merge"
    listed = [name for names in labels.merge.values() for name in names]
    if both := _shared(old, listed):
        yield "labels.merge", f"{both} is renamed by labels.rename, too: take it out of one"
    if twice := [name for name, count in Counter(listed).items() if count > 1]:
        yield "labels.merge", f"{twice[0]} stands in the lists of several classes: take it out of all but one"
    for name in labels.merge:
        if name in new:
            yield "labels.merge", f"{name} is a new name in labels.rename, too: write that class in labels.merge.{name}"
        elif name in old or (name in listed and name not in labels.merge[name]):
            yield "labels.merge", f"{name} is a new name here, and an old one elsewhere: call one of them otherwise"


def _shared(some: Any, others: Any) -> str | None:
    return next(iter(sorted(set(some) & set(others))), None)


def names_in(labels: Labels) -> Mapping[str, list[str]]:
    """All names of the source in it, by the field that has them."""
    merged = {f"labels.merge.{new}": names for new, names in labels.merge.items()}
    return {
        "labels.include": labels.include,
        "labels.exclude": labels.exclude,
        "labels.rename": [*labels.rename],
    } | merged


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
