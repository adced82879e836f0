"""Which classes of a source a version has, and under which names: ``spec.labels`` of a Dataset.

All names except new ones are those in the source, so that no part depends on another: ``include`` and ``exclude`` select classes,
``rename`` and ``merge`` name the remaining ones. The order of lists changes neither their meaning nor digests.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from pelagos_contract import taxonomy
from pelagos_contract.base import Strict
from pelagos_contract.class_names import Names, NewName, OldName, once
from pelagos_contract.taxonomy import Taxonomy

DEEPEST = 32
"""Most nested folders."""
_LEVEL = r"^(First|Last|Supercategory|[1-9]|[12][0-9]|3[0-2])$"
_LEVELS = f"write a number from 1 to {DEEPEST}, First, Last or Supercategory"
MOST_BYTES = 32_000
"""Most bytes of labels as JSON: a step receives its request in one argument, which Linux limits to 128 KiB."""


def _level(value: Any) -> Any:
    """The level, as a number where it is one. Raises ValueError that says what is allowed."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(_LEVELS)
    text = str(value)
    if not re.fullmatch(_LEVEL, text):
        raise ValueError(_LEVELS)
    return int(text) if text.isdigit() else text


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
    """Which classes of the source a version has, and their names there."""

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
            max_length=300,
            description="All but these, also among those that include names; * stands for any characters.",
        ),
    ] = []
    rename: Annotated[
        dict[OldName, NewName],
        Field(max_length=300, description="New names of classes by their names in the source: {cod: Gadus morhua}."),
        BeforeValidator(once),
    ] = {}
    merge: Annotated[
        dict[NewName, Annotated[Names, Field(min_length=1, max_length=500)]],
        Field(
            max_length=200,
            description="Classes that are merged from several: {flatfish: [plaice, dab]}, by their names in the source; * "
            "stands for any characters. A name, here or in rename, takes precedence over a pattern.",
        ),
        BeforeValidator(once),
    ] = {}
    level: Annotated[
        Level | None,
        Field(
            description="Which level of a hierarchy is the class. ImageFolder: the number of the folder, counted from the root "
            "of the source without those of splits, or First or Last, as in classFolder. Coco: Supercategory. Other formats "
            "have no levels."
        ),
    ] = None
    emptied: Annotated[
        Literal["Drop", "Background"],
        Field(
            description="Images that show only classes that are left out. Drop: they are also left out, as ExcludedClass. "
            "Background: they are kept as images with nothing to find; not for Classification."
        ),
    ] = "Drop"
    taxonomy: Annotated[
        Taxonomy | None,
        Field(description="Matches classes with taxa of a register of names, and can combine them at a rank."),
    ] = None

    @model_validator(mode="after")
    def _is_short(self) -> Self:
        size = len(json.dumps(self.written()))
        if size > MOST_BYTES:
            raise ValueError(
                f"all names together take {size} bytes as JSON, and at most {MOST_BYTES} fit; use patterns, with *"
            )
        return self


def faults(labels: Labels) -> Iterator[tuple[str, str]]:
    """Contradictions in the spec that do not depend on the source: yields the field, and a message with what to do."""
    if both := _shared(labels.include, labels.exclude):
        yield "labels.exclude", f"{both} is in labels.include, too: remove it from one of them"
    old, new = labels.rename.keys(), labels.rename.values()
    if chained := _shared(old, new):
        yield (
            "labels.rename",
            f"{chained} is an old name and a new one: give each class its final name",
        )
    if same := [name for name, count in Counter(new).items() if count > 1]:
        yield "labels.rename", f"{same[0]} is the new name of several classes: write them in labels.merge"
    listed = [name for names in labels.merge.values() for name in names]
    if both := _shared(old, listed):
        yield "labels.merge", f"{both} is also renamed by labels.rename: remove it from one of them"
    if twice := [name for name, count in Counter(listed).items() if count > 1]:
        yield "labels.merge", f"{twice[0]} is in the lists of several classes: remove it from all but one"
    for name in labels.merge:
        if name in new:
            yield "labels.merge", f"{name} is also a new name in labels.rename: list that class in labels.merge.{name}"
        elif name in old or (name in listed and name not in labels.merge[name]):
            yield (
                "labels.merge",
                f"{name} is a new name here, and an old one elsewhere: choose another name for one of them",
            )
    if labels.taxonomy is not None:
        yield from taxonomy.faults(labels.taxonomy)


def _shared(some: Any, others: Any) -> str | None:
    return next(iter(sorted(set(some) & set(others))), None)


def names_in(labels: Labels) -> Mapping[str, list[str]]:
    """All names that must exist in the source, by the field that has them."""
    merged = {f"labels.merge.{new}": names for new, names in labels.merge.items()}
    return {
        "labels.include": labels.include,
        "labels.exclude": labels.exclude,
        "labels.rename": [*labels.rename],
    } | merged
