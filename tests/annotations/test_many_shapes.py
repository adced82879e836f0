"""Shapes by the million: little memory for each, and the child's lines are believed only within limits."""

from __future__ import annotations

import zlib

import orjson
import pytest

from pelagos_pipelines.annotations import many_shapes
from pelagos_pipelines.annotations.drawings import Drawings
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.many_shapes import Shapes, Written
from pelagos_pipelines.annotations.shapes import Kind, Shape, rectangle

BOX = rectangle("cod", 1234.56, 2345.67, 50.25, 40.5, attributes={"sex": "f", "note": 'a\nb, "c"'})
LINE = Shape("eel", Kind.LINE, (1, 2, 3, 4), confidence=0.5, annotator="me", origin="7")


def test_they_are_a_list_that_grows() -> None:
    shapes = Shapes([BOX])
    shapes.append(LINE)
    shapes.extend(Shapes([BOX]))

    assert shapes == [BOX, LINE, BOX]
    assert (shapes[1], shapes[-1], shapes[:2], len(shapes)) == (LINE, BOX, [BOX, LINE], 3)
    assert list(shapes.labels) == ["cod", "eel"]
    assert orjson.loads(shapes.encoded()) == [BOX.document(), LINE.document(), BOX.document()]
    assert orjson.loads(Shapes().encoded()) == []
    assert not Shapes()


def test_one_takes_no_more_than_its_text() -> None:
    shapes = Shapes(BOX for _ in range(1000))

    assert len(shapes.encoded()) < 1000 * 150


def test_text_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="a shape has text that is not Unicode"):
        Shapes([Shape("cod", Kind.TAG, attributes={"note": "\ud800"})])


def sent(*lines: bytes) -> bytes:
    written = Written()
    for line in lines:
        written.add(line)
    return written.content()


def test_lines_come_as_they_were_written() -> None:
    lines = [b"a" * length for length in (0, 1, 2**20 - 1, 2**20, 3 * 2**20 + 5)]

    assert list(many_shapes.lines(sent(*lines), 2**24)) == lines


@pytest.mark.parametrize(
    "content",
    [b"", b"no", sent(b"a" * 100)[:-3], zlib.compress(b"\0" * 10**6)],
    ids=["none", "another", "torn", "bomb"],
)
def test_what_is_no_answer_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="lines"):
        list(many_shapes.lines(content, 10**5))


def restored(found: dict[str, object], *images: dict[str, object]) -> Drawings:
    told = {"labels": ["cod"], "declared": 0, "counted": {}, "images": 1} | found
    return Drawings.restored(told, iter([orjson.dumps(image) for image in images]), "a.json")


def image(**more: object) -> dict[str, object]:
    drawings = Drawings("a.json", Faults(), 9)
    drawings.image(["a.png"], "image 0").shapes.append(BOX)
    written = Written()
    drawings.write(written)
    _, line = many_shapes.lines(written.content(), 10**6)
    found: dict[str, object] = orjson.loads(line)
    return found | more


def test_an_image_comes_as_it_was_written() -> None:
    (found,) = restored({}, image()).images

    assert (found.names, list(found.shapes)) == (("a.png",), [BOX])


@pytest.mark.parametrize(
    ("told", "images"),
    [
        ({"images": 2}, [image()]),
        ({"images": -1}, [image()]),
        ({"labels": ["eel"]}, [image()]),
        ({"labels": [" "]}, [image()]),
        ({"declared": 2}, [image()]),
        ({}, [image(names=[])]),
        ({}, [image(width=-1)]),
        ({}, [image(split="other")]),
        ({}, [image(shapes=[{"class": "cod", "kind": "blob", "coordinates": []}])]),
        ({}, [image(shapes=[{"class": "cod", "kind": "point", "coordinates": [1, None]}])]),
    ],
)
def test_an_answer_that_a_child_which_was_taken_over_may_give_is_refused(
    told: dict[str, object], images: list[dict[str, object]]
) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, IndexError)):
        restored(told, *images)
