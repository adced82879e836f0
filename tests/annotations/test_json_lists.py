"""The fast parser of COCO files reads what the token-wise parser reads, or leaves the file to that one."""

from __future__ import annotations

import functools
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pelagos_contract.failures import RefusedError
from pelagos_pipelines.annotations import coco_document, json_lists, repeated_boxes
from pelagos_pipelines.sandbox import Answer

NAMES = ("categories", "images", "annotations")
CONTENT: dict[str, Any] = {
    "images": [{"id": number, "file_name": f"{number}.png", "width": 640, "height": 480} for number in range(3)],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2.5, 30, 40], "area": 1200, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [5, 6, 7, 0.5], "area": 3.5, "iscrowd": 0},
        {"id": 3, "image_id": 2, "category_id": 2, "bbox": [5, 6, 70, 80], "area": 5600, "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "cod"}, {"id": 2, "name": "eel"}],
}


def told(content: bytes, *, fast: bool) -> Answer | str:
    """What is read from a file, or the refusal's message."""

    def once(document: coco_document.Document) -> Answer:
        if not fast and isinstance(document, json_lists.Lists):
            raise json_lists.UnevenError
        boxes = coco_document._Boxes("a.json")
        coco_document.fill(boxes, document, 1000, 1000)
        return boxes.answer()

    try:
        return coco_document.patiently("a.json", io.BytesIO(content), once)
    except RefusedError as refusal:
        return refusal.failure.message


def plain(**changed: Any) -> bytes:
    return json.dumps(CONTENT | changed).encode()


@pytest.mark.parametrize(
    "content",
    [
        plain(),
        json.dumps(CONTENT, indent=3).encode(),
        b"\xef\xbb\xbf \n" + plain() + b"\n\t ",
        json.dumps(dict(reversed(CONTENT.items())), separators=(",", ":")).encode(),
        plain(info={"images": [1, 2], "text": '"annotations": ['}),
        plain(info={"text": "images"}, licenses=[], none=None),
        plain(annotations=[]),
        plain(annotations=[*CONTENT["annotations"], 3, "x", None, [], {}]),
        plain(categories=[{"id": 1, "name": "鰊 é"}, {"id": 2, "name": "\ud83d\udc1f"}]),
        plain(categories=[{"id": 1, "name": "\ud800"}]),
        plain().replace(b'"images"', b'"im\\u0061ges"'),
        plain(**{"images.item": {"id": 7, "file_name": "7.png"}}),
        plain().replace(b'"image_id": 2', b'"image_id": 12345678901234567890123'),
        plain().replace(b'"id": 2, "file_name"', b'"id": 12345678901234567890123, "file_name"'),
        plain().replace(b"2.5", b"2.12345678901234567890123"),
        plain().replace(b"2.5", b"NaN"),
        plain().replace(b"2.5", b"1e400"),
        plain().replace(b"2.5", b"-0"),
        plain().replace(b"2.5", b"02.5"),
        plain() + b"{}",
        plain()[:-1] + b', "images": []}',
        plain()[:-1] + b",}",
        plain().replace(b'"iscrowd": 1}]', b'"iscrowd": 1},]'),
        plain().replace(b'"iscrowd": 1}]', b'"iscrowd": 1}}'),
        plain().replace(b"cod", b"c\xffd"),
        plain().replace(b"cod", b"c\nd"),
        plain().replace(b'"cod"', b"[" * 5000 + b"]" * 5000),
        plain(images={"a": 1}),
        b'{"images": [], "annotations": []}',
        b"[]",
        b"",
        *(plain()[:end] for end in range(0, len(plain()), 29)),
    ],
)
def test_files_of_all_sorts_are_read_as_by_the_other_parser(content: bytes) -> None:
    assert told(content, fast=True) == told(content, fast=False)


def test_entries_of_many_pieces_and_long_ones_come_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lists, "_PIECE", 256)
    lists = {
        "images": [*range(200)],
        "annotations": [{"a": [{"b": n}, {"c": "}, {" * n}]} for n in range(60)],
        "categories": [],
    }
    found = json_lists.Lists(io.BytesIO(json.dumps({"x": 1} | lists).encode()), NAMES)
    assert {name: [entry for part in found.entries(name) for entry in part] for name in NAMES} == lists
    found.prove()


kinds = (st.none(), st.booleans(), st.integers(-3, 700), st.integers(), st.floats(width=32))
value = st.one_of(*kinds, st.sampled_from(["", "2", "02", "a", [], {}, [1]]))
box = st.lists(st.floats(0, 600, width=32) | st.integers(0, 600), min_size=4, max_size=4)
mark = st.fixed_dictionaries(
    {"image_id": st.integers(0, 2), "category_id": st.integers(1, 2), "bbox": box, "area": st.integers(0, 90_000)},
    optional={
        "iscrowd": st.integers(0, 1),
        "segmentation": st.sampled_from([[], [[1, 1, 9, 1, 9, 9]]]),
        "attributes": st.sampled_from([{}, {"occluded": True}, {"rotation": 30}]),
        "score": st.just(0.5),
        "note": st.just("seen"),
    },
)
PLAIN = {"image_id": 1, "category_id": 1, "bbox": [10, 20, 40, 60], "area": 2400}
odd = st.dictionaries(st.sampled_from(["image_id", "category_id", "bbox", "area", "iscrowd", "keypoints"]), value)


class OneByOne(coco_document.Coco):
    """A reader that takes each entry on its own."""

    def take_together(self, member: str, entries: list[Any]) -> bool:
        return False


def answers(content: bytes) -> list[Answer]:
    """The results of reading many entries at a time, and of reading one by one."""
    found = [coco_document._Boxes("a.json"), OneByOne("a.json")]
    for reading_ in found:
        fill = functools.partial(coco_document.fill, reading_, most=99, most_images=99)
        coco_document.patiently("a.json", io.BytesIO(content), fill)
    return [reading_.answer() for reading_ in found]


@settings(max_examples=150, deadline=None)
@given(st.lists(mark, max_size=6), st.lists(odd, max_size=1), st.booleans())
@example([{"image_id": 1, "category_id": 1, "bbox": [10, 20, 40, 60], "area": 1200}] * 4, [], False)
@example([PLAIN | {"note": ""}, PLAIN | {"keypoints": [1, 1, 2]}], [], False)
@example([PLAIN, PLAIN | {"keypoints": [1, 1, 2]}], [], False)
def test_annotations_of_all_sorts_are_read_as_one_by_one(marks: list[Any], others: list[Any], first: bool) -> None:
    changes = others if first else []
    listed = [*({**mark, **change} for mark, change in zip(marks, changes, strict=False)), *marks, *others]
    content = plain(annotations=listed)
    together, each = answers(content)
    assert together == each


image = st.fixed_dictionaries(
    {"id": st.integers(-1, 12), "file_name": st.sampled_from(["a.png", "", "b/ä.png"]), "width": st.integers(0, 9)},
    optional={"height": st.integers(1, 9), "group": st.sampled_from(["dive", None]), "split": st.just("val")},
)
odd_image = st.dictionaries(st.sampled_from(["id", "file_name", "width", "height", "group", "split"]), value)


@settings(max_examples=150, deadline=None)
@given(st.lists(image, max_size=6), st.lists(odd_image, max_size=1), st.booleans())
@example([{"id": 10**18 + n, "file_name": "a", "width": 1, "height": 2**31 - n} for n in range(2)], [], False)
@example([{"id": 1, "file_name": "a", "width": 1, "height": 2}, {"id": True, "file_name": "a"}], [], False)
def test_images_of_all_sorts_are_read_as_one_by_one(images: list[Any], others: list[Any], first: bool) -> None:
    changes = others if first else []
    listed = [*({**one, **change} for one, change in zip(images, changes, strict=False)), *images, *others]
    together, each = answers(plain(images=listed))
    assert together == each


def test_boxes_that_repeat_are_found_among_neighbours_as_among_all() -> None:
    random = np.random.default_rng(3)
    for spread in (3, 12, 60):
        whose, classes = (random.integers(0, most, 600).astype(np.int32) for most in (4, 2))
        sides = random.integers(0, spread, (600, 4)) + random.choice([0, 0, 0.3, 0.6], (600, 4)) + 1.0
        for one in (whose, classes, sides):
            one[300:400] = one[200:300]
        for scale in (1.0, 2.0**-10):  # in pixels, and as fractions
            found = repeated_boxes.first_of_equal(whose, classes, sides * scale, 0.5 * scale)
            assert (
                found.tolist() == repeated_boxes._first_of_crowded(whose, classes, sides * scale, 0.5 * scale).tolist()
            )
            assert len(found) < 600


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from([0.0, 0.1, 2.5]), st.sampled_from([1.0, 1e-9, 1e300]))
def test_no_neighbour_is_passed_over_when_few_are_looked_at(data: st.DataObject, reach: float, scale: float) -> None:
    places = st.lists(
        st.integers(-30, 30).map(lambda place: place * 0.1 * scale) | st.floats(-1e300, 1e300), max_size=9
    )
    where: Any = np.array(data.draw(places), float)
    kinds: Any = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(where), max_size=len(where))), np.int64)
    found = {*repeated_boxes._may_have_neighbours(kinds, where, reach * scale).tolist()}
    pairs = [(one, other) for one in range(len(where)) for other in range(one)]
    near = [(a, b) for a, b in pairs if kinds[a] == kinds[b] and abs(where[a] - where[b]) <= reach * scale]
    assert found.issuperset({one for pair in near for one in pair})


def test_a_file_of_more_crowds_than_are_kept_is_refused_with_what_may_be_meant() -> None:
    reading = coco_document._Boxes("a.json")
    reading.crowded.extend([0, 0] * (coco_document.MOST_CROWDS + 1))
    with pytest.raises(
        RefusedError, match=r"has 200001 annotations of crowds .* at most 200000 .*: set iscrowd to 0 where"
    ):
        reading.answer()
