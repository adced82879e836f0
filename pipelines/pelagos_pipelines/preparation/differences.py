"""Computes the differences between two dataset versions: images, annotations, classes, recipe and excluded files. Pure.

Called by comparing.py. Images are matched by content wherever they lie, and otherwise by path. Two annotations of a matched image
belong to the same object when they cover each other, as in annotations.corrections.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

import orjson

from pelagos_contract.splits import SPLITS
from pelagos_pipelines.annotations import corrections, shapes
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.annotations.tasks import TASKS


@dataclass(frozen=True)
class Side:
    """One of two versions. By path, ``digests`` has the images' sha256, and ``excluded`` the reasons of excluded files."""

    version: str
    uri: str
    collection: Collection
    digests: Mapping[str, str]
    recipe: Mapping[str, Any]
    excluded: Mapping[str, str]


class Kind(StrEnum):
    """The kind of change of an annotation, in an image that both versions have."""

    ADDED = "added"
    REMOVED = "removed"
    MOVED = "moved"
    """Other edges, or another outline."""
    RELABELLED = "relabelled"
    """Another class, wherever its edges are."""
    DESCRIBED = "described"
    """The same class and outline, and other attributes."""


Mark: TypeAlias = tuple[Kind, Shape | None, Shape | None]
"""A change of an annotation: its kind, the former shape and the present one."""


@dataclass(frozen=True)
class Pair:
    """An image that both versions have."""

    was: ImageRecord
    now: ImageRecord
    is_replaced: bool
    """Whether the path is the same and the content differs."""
    marks: Sequence[Mark] = ()

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of changed annotations of each kind."""
        return Counter(kind.value for kind, _, _ in self.marks)


@dataclass(frozen=True)
class Difference:
    """The differences. ``pairs`` has all images that both versions have, ordered by their present paths."""

    was: Side
    now: Side
    pairs: Sequence[Pair] = ()
    added: Sequence[ImageRecord] = ()
    removed: Sequence[ImageRecord] = ()
    unchanged: int = field(default=0)
    """The number of unchanged annotations of images that both versions have."""

    @property
    def replaced(self) -> Sequence[Pair]:
        """Images with other content under the same path."""
        return [pair for pair in self.pairs if pair.is_replaced]

    @property
    def renamed(self) -> Sequence[Pair]:
        """Images with another path."""
        return [pair for pair in self.pairs if pair.was.path != pair.now.path]

    @property
    def divided(self) -> Sequence[Pair]:
        """Images in another split."""
        return [pair for pair in self.pairs if pair.was.split != pair.now.split]

    @property
    def marked(self) -> Sequence[Pair]:
        """Images with other annotations."""
        return [pair for pair in self.pairs if pair.marks]

    def document(self) -> dict[str, Any]:
        """The differences as a JSON document."""
        marks = Counter[str]()
        for pair in self.marked:
            marks.update(pair.counts)
        was, now = self.was.collection, self.now.collection
        return {
            "from": _described(self.was),
            "to": _described(self.now),
            "same": self.was.version == self.now.version,
            "images": {
                "both": len(self.pairs),
                "added": [_told(self.now, image) for image in self.added],
                "removed": [{**_told(self.was, image), **_excluded(self.now, image.path)} for image in self.removed],
                "replaced": [{"path": pair.now.path} for pair in self.replaced],
                "renamed": [{"path": pair.now.path, "was": pair.was.path} for pair in self.renamed],
                "moved": [
                    {"path": pair.now.path, "from": pair.was.split, "to": pair.now.split} for pair in self.divided
                ],
                "regrouped": sum(pair.was.group != pair.now.group for pair in self.pairs),
                "recaptured": sum(pair.was.capture != pair.now.capture for pair in self.pairs),
            },
            "splits": {
                split: {"from": count, "to": then}
                for split in SPLITS
                if (count := _of_split(was, split)) | (then := _of_split(now, split))
            },
            "annotations": {
                "unchanged": self.unchanged,
                **{kind.value: marks[kind.value] for kind in Kind},
                "withAddedImages": sum(len(_marks(self.now, image)) for image in self.added),
                "withRemovedImages": sum(len(_marks(self.was, image)) for image in self.removed),
                "images": [{"path": pair.now.path, **pair.counts} for pair in self.marked],
            },
            "classes": _classes(was, now),
            "recipe": list(_changed(self.was.recipe, self.now.recipe)),
            "excluded": _left_out(self.was.excluded, self.now.excluded),
        }


def between(was: Side, now: Side) -> Difference:
    """The differences between two versions."""
    couples, removed, added = _couples(was, now)
    pairs, unchanged = [], 0
    for before, after in couples:
        marks, same = _compared(was, now, before, after)
        is_replaced = was.digests[before.path] != now.digests[after.path]
        pairs.append(Pair(before, after, is_replaced, marks))
        unchanged += same
    pairs.sort(key=lambda pair: pair.now.path)
    return Difference(was, now, pairs, added, removed, unchanged)


_Couples: TypeAlias = tuple[list[tuple[ImageRecord, ImageRecord]], list[ImageRecord], list[ImageRecord]]


def _couples(was: Side, now: Side) -> _Couples:
    """Match images by path and content, then by content, then by path. The others were removed or added."""
    left = {image.path: image for image in was.collection.images}
    right = {image.path: image for image in now.collection.images}
    found = [
        (left.pop(path), right.pop(path))
        for path in sorted(left.keys() & right.keys())
        if was.digests[path] == now.digests[path]
    ]
    by_content: dict[str, list[str]] = defaultdict(list)
    for path in sorted(left, reverse=True):
        by_content[was.digests[path]].append(path)
    found += [
        (left.pop(places.pop()), right.pop(path))
        for path in sorted(right)
        if (places := by_content.get(now.digests[path]))
    ]
    found += [(left.pop(path), right.pop(path)) for path in sorted(left.keys() & right.keys())]
    return found, [left[path] for path in sorted(left)], [right[path] for path in sorted(right)]


def _compared(was: Side, now: Side, before: ImageRecord, after: ImageRecord) -> tuple[list[Mark], int]:
    """The changed annotations of an image, and the number of unchanged ones."""
    task = TASKS.named(was.collection.task)
    is_stored_alike = was.collection.task is now.collection.task and task.stored(before) == task.stored(after)
    if is_stored_alike and before.crowds == after.crowds:
        return [], len(task.marks(before))
    ones, others = ([*image.marks, *_crowds(image)] for image in (before, after))
    same = Counter(map(_key, ones)) & Counter(map(_key, others))
    left, right = list(_without(ones, same)), list(_without(others, same))
    pairs = [*corrections.matched(left, right), *_tags(left, right)]
    found: list[Mark] = [(_kind(left[one], right[other]), left[one], right[other]) for one, other in pairs]
    gone, new = {one for one, _ in pairs}, {other for _, other in pairs}
    found += [(Kind.REMOVED, shape, None) for place, shape in enumerate(left) if place not in gone]
    found += [(Kind.ADDED, None, shape) for place, shape in enumerate(right) if place not in new]
    return found, same.total()


def _crowds(image: ImageRecord) -> Iterator[Shape]:
    """Regions of crowds, relabelled so that they do not match objects of their class."""
    return (replace(crowd, label=f"{crowd.label} (crowd)") for crowd in image.crowds)


def _tags(left: Sequence[Shape], right: Sequence[Shape]) -> Iterator[tuple[int, int]]:
    """Pairs of indices of changed annotations of the whole image, which have other classes."""
    one, other = (
        [place for place, shape in enumerate(some) if shape.kind is shapes.Kind.TAG] for some in (left, right)
    )
    return zip(one, other, strict=False)


def _kind(one: Shape, other: Shape) -> Kind:
    if one.label != other.label:
        return Kind.RELABELLED
    is_drawn_alike = (one.kind, one.coordinates, one.rings) == (other.kind, other.coordinates, other.rings)
    return Kind.DESCRIBED if is_drawn_alike else Kind.MOVED


def _without(shapes: Iterable[Shape], same: Mapping[bytes, int]) -> Iterator[Shape]:
    rest = dict(same)
    for shape in shapes:
        key = _key(shape)
        if rest.get(key, 0):
            rest[key] -= 1
        else:
            yield shape


def _key(shape: Shape) -> bytes:
    found: bytes = orjson.dumps(shape.document(), option=orjson.OPT_SORT_KEYS)
    return found


# --- words for programs


def _described(side: Side) -> dict[str, Any]:
    images = side.collection.images
    return {
        "version": side.version,
        "uri": side.uri,
        "task": side.collection.task.value,
        "images": len(images),
        "annotations": sum(len(_marks(side, image)) for image in images),
    }


def _marks(side: Side, image: ImageRecord) -> Sequence[str]:
    return TASKS.named(side.collection.task).marks(image)


def _told(side: Side, image: ImageRecord) -> dict[str, Any]:
    return {"path": image.path, "split": image.split, "annotations": len(_marks(side, image))}


def _excluded(side: Side, path: str) -> dict[str, str]:
    """The reason why a file is not in a version, if the version lists one."""
    return {"excluded": side.excluded[path]} if path in side.excluded else {}


def _of_split(collection: Collection, split: str) -> int:
    return sum(image.split == split for image in collection.images)


def _classes(was: Collection, now: Collection) -> dict[str, Any]:
    counts = [_counted(collection) for collection in (was, now)]
    names = [*was.classes, *(name for name in now.classes if name not in was.classes)]
    kept = [[name for name in one.classes if name in other.classes] for one, other in ((was, now), (now, was))]
    return {
        "added": [name for name in now.classes if name not in was.classes],
        "removed": [name for name in was.classes if name not in now.classes],
        "renumbered": kept[0] != kept[1],
        "counts": [
            {"name": name}
            | {what: {"from": counts[0][what][name], "to": counts[1][what][name]} for what in ("images", "annotations")}
            for name in names
        ],
    }


def _counted(collection: Collection) -> Mapping[str, Counter[str]]:
    task = TASKS.named(collection.task)
    showing, marks = Counter[str](), Counter[str]()
    for image in collection.images:
        showing.update(image.labels)
        marks.update(task.marks(image))
    return {"images": showing, "annotations": marks}


def _changed(was: Any, now: Any, where: str = "") -> Iterator[dict[str, Any]]:
    """The fields in which two recipes differ; a field that one of them does not have is None there."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in sorted({*was, *now}):
            yield from _changed(was.get(name), now.get(name), f"{where}.{name}" if where else name)
    elif was != now:
        yield {"field": where, "from": was, "to": now}


def _left_out(was: Mapping[str, str], now: Mapping[str, str]) -> dict[str, Any]:
    return {
        "from": dict(sorted(Counter(was.values()).items())),
        "to": dict(sorted(Counter(now.values()).items())),
        "added": [{"path": path, "reason": now[path]} for path in sorted(now.keys() - was.keys())],
        "removed": [{"path": path, "reason": was[path]} for path in sorted(was.keys() - now.keys())],
        "changed": [
            {"path": path, "from": was[path], "to": now[path]}
            for path in sorted(was.keys() & now.keys())
            if was[path] != now[path]
        ],
    }
