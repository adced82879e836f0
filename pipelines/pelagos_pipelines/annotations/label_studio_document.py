"""Parses a JSON export of Label Studio: tasks, each with an image and people's annotations.

Called in a child of the sandbox, by reading.drawings. Coordinates are percentages of the image's sides. A rectangle is turned
about its upper left corner, which is at x and y, an ellipse about its centre; angles are degrees, clockwise.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from pelagos_contract.dataset import SUGGESTED_BY
from pelagos_pipelines.annotations import brushes, drawings, image_urls, shapes
from pelagos_pipelines.annotations.drawings import MAX_TEXT, Drawings, Drawn, OtherKindError
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import split_of
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid

_Object = Mapping[str, Any]
_MIN = frozenset({"annotation_id", "annotator", "lead_time"})
"""Members of an entry in JSON-MIN, beside its answers."""
_WHOLE = 100.0
_DOUBTED = 3
"""Least number of regions that cannot all be in one corner by chance."""


def _read(found: Drawings, file: BinaryIO) -> None:
    near = 0
    is_far = False
    for number, entry in enumerate(drawings.entries(found, file)):
        if number == 0:
            _require_tasks(found, entry)
        with found.faults.noting():
            if not _is_task(entry):
                raise invalid(f"{found.where}: task {number} has no data and annotations: export it again as JSON")
            images = _Task(found, entry, f"task {number} (counted from 0)").read()
            is_far = is_far or any(map(_goes_far, images))
            near += sum(bool(shape.coordinates) for image in images for shape in image.shapes)
    if near >= _DOUBTED and not is_far:
        raise invalid(
            f"{found.where}: all regions lie in the first hundredth of their images, as if they were fractions from 0 to 1: "
            "write positions as percents, from 0 to 100"
        )


def _is_one(file: BinaryIO) -> bool:
    """Whether its first entry is a task, possibly of JSON-MIN, which is refused with a message later."""
    first = drawings.first_entry(file)
    return _is_task(first) or _is_min(first)


def _is_task(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("data"), dict) and _submitted(entry) is not None


def _is_min(entry: object) -> bool:
    return isinstance(entry, dict) and entry.keys() >= _MIN and "data" not in entry


def _submitted(task: _Object) -> list[Any] | None:
    """The annotations of a task, which older servers call completions."""
    found = task.get("annotations", task.get("completions"))
    return found if isinstance(found, list) else None


def _goes_far(image: Drawn) -> bool:
    """Whether a shape has a coordinate or length of more than a hundredth of the image."""
    near = max(image.width or 0, image.height or 0) / _WHOLE
    return any(shape.kind is Kind.MASK or any(one > near for one in shape.coordinates[:4]) for shape in image.shapes)


def _require_tasks(found: Drawings, entry: object) -> None:
    if _is_min(entry):
        raise invalid(
            f"{found.where} is a JSON-MIN export, which does not say who drew what and when: export the project as JSON"
        )
    if not _is_task(entry):
        raise OtherKindError


class _Task:
    """A task: its image or images, and the one of its annotations that counts."""

    def __init__(self, found: Drawings, task: _Object, place: str) -> None:
        self._found, self._task, self._place = found, task, place
        self._annotator: str | None = None

    def read(self) -> Sequence[Drawn]:
        """Add the images with their shapes."""
        counted = self._found.counted
        counted["predictions"] += _length(self._task.get("predictions"))
        counted["drafts"] += _length(self._task.get("drafts"))
        chosen = self._chosen()
        results = _listed(chosen, "result") if chosen is not None else []
        self._annotator = None if chosen is None else _person(chosen.get("completed_by"))
        images = self._images(results, is_labelled=chosen is not None)
        by_region: dict[str, list[tuple[int, _Object]]] = {}
        for number, result in enumerate(results):
            if not isinstance(result, dict):
                raise invalid(f"{self._found.where}: {self._place}: result {number} is not an object: export it again")
            if result.get("type") == "relation":
                counted["relations"] += 1
            else:
                by_region.setdefault(_word(result.get("id")) or f"number {number}", []).append((number, result))
        for parts in by_region.values():
            page = _page(parts[0][1])
            if not 0 <= page < len(images):
                raise invalid(
                    f"{self._found.where}: {self._place}: a region refers to an image that the task does not have"
                )
            self._region(images[page], parts)
        if chosen is not None:
            self._suggested(images, chosen)
        return images

    def _suggested(self, images: Sequence[Drawn], chosen: _Object) -> None:
        """Record the suggestions of our model that a person reviewed; faults in them are ignored.

        Plain exports only have the ids of predictions; annotations made in the page contain the prediction that was shown.
        """
        listed = self._task.get("predictions")
        known = [*(listed if isinstance(listed, list) else ()), chosen.get("prediction")]
        predictions = [each for each in known if isinstance(each, dict)]
        ours = [each for each in predictions if _word(each.get("model_version")).startswith(SUGGESTED_BY)]
        if not ours:
            return
        newest = max(ours, key=_rank)
        task = {**self._task, "annotations": [{"result": newest.get("result")}], "predictions": [], "drafts": []}
        apart = Drawings(self._found.where, Faults(), self._found.limit - self._found.entries)
        with apart.faults.noting():
            for image, guess in zip(images, _Task(apart, task, self._place).read(), strict=False):
                image.model, image.predicted = _word(newest.get("model_version"))[:MAX_TEXT], guess.shapes
        self._found.entries += apart.entries

    def _chosen(self) -> _Object | None:
        """The annotation marked as ground truth, or the newest; None when nobody submitted one."""
        submitted = [each for each in _submitted(self._task) or () if isinstance(each, dict)]
        kept = [each for each in submitted if each.get("was_cancelled") is not True]
        self._found.counted["cancelled"] += len(submitted) - len(kept)
        if not kept:
            return None
        chosen = max(kept, key=_rank)
        for other in kept:
            if other is not chosen:
                self._found.counted["superseded"] += len(_listed(other, "result"))
        return chosen

    def _images(self, results: Sequence[object], *, is_labelled: bool) -> list[Drawn]:
        data: _Object = self._task["data"]
        split = next((data[key] for key in ("split", "subset") if isinstance(data.get(key), str)), "")
        pages = image_urls.of_task(data, self._task.get("file_upload"))
        if (
            image_urls.several(data)
            and len({_word(each.get("to_name")) for each in results if isinstance(each, dict)}) > 1
        ):
            raise invalid(
                f"{self._found.where}: {self._place}: regions belong to several images with names that only the labelling "
                "configuration explains: create a task for each image, or list the images under one name"
            )
        sizes: dict[int, tuple[object, object]] = {}
        for result in results:
            if isinstance(result, dict) and result.get("original_width") is not None:
                size = (result["original_width"], result.get("original_height"))
                if sizes.setdefault(_page(result), size) != size:
                    raise invalid(
                        f"{self._found.where}: {self._place}: regions belong to images of two sizes: export it again"
                    )
        return [
            self._found.image(
                names,
                self._place,
                sizes.get(page, (None, None)),
                split=split_of(split[:MAX_TEXT]),
                is_labelled=is_labelled,
            )
            for page, names in enumerate(pages)
        ]

    def _region(self, image: Drawn, parts: Sequence[tuple[int, _Object]]) -> None:
        """Add the region with one id: its shape, and the answers about it."""
        drawn = [(number, part) for number, part in parts if _word(part.get("type")) in _MAKERS]
        rest = [part for _, part in parts if _word(part.get("type")) not in _MAKERS]
        if not drawn:
            for part in rest:
                self._whole(image, part)
            return
        for number, part in drawn:
            place = f"{self._place}: result {number}"
            extras = {"attributes": _answers(part, rest), **self._rest(part)}
            size = (image.width or 0, image.height or 0)
            for label in _labels(part, rest):
                self._found.shape(image, place, label, functools.partial(_shape, part, size, extras))

    def _whole(self, image: Drawn, part: _Object) -> None:
        """Add an answer about the whole image."""
        value = part.get("value")
        kind = _word(part.get("type"))
        if kind not in _CLASSES or not isinstance(value, dict):
            if kind in _ANSWERS:
                self._found.counted["answers"] += 1
            else:
                self._found.passed_over(image, "others")
            return
        for label, path in _chosen_classes(value.get(kind)):
            extras: dict[str, Any] = {"attributes": {"taxonomy": path} if path else {}, **self._rest(part)}
            self._found.shape(image, f"{self._place}: {kind}", label, functools.partial(Shape, kind=Kind.TAG, **extras))

    def _rest(self, part: _Object) -> dict[str, Any]:
        score = part.get("score")
        sure = float(score) if isinstance(score, int | float) and 0 <= score <= 1 else None
        return {"annotator": self._annotator, "confidence": sure, "origin": _word(part.get("id")) or None}


def _rank(annotation: _Object) -> tuple[bool, str, str, int]:
    """Sort key: ground truth first, then the newest; the text of times sorts like the times."""
    key = annotation.get("id")
    updated, created = (_word(annotation.get(name)) for name in ("updated_at", "created_at"))
    return annotation.get("ground_truth") is True, updated or created, created, key if type(key) is int else 0


def _page(result: _Object) -> int:
    """The index of the image in the task's list; -1 for an invalid one."""
    page = result.get("item_index", 0)
    return page if type(page) is int else -1


def _word(value: object) -> str:
    """A text or number as text; empty for anything else."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _labels(part: _Object, rest: Sequence[_Object]) -> list[object]:
    """The classes of a region: its own, or those from another control for the region; None for one without a class."""
    kind = str(part["type"])
    value = part.get("value")
    own = value.get(kind) if isinstance(value, dict) else None
    if not own:
        own = next(
            (each["value"].get("labels") for each in rest if each.get("type") == "labels" and _has_value(each)), None
        )
    return list(dict.fromkeys(map(_as_label, own))) if isinstance(own, list) and own else [None]


def _as_label(label: object) -> object:
    return label if isinstance(label, str) else None


def _has_value(part: _Object) -> bool:
    return isinstance(part.get("value"), dict)


def _answers(part: _Object, rest: Sequence[_Object]) -> dict[str, str]:
    """The answers about a region by the name of the control, and the region's origin if it was not drawn by hand."""
    found: dict[str, str] = {}
    meta = part.get("meta")
    if isinstance(meta, dict) and isinstance(meta.get("text"), list):
        found["meta"] = " ".join(map(_word, meta["text"]))
    for each in rest:
        kind = _word(each.get("type"))
        if kind in _ANSWERS and _has_value(each):
            found[_word(each.get("from_name")) or kind] = _in_words(each["value"].get(_ANSWERS[kind]))
    origin = part.get("origin")
    if isinstance(origin, str) and origin not in {"", "manual"}:
        found["origin"] = origin
    return found


def _in_words(answer: object) -> str:
    if isinstance(answer, list):
        return ", ".join("/".join(map(_word, each)) if isinstance(each, list) else _word(each) for each in answer)
    return _word(answer)


def _chosen_classes(chosen: object) -> Iterator[tuple[object, str]]:
    """The classes of a whole image, each with its path: for a taxonomy the last level, and the whole path."""
    for each in chosen if isinstance(chosen, list) else [chosen]:
        if isinstance(each, list) and each:
            yield each[-1], "/".join(map(_word, each))
        else:
            yield each, ""


def _person(who: object) -> str | None:
    """The email address or id of the person who submitted it."""
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    return _word(who) or None


def _listed(of: _Object, name: str) -> list[Any]:
    found = of.get(name)
    return found if isinstance(found, list) else []


def _length(found: object) -> int:
    return len(found) if isinstance(found, list) else 0


_CLASSES = frozenset({"choices", "taxonomy"})
"""Controls that give the class of a whole image."""
_ANSWERS: Mapping[str, str] = {
    "choices": "choices",
    "taxonomy": "taxonomy",
    "rating": "rating",
    "number": "number",
    "textarea": "text",
    "datetime": "datetime",
    "ranker": "ranker",
    "pairwise": "selected",
}
"""Results that are not regions, and the path of their value."""


def _shape(part: _Object, size: tuple[int, int], extras: dict[str, Any], label: str) -> Shape:
    turned = part.get("image_rotation") or 0
    if turned != 0:
        raise ValueError(
            f"a region was drawn on an image that was turned by {turned:g} degrees (image_rotation), so its position is "
            "ambiguous: turn the image itself, and draw the region again"
        )
    if not all(size):
        raise ValueError("a region has percents, but original_width and original_height of its image are missing")
    return _MAKERS[part["type"]](label, part["value"], size, extras)


_Maker = Callable[[str, _Object, tuple[int, int], dict[str, Any]], Shape]


def _rectangle(label: str, value: _Object, size: tuple[int, int], extras: dict[str, Any]) -> Shape:
    x, y = _pixels(value, "x", size[0]), _pixels(value, "y", size[1])
    width, height = _pixels(value, "width", size[0]), _pixels(value, "height", size[1])
    angle = _number(value.get("rotation") or 0)
    if angle % 360 == 0:
        return shapes.rectangle(label, x, y, width, height, angle, **extras)
    # Turned about the corner in Label Studio, about the centre in shapes.
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    left = x + (width * cosine - height * sine - width) / 2
    top = y + (width * sine + height * cosine - height) / 2
    return shapes.rectangle(label, left, top, width, height, angle, **extras)


def _ellipse(label: str, value: _Object, size: tuple[int, int], extras: dict[str, Any]) -> Shape:
    numbers = [_pixels(value, name, size[number % 2]) for number, name in enumerate(("x", "y", "radiusX", "radiusY"))]
    return Shape(label, Kind.ELLIPSE, (*numbers, _number(value.get("rotation") or 0)), **extras)


def _polygon(label: str, value: _Object, size: tuple[int, int], extras: dict[str, Any]) -> Shape:
    flat = [_scaled(one, side) for point in value["points"] for one, side in zip(point, size, strict=True)]
    if value.get("closed") is False:
        return Shape(label, Kind.LINE, tuple(flat), **extras)
    return shapes.polygon(label, flat, **extras)


def _point(label: str, value: _Object, size: tuple[int, int], extras: dict[str, Any]) -> Shape:
    return Shape(label, Kind.POINT, (_pixels(value, "x", size[0]), _pixels(value, "y", size[1])), **extras)


def _brush(label: str, value: _Object, size: tuple[int, int], extras: dict[str, Any]) -> Shape:
    if value.get("format") != "rle":
        raise ValueError("a mask has a format other than rle")
    return brushes.decoded(label, value.get("rle"), size, **extras)


def _pixels(value: _Object, name: str, side: int) -> float:
    return _scaled(value[name], side)


def _scaled(percent: object, side: int) -> float:
    return _number(percent) * side / _WHOLE


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("numbers")
    return float(value)


_KINDS: Mapping[str, _Maker] = {
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "keypoint": _point,
    "brush": _brush,
}
_MAKERS: Mapping[str, _Maker] = {f"{kind}{end}": maker for kind, maker in _KINDS.items() for end in ("", "labels")}
parse = drawings.task(_read)
is_one = drawings.question(_is_one)
