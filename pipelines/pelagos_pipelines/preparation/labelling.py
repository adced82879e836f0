"""Selects, renames and merges the classes of a source by ``spec.labels``.

Called by the step prepare between reading and cleaning, for every format.

Annotations only get other class numbers, so that millions of boxes stay packed. Annotations of excluded classes are removed, and
no others. The order of classes stays that of the source: a merged class takes the place of the first of its parts.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from pelagos_contract import labels as contract
from pelagos_contract.class_names import WILDCARD, fits
from pelagos_contract.dataset import Change
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.labels import Labels
from pelagos_contract.tasks import Task
from pelagos_contract.taxonomy import RolledUp
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.faults import MOST, Faults
from pelagos_pipelines.annotations.model import Boxes, Collection, Exclusion, ImageRecord, declared
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.annotations.untrusted_input import (
    format_names,
    format_words,
    is_folder_name,
    is_seen,
    look,
    printable,
)
from pelagos_pipelines.taxonomy.naming import Naming

_SHOWN = 20
"""How many of the source's classes a refusal lists."""
_FEW = 5
_MOST_ROLLED = 20


def applied(
    found: Collection, labels: Labels, naming_of: Callable[[Sequence[str]], Naming] | None = None
) -> Collection:
    """The collection with the requested classes. ``naming_of`` looks their names up in a register of names.

    Raises:
        RefusedError: LABELS_INVALID for names that no annotation has, for contradictions, and if no class is left;
            FORMAT_INVALID for classes whose names look the same; and what ``naming_of`` raises.
    """
    faults = Faults()
    for place, words in contract.faults(labels):
        faults.add(_fault(place, words))
    faults.refuse_any()
    if not (naming_of or labels.include or labels.exclude or labels.rename or labels.merge):
        require_distinct(found.classes)
        return _settled(found)
    meaning = _Meaning(found.classes, frozenset(found.unused), labels, faults)
    wanted = meaning.wanted()
    faults.refuse_any()
    ordered = tuple(dict.fromkeys(name for one in found.classes if (name := wanted[one]) is not None))
    require_distinct(ordered)
    naming = Naming({one: one for one in ordered}) if naming_of is None else naming_of(ordered)
    if wanted == {one: one for one in found.classes} and not naming.changes:
        warnings = (*found.warnings, *meaning.idle, *naming.warnings)
        return _settled(replace(found, warnings=warnings, taxonomy=naming.record(())))
    before = wanted
    if naming.changes:
        wanted = {old: None if new is None else naming.names[new] for old, new in before.items()}
        ordered = tuple(dict.fromkeys(name for one in found.classes if (name := wanted[one]) is not None))
        require_distinct(ordered)
    if not ordered:
        raise _fault(
            "labels.taxonomy.above", "no class is left: set it to Keep, or choose a higher labels.taxonomy.rank"
        )
    made = _Made(found.classes, ordered, wanted, merging=bool(labels.merge) or naming.changes)
    images = tuple(map(made.image, found.images))
    if labels.emptied == "Background" and made.unclassified:
        raise _fault(
            "labels.emptied",
            f"{len(made.unclassified)} images show left out classes alone, and an image of the task {found.task.value} needs a"
            f" class: {format_names(made.unclassified)}; set it to Drop",
        )
    gone = set(made.emptied) if labels.emptied == "Drop" else set()
    left = tuple(image for image in images if image.path not in gone)
    counts = _counts(found) if labels.merge or naming.changes or None in wanted.values() else Counter[str]()
    named = Counter[str]()
    for one, name in before.items():
        if name is not None:
            named[name] += counts[one]
    rolled = naming.rolled_up(named)
    made_of = replace(
        found,
        classes=declared(ordered, left)[0],
        images=left,
        warnings=(
            *(*found.warnings, *meaning.idle, *naming.warnings),
            *_told(found, wanted, made, labels, counts),
            *_told_rolled(rolled, naming),
        ),
        excluded=(*found.excluded, *Exclusion.of(sorted(gone), ExclusionReason.EXCLUDED_CLASS)),
        altered=Altered(found.altered.counts + made.altered.counts),
        taxonomy=naming.record(rolled),
    )
    return _settled(made_of)


def _settled(found: Collection) -> Collection:
    """The collection, after checking that each image's annotations are as the task needs them."""
    task, faults, images = TASKS.named(found.task), Faults(), list[ImageRecord]()
    if found.task is Task.CLASSIFICATION and (odd := [one for one in found.classes if not is_folder_name(one)]):
        words = f"{format_names(odd)} can be no folder, as classes are where Classification is trained"
        faults.add(_fault("labels.rename", f"{words}: give it another name, without /"))
    for image in found.images:
        with faults.noting():
            images.append(task.settled(image))
    faults.refuse_any()
    # Most images have nothing to settle, and unchanged ones are the same objects.
    same = all(one is other for one, other in zip(images, found.images, strict=True))
    return found if same else replace(found, images=tuple(images))


def require_distinct(classes: Iterable[str]) -> None:
    """Refuse classes whose names a person can hardly distinguish: a model would learn one class as two.

    Raises:
        RefusedError: FORMAT_INVALID.
    """
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(look(name), []).append(name)
    same = [names for names in alike.values() if len(names) > 1]
    if same:
        shown = format_names(" and ".join(names) for names in same)
        merged = ", ".join(f"{printable(names[0])}: [{', '.join(map(printable, names))}]" for names in same[:_FEW])
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"{len(same)} classes have names that differ in case, in spaces or in how a character is encoded alone: {shown}; give"
            f" them one name (by labels.merge: {{{merged}}}), or names that can be distinguished",
            "labels.merge",
        )


def _fault(place: str, words: str) -> RefusedError:
    return RefusedError(Reason.LABELS_INVALID, f"{place}: {words}", place)


# --- names and patterns


@dataclass
class _Meaning:
    """Resolves the names and patterns of ``labels`` among ``classes``. ``unused`` are declared classes without annotations.

    Errors are added to ``faults``.
    """

    classes: Sequence[str]
    unused: frozenset[str]
    labels: Labels
    faults: Faults
    idle: list[str] = field(default_factory=list)
    """Warnings about names and patterns that match no class."""
    _fitted: dict[str, frozenset[str]] = field(default_factory=dict)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.classes)

    def wanted(self) -> Mapping[str, str | None]:
        """The new name of each class, None for those left out. Meaningless once a fault was added."""
        asked = self.labels
        for new in (*asked.rename.values(), *asked.merge):
            if not is_seen(new):
                self.faults.add(
                    _fault("labels", f"the new name {printable(new)} has nothing to be seen: choose another")
                )
        for place, names in contract.names_in(asked).items():
            self._require_known(place, names)
        if self.faults.count:  # consequences of a misspelt name are not reported as further faults
            return {}
        included = self._meant(asked.include) if asked.include else self._known
        excluded = self._meant(asked.exclude)
        left = [name for name in self.classes if name in included and name not in excluded]
        if not left:
            self.faults.add(_fault("labels", f"no class is left of {self._there}; include more, or exclude fewer"))
        named = self._named_exactly(frozenset(left), excluded)
        named |= self._fitting(name for name in left if name not in named)
        taken = {new for new in named.values() if new in left and new not in named}
        for new in sorted(taken):
            self._note_taken(new, [old for old, name in named.items() if name == new])
        return dict.fromkeys(self.classes) | {name: named.get(name, name) for name in left}

    def _require_known(self, place: str, names: Iterable[str]) -> None:
        idle, unused = list[str](), list[str]()
        for name in names:
            if name in self._known:
                continue
            if name in self.unused:  # not a misspelling: one list may serve many sources
                unused.append(name)
            elif WILDCARD in name and place != "labels.rename":  # a pattern may match classes of later sources
                idle += [] if self._of(name) else [name]
            else:
                self.faults.add(_fault(place, self._unknown(name, place)))
        if idle:
            self.idle.append(f"{place} has patterns that no class fits: {format_names(idle)}")
        if unused:
            self.idle.append(f"{place} has classes that are declared and no annotation is of: {format_names(unused)}")

    def _unknown(self, name: str, place: str) -> str:
        told = f"no annotation has the class {printable(name)}"
        renamed = [old for old, new in self.labels.rename.items() if new == name]
        merged = [] if place == f"labels.merge.{name}" else self.labels.merge.get(name, [])
        if renamed or merged:
            return f"{told}, which is a new name: write those of the source, {format_names([*renamed, *merged])}"
        if WILDCARD in name:
            return f"{told}; {WILDCARD} stands for any characters in the other lists alone: write one name, or use labels.merge"
        near = difflib.get_close_matches(look(name), self._looks, 2) if self.faults.count < MOST else []
        nearest = f" (nearest is {' or '.join(printable(self._looks[one]) for one in near)})" if near else ""
        there = "" if self.faults.count else f", but {self._there}"  # only the first fault lists the classes
        return f"{told}{nearest}{there}; correct the name, or take it out"

    @cached_property
    def _looks(self) -> Mapping[str, str]:
        return {look(one): one for one in self.classes}

    @property
    def _there(self) -> str:
        return format_names(self.classes, _SHOWN)

    def _meant(self, names: Iterable[str]) -> set[str]:
        """The classes that the names and patterns match."""
        return set[str]().union(*({name} if name in self._known else self._of(name) for name in names))

    def _of(self, pattern: str) -> frozenset[str]:
        """The classes that a pattern matches. Cached: there may be thousands of both, and each is needed more than once."""
        if pattern not in self._fitted:
            self._fitted[pattern] = frozenset(one for one in self.classes if fits(pattern, one))
        return self._fitted[pattern]

    def _named_exactly(self, left: frozenset[str], excluded: set[str]) -> dict[str, str]:
        """The new names of classes that are listed by their exact name, which takes precedence over patterns."""
        listed = [("labels.rename", old, new) for old, new in self.labels.rename.items()]
        listed += [(f"labels.merge.{new}", old, new) for new, names in self.labels.merge.items() for old in names]
        for place, old, _ in listed:
            if old in self._known and old not in left:
                why = "labels.exclude leaves out" if old in excluded else "labels.include does not name"
                self.faults.add(_fault(place, f"{printable(old)} is a class that {why}: correct one of them"))
        return {old: new for _, old, new in listed if old in left}

    def _fitting(self, names: Iterable[str]) -> dict[str, str]:
        """The new names of classes that match a pattern."""
        by: dict[str, list[str]] = {}
        for new, listed in self.labels.merge.items():
            for name in self._meant(one for one in listed if WILDCARD in one and one not in self._known):
                by.setdefault(name, []).append(new)
        named = {}
        for name in names:
            of = by.get(name, [])
            if len(of) > 1:
                words = (
                    f"{printable(name)} fits patterns of {format_names(of)}: write its name in the list of one of them"
                )
                self.faults.add(_fault("labels.merge", words))
            if of:
                named[name] = of[0]
        return named

    def _note_taken(self, new: str, old: Sequence[str]) -> None:
        both = f"{printable(new)}: [{', '.join(map(printable, [*old[:_FEW], new]))}]"
        words = f"{printable(new)} is a class of the source: to make one of all, write labels.merge: {{{both}}}"
        place = f"labels.merge.{new}" if new in self.labels.merge else "labels.rename"
        self.faults.add(_fault(place, f"{words}; else choose another name"))


# --- conversion of annotations


class _Made:
    """Converts images one by one to other classes. ``wanted`` maps each class of ``before`` to one of ``classes``, or None."""

    def __init__(
        self, before: Sequence[str], classes: Sequence[str], wanted: Mapping[str, str | None], *, merging: bool
    ) -> None:
        self._before = {name: number for number, name in enumerate(before)}
        self._classes = tuple(classes)
        numbers = {name: number for number, name in enumerate(classes)}
        self._wanted = {old: (new, numbers[new]) for old, new in wanted.items() if new is not None}
        self._merging = merging
        self._tables: dict[int, tuple[Sequence[str], list[int]]] = {}
        self.emptied: list[str] = []
        """Images that lost all annotations; ``unclassified`` are those of them that need a class, ``thinned`` lost some."""
        self.unclassified: list[str] = []
        self.thinned: list[str] = []
        self.altered = Altered()
        self.equal = 0
        """The number of boxes that merging made equal to another of the same class."""

    def image(self, image: ImageRecord) -> ImageRecord:
        """The image with its annotations of the remaining classes."""
        made = self._marked(image)
        return replace(made, crowds=tuple(self._renamed(image.crowds))) if image.crowds else made

    def _marked(self, image: ImageRecord) -> ImageRecord:
        if image.label is not None:
            label, _ = self._wanted.get(image.label, (None, -1))
            if label is None:
                self.altered.counts[str(Kind.TAG), Change.EXCLUDED_CLASS] += 1
                self.emptied.append(image.path)
                self.unclassified.append(image.path)
            return image if label is None else replace(image, label=label)
        if image.shapes:
            return self._drawn(image)
        if not image.boxes:
            return image
        known = image.boxes if isinstance(image.boxes, Boxes) else Boxes.of(image.boxes, self._before, [*self._before])
        boxes = known.numbered(self._table(known.names), self._classes)
        if len(boxes) < len(known):
            self.altered.counts[str(Kind.RECTANGLE), Change.EXCLUDED_CLASS] += len(known) - len(boxes)
            (self.thinned if boxes else self.emptied).append(image.path)
        if self._merging and len(boxes) > 1:
            self.equal += len(boxes) - len({*boxes})
        return replace(image, boxes=boxes)

    def _drawn(self, image: ImageRecord) -> ImageRecord:
        shapes = [*self._renamed(image.shapes)]
        tagged = image.shapes[0].kind is Kind.TAG  # an image that is classified as a whole has no background
        if not shapes:
            self.emptied.append(image.path)
            self.unclassified += [image.path] if tagged else []
        elif len(shapes) < len(image.shapes) and not tagged:
            self.thinned.append(image.path)
        return replace(image, shapes=tuple(shapes))

    def _renamed(self, shapes: Sequence[Shape]) -> Iterator[Shape]:
        for shape in shapes:
            if shape.label in self._wanted:
                yield replace(shape, label=self._wanted[shape.label][0])
            else:
                self.altered.add(shape, Change.EXCLUDED_CLASS)

    def _table(self, names: Sequence[str]) -> list[int]:
        """The new number of each of ``names``. Cached by file: its images share the names, which may be thousands."""
        known = self._tables.get(id(names))
        if known is None or known[0] is not names:
            known = self._tables[id(names)] = (names, [self._wanted.get(name, ("", -1))[1] for name in names])
        return known[1]


# --- warnings


def _counts(found: Collection) -> Counter[str]:
    """The number of annotations of each class; for a million annotations this takes seconds."""
    task = TASKS.named(found.task)
    return Counter(label for image in found.images for label in task.marks(image))


def _told(
    found: Collection, wanted: Mapping[str, str | None], made: _Made, labels: Labels, counts: Mapping[str, int]
) -> Iterator[str]:
    out = [f"{printable(name)} ({counts[name]})" for name in found.classes if wanted[name] is None]
    if out:
        total = sum(counts[name] for name in found.classes if wanted[name] is None)
        yield f"{total} annotations of {len(out)} classes are left out by labels: {format_words(out[:_FEW], len(out))}"
    if made.emptied and labels.emptied == "Drop":
        yield (
            f"{len(made.emptied)} images show left out classes alone and are left out, as they are no backgrounds:"
            f" {format_names(made.emptied)}"
        )
    elif made.emptied:
        yield f"{len(made.emptied)} images show left out classes alone and are backgrounds: {format_names(made.emptied)}"
    if made.thinned:
        yield (
            f"{len(made.thinned)} images show left out classes beside others; there, what is left out counts as background:"
            f" {format_names(made.thinned)}"
        )
    for new in labels.merge:
        old = [f"{printable(name)} ({counts[name]})" for name in found.classes if wanted[name] == new]
        if old:
            yield f"{printable(new)} is made of {format_words(old[:_FEW], len(old))}"
    if made.equal:
        yield f"{made.equal} boxes of merged classes are equal to one of the same image and class; all are kept: check them"
    kept = {name for name in wanted.values() if name is not None}
    if TASKS.named(found.task).needs_several_classes and len(kept) == 1:
        yield f"{format_names(kept)} is the only class that is left: a model has nothing to tell apart"


def _told_rolled(rolled: Sequence[RolledUp], naming: Naming) -> Iterator[str]:
    for each in rolled[:_MOST_ROLLED] if naming.changes else ():
        parts = [f"{printable(part.name)} ({part.annotations})" for part in each.of]
        yield f"{printable(each.name)} is made of {format_words(parts[:_FEW], len(parts))}"
    if naming.changes and len(rolled) > _MOST_ROLLED:
        yield f"{len(rolled) - _MOST_ROLLED} more classes are made of lower taxa; status.taxonomy.rolledUp lists them"
