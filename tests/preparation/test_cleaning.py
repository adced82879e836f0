"""Which images are dropped and which are refused, and what is reported to the author of the Dataset."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pelagos_contract.dataset import Cleaning
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.splits import Split
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.preparation import cleaning
from pelagos_pipelines.preparation.integrity import Inspection

LOOK = bytes([0, 127] + [0] * 98)


def turned(degrees: float) -> bytes:
    """A look from a series that turns from one wave into another; 8 degrees give a distance of 2."""
    waves = [round(127 * part(math.radians(degrees))) & 0xFF for part in (math.cos, math.sin)]
    return bytes([0, 0, waves[0], *[0] * 19, waves[1], *[0] * 77])


def image(name: str, *boxes: tuple[float, float, float, float], label: str | None = "cod") -> ImageRecord:
    return ImageRecord(name, label=None if boxes else label, boxes=tuple(Box("cod", *box) for box in boxes))


def whole(pixels: str, width: int = 100, height: int = 80, look: bytes | None = None) -> Inspection:
    return Inspection(pixels, 1, width, height, pixels, look)


def broken(name: str) -> Inspection:
    return Inspection(name, 1, problem="it is truncated")


def clean(images: list[ImageRecord], inspections: list[Inspection], **rules: Any) -> cleaning.Cleaned:
    task = Task.CLASSIFICATION if any(image.label for image in images) else Task.DETECTION
    collection = Collection(task, ("cod",), tuple(images))
    seen = {record.path: inspection for record, inspection in zip(images, inspections, strict=True)}
    return cleaning.clean(collection, seen, Cleaning.model_validate(rules))


def kept(cleaned: cleaning.Cleaned) -> list[str]:
    return [record.path for record in cleaned.collection.images]


def refused(images: list[ImageRecord], inspections: list[Inspection], **rules: Any) -> tuple[Reason, str, str | None]:
    with pytest.raises(RefusedError) as caught:
        clean(images, inspections, **rules)
    failure = caught.value.failure
    return failure.reason, failure.message, failure.field


class TestCorruptImages:
    def test_are_dropped_counted_and_named(self) -> None:
        done = clean([image("a"), image("b")], [whole("1"), broken("2")])

        assert kept(done) == ["a"]
        assert (done.found, done.corrupt) == (2, 1)
        assert done.collection.warnings == ("1 unreadable images were dropped: b (it is truncated)",)

    def test_are_refused_when_they_should_fail(self) -> None:
        names = [f"{n}.png" for n in range(7)]

        reason, message, field = refused([image(n) for n in names], [broken(n) for n in names], corrupt="Fail")

        assert (reason, field) == (Reason.CORRUPT_IMAGES, "cleaning.corrupt")
        assert message.startswith("7 images cannot be read: 0.png (it is truncated), ")
        assert "and 2 more; replace them, or set cleaning.corrupt to Drop" in message
        assert "5.png" not in message


class TestOddImages:
    def test_what_is_odd_about_used_images_is_said(self) -> None:
        odd = [Inspection(name, 1, 100, 80, name, remarks=("no end marker", "turned")) for name in "12"]

        done = clean([image("a"), image("b"), image("c")], [*odd, whole("3")])

        assert kept(done) == ["a", "b", "c"]
        assert done.collection.warnings == (
            "2 JPEG files lack their end marker, and nothing else; they are used: a, b",
            "2 images are turned by their EXIF orientation; they are used upright: a, b",
        )

    def test_how_samples_of_sixteen_bits_are_shown_is_said_where_images_differ(self) -> None:
        bits = (8, 12, 12)
        shown = [Inspection(str(i), 1, 100, 80, str(i), remarks=(f"{bit} bits of 16",)) for i, bit in enumerate(bits)]

        done = clean([image("a"), image("b"), image("c")], shown)
        same = clean([image("b"), image("c")], shown[1:])

        assert same.collection.warnings == ()
        assert [warning.rpartition(": ")[2] for warning in done.collection.warnings] == ["a", "b, c"]
        assert all("16 bits a sample" in warning for warning in done.collection.warnings)


class TestSmallImages:
    def test_are_dropped_by_their_shorter_side(self) -> None:
        done = clean([image("a"), image("b")], [whole("1", 100, 31), whole("2", 32, 32)], minSide=32)

        assert kept(done) == ["b"]
        assert done.too_small == 1

    def test_nothing_left_says_which_limit_took_how_many(self) -> None:
        reason, message, _ = refused([image("a"), image("b")], [whole("1", 9, 9), broken("2")], minSide=10)

        assert reason is Reason.NO_IMAGES_LEFT
        assert "1 are unreadable (b: it is truncated) and 1 have a side below cleaning.minSide (10 pixels)" in message
        assert message.endswith("none is left; convert or replace those, or lower cleaning.minSide, or add images")

    def test_nothing_left_of_unreadable_images_does_not_speak_of_their_size(self) -> None:
        _, message, _ = refused([image("a")], [broken("1")])

        assert message.endswith("none is left; convert or replace those, or add images")


class TestDuplicates:
    def test_keep_first_keeps_the_first_by_path(self) -> None:
        done = clean([image("b"), image("a")], [whole("1"), whole("1")])

        assert kept(done) == ["a"]
        assert done.duplicates == 1
        assert done.repeats == {}

    def test_those_that_the_source_has_in_another_split_are_reported(self) -> None:
        given: dict[str, Split] = {"a": "test", "b": "train", "c": "test"}
        images = [replace(image(name), split=split) for name, split in given.items()]

        done = clean(images, [whole("1")] * 3)

        assert done.collection.warnings == (
            "1 duplicates were dropped that the source has in another split than the one kept: b (train) of a (test)",
        )

    def test_kept_ones_are_handed_on_so_that_no_split_parts_them(self) -> None:
        done = clean([image("a"), image("b")], [whole("1"), whole("1")], duplicates={"action": "Keep"})

        assert kept(done) == ["a", "b"]
        assert done.repeats == {"b": "a"}

    def test_near_ones_are_counted_and_kept_until_somebody_asks(self) -> None:
        images, inspections = [image("a"), image("b")], [whole("1", look=LOOK), whole("2", look=LOOK)]

        done = clean(images, inspections)

        assert (kept(done), done.duplicates, done.near_duplicates) == (["a", "b"], 0, 1)
        assert (done.repeats, done.alike, done.collection.warnings) == ({}, {"b": ("a",)}, ())

    def test_near_ones_are_dropped_within_a_distance(self) -> None:
        images, inspections = [image("a"), image("b")], [whole("1", look=LOOK), whole("2", look=LOOK)]

        done = clean(images, inspections, duplicates={"maxDistance": 2})

        assert (kept(done), done.duplicates, done.near_duplicates) == (["a"], 0, 1)
        assert (done.repeats, done.alike) == ({}, {"b": ("a",)})

    def test_near_ones_in_a_chain_are_counted_named_and_kept_together(self) -> None:
        """Frames of a slow change: each looks like the one before, but the last no longer like the first."""
        images = [image("a"), image("b"), image("c", label="eel")]
        inspections = [whole(f"{number}", look=turned(13 * number)) for number in range(3)]

        done = clean(images, inspections)
        together = clean(images, inspections, duplicates={"maxDistance": 4, "action": "Keep"})
        dropped = clean(images, inspections, duplicates={"maxDistance": 4})

        assert (done.alike, done.near_duplicates) == ({"b": ("a",), "c": ("b",)}, 2)
        assert done.collection.warnings[0] == "1 images look like one with other classes: c and b; check their labels"
        assert (together.repeats, together.near_duplicates) == ({"b": "a", "c": "a"}, 2)
        assert (kept(dropped), dropped.near_duplicates) == (["a", "c"], 1)

    def test_boxes_that_go_with_a_near_duplicate_are_reported(self) -> None:
        one, two = (1, 1, 9, 9), (20, 20, 5, 5)
        images = [image("a", one), image("b", one, two), image("c", two)]

        done = clean(images, [whole(f"{number}", look=LOOK) for number in range(3)], duplicates={"maxDistance": 4})

        assert kept(done) == ["a"]
        (warning,) = done.collection.warnings
        assert warning.startswith("1 near duplicates have more or fewer boxes of a class than the image that is kept")
        assert ": b of a; check" in warning

    def test_near_ones_are_kept_together_when_they_are_to_be_kept(self) -> None:
        images, inspections = [image("a"), image("b")], [whole("1", look=LOOK), whole("2", look=LOOK)]

        done = clean(images, inspections, duplicates={"maxDistance": 2, "action": "Keep"})

        assert (kept(done), done.repeats, done.alike) == (
            ["a", "b"],
            {"b": "a"},
            {"b": ("a",)},
        )

    @pytest.mark.parametrize("rules", [{}, {"maxDistance": 2}, {"action": "Fail"}])
    def test_near_ones_of_other_classes_are_named(self, rules: dict[str, Any]) -> None:
        images, inspections = [image("a"), image("b", label="eel")], [whole("1", look=LOOK), whole("2", look=LOOK)]

        done = clean(images, inspections, duplicates=rules)

        assert done.collection.warnings[0] == "1 images look like one with other classes: b and a; check their labels"

    def test_are_refused_when_they_should_fail(self) -> None:
        reason, message, field = refused(
            [image("a"), image("b")], [whole("1"), whole("1")], duplicates={"action": "Fail"}
        )

        assert (reason, field) == (Reason.DUPLICATE_IMAGES, "cleaning.duplicates.action")
        assert message.startswith("1 duplicates and 0 near duplicates: b repeats a; remove them, or set")

    def test_a_corrupt_image_repeats_nothing(self) -> None:
        images, inspections = [image("a"), image("b"), image("c")], [broken("1"), broken("1"), whole("2")]

        done = clean(images, inspections, duplicates={"action": "Fail"})

        assert (kept(done), done.corrupt, done.duplicates) == (["c"], 2, 0)

    def test_with_different_classes_are_refused_because_a_label_would_be_lost(self) -> None:
        images, inspections = [image("cod/a"), image("eel/a", label="eel")], [whole("1"), whole("1")]

        reason, message, field = refused(images, inspections)

        assert (reason, field) == (Reason.DUPLICATE_IMAGES, "cleaning.duplicates.action")
        assert "1 identical images have different annotations: eel/a (eel) and cod/a (cod); " in message
        assert "set cleaning.duplicates.action to Keep" in message

    def test_with_different_classes_are_kept_and_reported_when_all_should_be_kept(self) -> None:
        images, inspections = [image("cod/a"), image("eel/a", label="eel")], [whole("1"), whole("1")]

        done = clean(images, inspections, duplicates={"action": "Keep"})

        assert kept(done) == ["cod/a", "eel/a"]
        assert "different annotations: eel/a (eel) and cod/a (cod); check them" in done.collection.warnings[0]

    def test_the_first_of_identical_images_has_the_boxes_of_the_one_that_has_them_all(self) -> None:
        few, all_of_them = ((1, 1, 9, 9),), ((1, 1, 9, 9), (20, 20, 5, 5))
        images = [image("a", label=None), image("b", *few), image("c", *all_of_them)]

        done = clean(images, [whole("1")] * 3)

        assert kept(done) == ["a"]
        assert [(box.x, box.width) for box in done.collection.images[0].boxes] == [(1, 9), (20, 5)]
        assert done.collection.warnings == (
            "1 images have other boxes than images that are identical; most boxes are kept: a has those of c",
        )

    def test_boxes_that_differ_by_rounding_are_the_same(self) -> None:
        done = clean([image("a", (1, 1, 9, 9)), image("b", (0.9996, 1.0003, 9, 8.9))], [whole("1")] * 2)

        assert (kept(done), done.collection.warnings) == (["a"], ())

    @pytest.mark.parametrize("other", [(40, 40, 9, 9), (1, 1, 19, 9), (1, 4, 9, 9)])
    def test_with_other_boxes_are_refused(self, other: tuple[float, float, float, float]) -> None:
        reason, message, _ = refused([image("a", (1, 1, 9, 9)), image("b", other)], [whole("1")] * 2)

        assert reason is Reason.DUPLICATE_IMAGES
        assert "b (1 boxes) and a (1 boxes)" in message

    def test_boxes_that_were_drawn_on_another_size_are_not_carried_over(self) -> None:
        stale = ImageRecord("b", width=50, height=40, boxes=(Box("cod", 1, 1, 9, 9),))

        assert refused([image("a", label=None), stale], [whole("1")] * 2)[0] is Reason.DUPLICATE_IMAGES


class TestBoxes:
    @pytest.mark.parametrize(
        "box",
        [
            pytest.param((90, 10, 20, 10), id="over the right edge"),
            pytest.param((-5, 10, 20, 10), id="over the left edge"),
            pytest.param((10, 75, 10, 10), id="over the lower edge"),
            pytest.param((10, 10, 0, 10), id="no width"),
            pytest.param((10, 10, 10, -1), id="negative height"),
            pytest.param((300, 300, 10, 10), id="elsewhere"),
            pytest.param((100, 10, 1, 10), id="only its rounding lies outside"),
            pytest.param((float("nan"), 10, 10, 10), id="not a number"),
        ],
    )
    def test_outside_of_their_image_or_without_area_are_refused(self, box: tuple[float, float, float, float]) -> None:
        reason, message, field = refused([image("a.png", box)], [whole("1")])

        assert (reason, field) == (Reason.ANNOTATION_OUTSIDE_IMAGE, "source")
        assert "a.png (cod: " in message

    def test_on_the_edge_are_taken_as_they_are(self) -> None:
        done = clean([image("a", (0, 0, 100, 80))], [whole("1")])

        assert done.collection.images[0].boxes == (Box("cod", 0, 0, 100, 80),)
        assert done.collection.warnings == ()

    def test_over_the_edge_by_rounding_are_cut(self) -> None:
        done = clean([image("a", (-0.5, 0, 100.9, 80.4))], [whole("1")])

        assert done.collection.images[0].boxes == (Box("cod", 0, 0, 100, 80),)
        assert "1 boxes exceeded their image" in done.collection.warnings[0]

    def test_of_a_dropped_image_do_not_matter(self) -> None:
        assert kept(clean([image("a"), image("b", (500, 500, 1, 1))], [whole("1"), broken("2")])) == ["a"]

    @pytest.mark.parametrize(
        ("width", "height", "real", "remark", "doubtful"),
        [
            pytest.param(None, None, (100, 80), "turned", True, id="no size"),
            pytest.param(80, 80, (80, 80), "turned", True, id="a square"),
            pytest.param(100, 80, (100, 80), "turned", False, id="the size of the upright image"),
            pytest.param(None, None, (100, 80), "flipped", True, id="flipped, no size"),
            pytest.param(100, 80, (100, 80), "flipped", True, id="flipped, which keeps the size"),
        ],
    )
    def test_whose_image_was_turned_are_named_unless_their_size_tells_how_they_were_drawn(
        self, width: int | None, height: int | None, real: tuple[int, int], remark: str, doubtful: bool
    ) -> None:
        turned = Inspection("1", 1, *real, "1", None, remarks=(remark,))
        record = ImageRecord("a", width=width, height=height, boxes=(Box("cod", 1, 1, 5, 5),))

        done = clean([record, image("b", (1, 1, 5, 5))], [turned, whole("2")])

        named = [
            one
            for one in done.collection.warnings
            if one.startswith("1 images with boxes are turned or flipped by their EXIF")
        ]
        assert bool(named) is doubtful
        assert all("upright one, as ultralytics takes them: a; look" in one for one in named)
        assert len([one for one in done.collection.warnings if "EXIF" in one]) == 1, "and only once"

    @pytest.mark.parametrize(
        ("count", "last", "height", "said"),
        [
            pytest.param(10, (20, 20, 70, 60), 220, True, id="all"),
            pytest.param(9, (20, 20, 70, 60), 220, False, id="few images"),
            pytest.param(10, (160, 10, 30, 30), 220, False, id="one further right"),
            pytest.param(10, (10, 160, 30, 10), 220, False, id="one further down"),
            pytest.param(10, (20, 20, 70, 60), 200, False, id="small images"),
        ],
    )
    def test_that_all_lie_in_one_quarter_of_their_images_are_named(
        self, count: int, last: tuple[float, float, float, float], height: int, said: bool
    ) -> None:
        images = [image(f"{number}", (5, 5, 20, 20)) for number in range(count - 1)] + [image("last", last)]
        seen = [whole(f"{number}", 300, height) for number in range(count)]
        done = clean([*images, image("background")], [*seen, whole("background")])

        found = [one for one in done.collection.warnings if "quarter" in one]
        assert len(found) == said
        assert all(f"all boxes of {count} images" in one and "within 90 x 80 pixels" in one for one in found)

    def test_on_images_of_another_size_are_told_with_those_outside_of_theirs(self) -> None:
        records = [ImageRecord(name, width=80, height=100, boxes=(Box("cod", 1, 1, 5, 5),)) for name in "ab"]

        _, message, _ = refused([*records, image("c", (300, 300, 1, 1))], [whole("1"), whole("2"), whole("3")])

        assert message.startswith("3 faults: (1) a is annotated as 80 x 100 pixels")
        assert "b is annotated as" in message
        assert "c (cod: 300, 300, 1, 1)" in message

    def test_drawn_on_another_size_of_the_image_are_refused(self) -> None:
        record = ImageRecord("a", width=80, height=100, boxes=(Box("cod", 1, 1, 5, 5),))

        reason, message, _ = refused([record], [whole("1", 100, 80)])

        assert reason is Reason.FORMAT_INVALID
        assert "a is annotated as 80 x 100 pixels, but is 100 x 80" in message
