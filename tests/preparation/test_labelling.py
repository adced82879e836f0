"""Classes as spec.labels defines them: selected, renamed, merged; only what was requested is lost, and all of it is reported."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pelagos_contract.class_names import fits
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.labels import Labels
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import Box, Boxes, Collection, Exclusion, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.preparation import labelling

CLASSES = ("Cod", "dab", "eel", "plaice", "unknown fish", "unknown ray")


def image(name: str, *labels: str) -> ImageRecord:
    return ImageRecord(name, boxes=tuple(Box(label, place, 1, 2, 3) for place, label in enumerate(labels)))


FOUND = Collection(
    Task.DETECTION,
    CLASSES,
    (
        image("a", "Cod", "dab", "dab"),
        image("b", "plaice", "unknown fish"),
        image("c", "unknown ray"),
        image("d", "eel"),
        image("empty"),
    ),
    warnings=("read",),
    excluded=(Exclusion("e", ExclusionReason.UNLISTED),),
)
PHOTOS = Collection(Task.CLASSIFICATION, CLASSES, tuple(ImageRecord(f"{name}.png", label=name) for name in CLASSES))


def applied(found: Collection = FOUND, **labels: Any) -> Collection:
    return labelling.applied(found, Labels.model_validate(labels))


def shown(found: Collection) -> dict[str, list[str]]:
    return {one.path: [one.label] if one.label else [box.label for box in one.boxes] for one in found.images}


def refusal(found: Collection = FOUND, **labels: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        applied(found, **labels)
    return caught.value


def test_without_labels_nothing_changes() -> None:
    assert applied() is FOUND
    assert applied(emptied="Background") is FOUND


class TestSelection:
    def test_included_classes_are_left_and_images_without_any_are_no_backgrounds(self) -> None:
        done = applied(include=["dab", "eel"])

        assert done.classes == ("dab", "eel")
        assert shown(done) == {"a": ["dab", "dab"], "d": ["eel"], "empty": []}
        assert done.excluded == (
            Exclusion("e", ExclusionReason.UNLISTED),
            Exclusion("b", ExclusionReason.EXCLUDED_CLASS),
            Exclusion("c", ExclusionReason.EXCLUDED_CLASS),
        )
        assert done.warnings == (
            "read",
            "4 annotations of 4 classes are left out by labels: Cod (1), plaice (1), unknown fish (1), unknown ray (1)",
            "2 images show left out classes alone and are left out, as they are no backgrounds: b, c",
            "1 images show left out classes beside others; there, what is left out counts as background: a",
        )

    def test_patterns_exclude_all_that_they_fit(self) -> None:
        done = applied(exclude=["unknown*"])

        assert done.classes == CLASSES[:4]
        assert shown(done) == {"a": ["Cod", "dab", "dab"], "b": ["plaice"], "d": ["eel"], "empty": []}

    def test_exclude_narrows_what_include_has(self) -> None:
        assert applied(include=["*a*", "eel"], exclude=["plaice"]).classes == ("dab", "eel", "unknown ray")

    def test_images_are_backgrounds_when_asked(self) -> None:
        done = applied(exclude=["unknown*"], emptied="Background")

        assert shown(done)["c"] == []
        assert done.excluded == FOUND.excluded
        assert "1 images show left out classes alone and are backgrounds: c" in done.warnings

    def test_an_image_of_one_class_cannot_be_background(self) -> None:
        failure = refusal(PHOTOS, exclude=["eel"], emptied="Background").failure

        assert (failure.reason, failure.field) == (Reason.LABELS_INVALID, "labels.emptied")
        assert "eel.png; set it to Drop" in failure.message

    def test_images_of_one_class_are_left_out_with_it(self) -> None:
        done = applied(PHOTOS, include=["eel"])

        assert shown(done) == {"eel.png": ["eel"]}
        assert len(done.excluded) == 5
        assert done.warnings[-1] == "eel is the only class that is left: a model has nothing to tell apart"

    def test_a_class_that_is_declared_and_not_shown_is_said(self) -> None:
        done = applied(replace(FOUND, unused=("sole", "ray")), exclude=["sole"], merge={"flat": ["dab", "ray"]})

        assert done.classes == ("Cod", "flat", *CLASSES[2:])
        assert done.warnings[1:3] == (
            "labels.exclude has classes that are declared and no annotation is of: sole",
            "labels.merge.flat has classes that are declared and no annotation is of: ray",
        )

    def test_a_pattern_that_fits_nothing_is_said_and_a_class_with_a_star_is_meant_first(self) -> None:
        assert "labels.exclude has patterns that no class fits: larva*" in applied(exclude=["larva*"]).warnings
        starred = Collection(
            Task.CLASSIFICATION, ("a*", "ab"), (ImageRecord("x", label="a*"), ImageRecord("y", label="ab"))
        )
        assert applied(starred, include=["a*"]).classes == ("a*",)


class TestNames:
    def test_renamed_classes_keep_their_places(self) -> None:
        done = applied(rename={"eel": "Anguilla anguilla", "Cod": "Gadus morhua"})

        assert done.classes == ("Gadus morhua", "dab", "Anguilla anguilla", *CLASSES[3:])
        assert shown(done)["a"] == ["Gadus morhua", "dab", "dab"]
        assert done.warnings == FOUND.warnings

    def test_merged_classes_are_one_where_the_first_of_them_stood(self) -> None:
        done = applied(merge={"flatfish": ["plaice", "dab"], "unknown": ["unknown *"]})

        assert done.classes == ("Cod", "flatfish", "eel", "unknown")
        assert shown(done)["b"] == ["flatfish", "unknown"]
        assert done.warnings[1:] == (
            "flatfish is made of dab (2), plaice (1)",
            "unknown is made of unknown fish (1), unknown ray (1)",
        )

    def test_a_class_may_be_merged_into_its_own_name(self) -> None:
        assert applied(merge={"dab": ["dab", "plaice"]}).classes == ("Cod", "dab", "eel", *CLASSES[4:])

    def test_a_name_goes_before_a_pattern(self) -> None:
        done = applied(merge={"unknown": ["unknown*"], "rays": ["unknown ray"]}, rename={"unknown fish": "fish"})

        assert done.classes == ("Cod", "dab", "eel", "plaice", "fish", "rays")

    def test_new_names_may_be_those_of_classes_that_are_left_out(self) -> None:
        assert applied(rename={"Cod": "eel"}, exclude=["eel"]).classes == ("eel", "dab", *CLASSES[3:])

    def test_equal_boxes_of_merged_classes_are_kept_and_said(self) -> None:
        both = ImageRecord("a", boxes=(Box("dab", 1, 2, 3, 4), Box("plaice", 1, 2, 3, 4)))
        done = applied(Collection(Task.DETECTION, ("dab", "plaice"), (both,)), merge={"flat": ["dab", "plaice"]})

        assert shown(done) == {"a": ["flat", "flat"]}
        assert done.warnings[-1].startswith("1 boxes of merged classes are equal to one of the same image and class")

    def test_names_that_look_the_same_can_be_merged(self) -> None:
        alike = Collection(
            Task.CLASSIFICATION, ("Cod", "cod"), (ImageRecord("x", label="Cod"), ImageRecord("y", label="cod"))
        )

        failure = refusal(alike).failure

        assert (failure.reason, failure.field) == (Reason.FORMAT_INVALID, "labels.merge")
        assert "give them one name (by labels.merge: {Cod: [Cod, cod]})" in failure.message
        assert applied(alike, merge={"Cod": ["Cod", "cod"]}).classes == ("Cod",)


@pytest.mark.parametrize(
    ("labels", "place", "words"),
    [
        ({"exclude": ["cod"]}, "labels.exclude", "no annotation has the class cod (nearest is Cod), but Cod, dab"),
        ({"include": ["Plaise"]}, "labels.include", "(nearest is plaice)"),
        ({"rename": {"zebra": "horse"}}, "labels.rename", "no annotation has the class zebra, but Cod, dab, eel"),
        ({"merge": {"flat": ["dab", "sole"]}}, "labels.merge.flat", "no annotation has the class sole"),
        ({"include": ["flat"], "merge": {"flat": ["dab"]}}, "labels.include", "write those of the source, dab"),
        ({"exclude": ["fish"], "rename": {"Cod": "fish"}}, "labels.exclude", "write those of the source, Cod"),
        ({"rename": {"unknown*": "u"}}, "labels.rename", "write one name, or use labels.merge"),
        (
            {"rename": {"Cod": "dab"}},
            "labels.rename",
            "dab is a class of the source: to make one of all, write labels.merge:",
        ),
        ({"merge": {"eel": ["dab"]}}, "labels.merge.eel", "labels.merge: {eel: [dab, eel]}"),
        ({"rename": {"Cod": "x"}, "exclude": ["C*"]}, "labels.rename", "Cod is a class that labels.exclude leaves out"),
        ({"merge": {"x": ["Cod"]}, "include": ["dab"]}, "labels.merge.x", "labels.include does not name"),
        ({"merge": {"x": ["*fish"], "y": ["unk*"]}}, "labels.merge", "unknown fish fits patterns of x, y"),
        ({"rename": {"Cod": "\u200b"}}, "labels", "has nothing to be seen"),
        ({"exclude": ["*"]}, "labels", "no class is left of Cod, dab"),
        ({"include": ["dab"], "exclude": ["dab"]}, "labels.exclude", "dab is in labels.include, too"),
        ({"rename": {"Cod": "dab", "dab": "Cod"}}, "labels.rename", "is an old name and a new one"),
        ({"rename": {"Cod": "x", "dab": "x"}}, "labels.rename", "x is the new name of several classes: write them in"),
        ({"merge": {"x": ["dab"], "y": ["dab"]}}, "labels.merge", "dab is in the lists of several classes"),
        ({"merge": {"x": ["dab"]}, "rename": {"dab": "y"}}, "labels.merge", "dab is also renamed by labels.rename"),
        ({"merge": {"x": ["dab"]}, "rename": {"Cod": "x"}}, "labels.merge", "x is also a new name in labels.rename"),
        ({"merge": {"x": ["dab"], "dab": ["eel"]}}, "labels.merge", "dab is a new name here, and an old one elsewhere"),
    ],
)
def test_what_is_wrong_is_refused_with_field_and_value(labels: dict[str, Any], place: str, words: str) -> None:
    failure = refusal(**labels).failure

    assert (failure.reason, failure.field) == (Reason.LABELS_INVALID, place)
    assert failure.message.startswith(f"{place}: ")
    assert words in failure.message


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert re.match(
        r"2 faults: \(1\) labels\.include: .*Plaise.*\(2\) labels\.rename: .*zebra",
        refusal(include=["Plaise"], rename={"zebra": "x"}).failure.message,
    )


@pytest.mark.parametrize(
    "labels",
    [
        {"rename": {"cod": "a", " cod": "b"}},
        {"merge": {"M\u00fcll": ["a"], "Mu\u0308ll": ["b"]}},
        {"rename": {"cod": "../cod"}},
        {"rename": {"cod": "a\\b"}},
        {"rename": {"cod": ".cod"}},
        {"merge": {"c*": ["cod"]}},
        {"merge": {"cod": []}},
        {"include": [" "]},
        {"include": ["a\nb"]},
        {"rename": {f"{number:0100}": "x" * 100 for number in range(160)}},
        {"level": 0},
        {"level": 33},
        {"level": True},
        {"level": "Third"},
        {"level": 1.5},
    ],
    ids=lambda labels: str(labels)[:40],
)
def test_what_can_be_no_name_and_no_level_is_no_spec(labels: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Labels.model_validate(labels)


def test_names_say_the_same_in_any_order_form_and_spaces() -> None:
    one = Labels.model_validate({"include": ["Mu\u0308ll ", "cod", "cod"], "level": "2"})
    assert one == Labels.model_validate({"include": ["cod", "M\u00fcll"], "level": 2})


def test_many_names_and_patterns_among_many_classes_take_seconds() -> None:
    names = [f"class {number}" for number in range(10_000)]
    found = Collection(Task.CLASSIFICATION, tuple(names), tuple(ImageRecord(name, label=name) for name in names))
    merge = {f"new {part}": [f"class {part * 10 + one}" for one in range(10)] for part in range(100)}

    began = time.process_time()
    assert len(applied(found, merge=merge, exclude=[f"*{number}x*" for number in range(40)]).classes) == 9_100
    assert time.process_time() - began < 10


def test_new_names_that_look_the_same_are_refused() -> None:
    assert "DAB and dab" in refusal(rename={"Cod": "DAB"}).failure.message


# --- for any classes

NAMES = st.sampled_from([f"class {number}" for number in range(8)])
IMAGES = st.lists(st.lists(NAMES, max_size=5), min_size=1, max_size=6)


@given(shown_in=IMAGES, merged=st.sets(NAMES), renamed=st.sets(NAMES), packed=st.booleans())
def test_rename_and_merge_keep_every_annotation_in_its_place(
    shown_in: list[list[str]], merged: set[str], renamed: set[str], packed: bool
) -> None:
    used = sorted({name for names in shown_in for name in names})
    many = [image(str(number), *names) for number, names in enumerate(shown_in)]
    if packed:
        # As in annotation files: each image with its own list of names, some of which it does not use.
        own = ["unused", *reversed(used)]
        numbers = {name: number for number, name in enumerate(own)}
        many = [ImageRecord(one.path, boxes=Boxes.of(one.boxes, numbers, own)) for one in many]
    before = Collection(Task.DETECTION, tuple(used), tuple(many))
    old = sorted(merged & {*used})
    new = {name: f"new {name}" for name in (renamed & {*used}) - {*old}}

    after = applied(before, rename=new, merge={"one": old} if old else {})

    names = new | dict.fromkeys(old, "one")
    assert shown(after) == {path: [names.get(name, name) for name in labels] for path, labels in shown(before).items()}
    assert [box.x for one in after.images for box in one.boxes] == [box.x for one in before.images for box in one.boxes]
    assert {*after.classes} == {names.get(name, name) for name in used}
    assert len({*after.classes}) == len(after.classes)
    places = [min(used.index(name) for name in used if names.get(name, name) == made) for made in after.classes]
    assert places == sorted(places)


@given(shown_in=IMAGES, out=st.sets(NAMES, min_size=1))
def test_what_is_excluded_goes_and_nothing_else(shown_in: list[list[str]], out: set[str]) -> None:
    used = sorted({name for names in shown_in for name in names})
    gone = out & {*used}
    if not gone or gone == {*used}:
        return
    many = tuple(image(str(number), *names) for number, names in enumerate(shown_in))
    after = applied(Collection(Task.DETECTION, tuple(used), many), exclude=sorted(gone))

    left = Counter(name for names in shown(after).values() for name in names)
    assert left == Counter(name for names in shown_in for name in names if name not in gone)
    paths = {one.path for one in after.images} | {one.path for one in after.excluded}
    assert paths == {one.path for one in many}


@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_a_star_stands_for_any_characters(pattern: str, name: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    assert fits(pattern, name) is expected


class TestSeveralTagsOfAnImage:
    """Classification with tools that allow several tags per image: labels decide which of them is the class."""

    @staticmethod
    def tagged(*labels: str) -> Collection:
        one = TASKS.named(Task.CLASSIFICATION).drawn(
            ImageRecord("a"), [Shape(label, Kind.TAG) for label in labels], Altered()
        )
        assert one is not None
        return Collection(Task.CLASSIFICATION, ("blurred", "dab", "plaice"), (one, ImageRecord("b", label="dab")))

    def test_without_labels_they_are_refused(self) -> None:
        failure = refusal(self.tagged("dab", "blurred")).failure

        assert failure.reason is Reason.FORMAT_INVALID
        assert failure.message.startswith("a has 2 classes (blurred, dab), and Classification needs one of each image")

    def test_the_one_that_is_left_is_the_class(self) -> None:
        done = applied(self.tagged("dab", "blurred"), exclude=["blurred"])

        assert shown(done) == {"a": ["dab"], "b": ["dab"]}
        assert done.images[0] == ImageRecord("a", label="dab")
        assert [(each.kind, each.reason, each.annotations) for each in done.altered] == [("tag", "ExcludedClass", 1)]

    def test_those_that_are_merged_are_one(self) -> None:
        assert shown(applied(self.tagged("dab", "plaice"), merge={"flat": ["dab", "plaice"]})) == {
            "a": ["flat"],
            "b": ["flat"],
        }

    def test_an_image_of_which_none_is_left_is_left_out(self) -> None:
        done = applied(self.tagged("plaice", "blurred"), include=["dab"])

        assert [one.path for one in done.excluded] == ["a"]
        assert (
            "labels.emptied"
            in refusal(self.tagged("plaice", "blurred"), include=["dab"], emptied="Background").failure.message
        )

    @pytest.mark.parametrize("name", ["../../out", "a/b", "..", "."])
    def test_a_name_that_would_lead_out_of_a_folder_is_refused_until_it_is_another(self, name: str) -> None:
        found = Collection(
            Task.CLASSIFICATION, (name, "dab"), (ImageRecord("a", label=name), ImageRecord("b", label="dab"))
        )

        failure = refusal(found).failure

        assert failure.field == "labels.rename"
        assert f"{name} can be no folder" in failure.message
        assert applied(found, rename={name: "sole"}).classes == ("sole", "dab")

    def test_what_is_no_better_than_before_is_refused(self) -> None:
        assert (
            "a has 2 classes (blurred, sole)"
            in refusal(self.tagged("dab", "blurred"), rename={"dab": "sole"}).failure.message
        )


def test_shapes_are_selected_and_named_as_boxes_are() -> None:
    def shape(label: str) -> Shape:
        return Shape(label, Kind.POLYGON, (0, 0, 9, 0, 9, 9), (3,))

    one = ImageRecord("a", shapes=(shape("dab"), shape("unknown"), shape("plaice")))
    two = ImageRecord("b", shapes=(shape("unknown"),))
    found = Collection(Task.INSTANCE_SEGMENTATION, ("dab", "plaice", "unknown"), (one, two))

    done = applied(found, merge={"flatfish": ["dab", "plaice"]}, exclude=["unknown"])

    assert done.classes == ("flatfish",)
    assert [(image.path, image.shapes) for image in done.images] == [("a", (shape("flatfish"),) * 2)]
    assert [one.path for one in done.excluded] == ["b"]
    assert "2 annotations of 1 classes are left out by labels: unknown (2)" in done.warnings
    assert [(each.kind, each.reason, each.annotations) for each in done.altered] == [("polygon", "ExcludedClass", 2)]
