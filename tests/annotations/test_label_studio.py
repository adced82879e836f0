"""Label Studio's JSON export: percents become pixels, one annotation of a task counts, and nothing is dropped silently."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from image_sources import document, photo, read, text, tree_of
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import brushes, masks, reading
from pelagos_pipelines.annotations.drawings import Drawings
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Box, Exclusion
from pelagos_pipelines.annotations.shapes import Kind, Shape

PARSER = "pelagos_pipelines.annotations.label_studio_document"
PLACE = {"x": 10, "y": 25, "width": 20, "height": 50, "rotation": 0}


def region(kind: str, value: dict[str, Any], label: str | None = "cod", **more: Any) -> dict[str, Any]:
    """A result; the image has 100 x 80 pixels."""
    found = {
        "id": "Ab3",
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": 100,
        "original_height": 80,
    }
    named = {} if label is None else {kind: [label]}
    return {**found, "image_rotation": 0, "origin": "manual", "value": value | named, **more}


BOX = region("rectanglelabels", PLACE)


def choice(*labels: str, **more: Any) -> dict[str, Any]:
    """A choice for the whole image."""
    return {
        "id": "c",
        "type": "choices",
        "from_name": "choice",
        "to_name": "image",
        "value": {"choices": labels},
        **more,
    }


def annotation(
    *results: dict[str, Any], key: int = 1, updated: str = "2026-11-01T10:00:00Z", **more: Any
) -> dict[str, Any]:
    return {"id": key, "completed_by": 7, "was_cancelled": False, "ground_truth": False, "updated_at": updated} | {
        "result": results,
        **more,
    }


def task(*annotations: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-a.png", **more: Any) -> dict[str, Any]:
    return {"id": 5, "annotations": annotations, "predictions": [], "drafts": [], "data": {"image": image}, **more}


def make(root: Path, *tasks: dict[str, Any]) -> Path:
    photo(root / "a.png", 100, 80)
    document(root / "project-1.json", tasks)
    return root


def drawings(root: Path) -> Drawings:
    """What the child reads from the export."""
    faults = Faults()
    ((_, found),) = reading.drawings(PARSER, tree_of(root), ["project-1.json"], faults)
    faults.refuse_any()
    assert found is not None
    return found


def shapes(root: Path, *results: dict[str, Any]) -> list[Shape]:
    return list(drawings(make(root, task(annotation(*results)))).images[0].shapes)


@pytest.mark.parametrize(
    ("result", "kind", "coordinates"),
    [
        (BOX, Kind.RECTANGLE, (10, 20, 20, 40, 0)),
        # A quarter turn about its corner puts it to the left of the corner.
        (region("rectanglelabels", PLACE | {"rotation": 90}), Kind.RECTANGLE, (-20, 10, 20, 40, 90)),
        (
            region("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 5, "rotation": 30}),
            Kind.ELLIPSE,
            (50, 40, 10, 4, 30),
        ),
        (
            region("polygonlabels", {"points": [[10, 10], [20, 10], [20, 50]], "closed": True}),
            Kind.POLYGON,
            (10, 8, 20, 8, 20, 40),
        ),
        (region("keypointlabels", {"x": 10, "y": 10, "width": 0.5}), Kind.POINT, (10, 8)),
    ],
    ids=["box", "turned", "ellipse", "polygon", "key point"],
)
def test_percents_become_pixels(
    tmp_path: Path, result: dict[str, Any], kind: Kind, coordinates: tuple[float, ...]
) -> None:
    (found,) = shapes(tmp_path, result)

    assert (found.label, found.kind, found.annotator, found.origin) == ("cod", kind, "7", "Ab3")
    assert found.coordinates == pytest.approx(coordinates)


def test_the_corner_of_a_turned_box_stays_where_it_is(tmp_path: Path) -> None:
    from pelagos_pipelines.annotations.shapes import corners_of

    (found,) = shapes(tmp_path, region("rectanglelabels", PLACE | {"rotation": 33.3}))

    assert corners_of(found)[:2] == pytest.approx((10, 20))


def test_a_brush_becomes_the_pixels_that_are_painted(tmp_path: Path) -> None:
    inside: Any = np.zeros((80, 100), bool)
    inside[10:15, 20:60] = inside[70, 3] = inside[79, 99] = True
    code = brushes.encoded(masks.of_array("cod", inside), (100, 80))

    (found,) = shapes(tmp_path, region("brushlabels", {"format": "rle", "rle": code}))

    assert (masks.on_image(found, 100, 80) == inside).all()


def test_a_brush_may_have_values_that_do_not_repeat() -> None:
    """In the page's encoding: a few literal values in a row; of the four channels only alpha counts."""
    values = [9, 9, 9, 0, 1, 2, 3, 200]
    bits = f"{8:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16)) + f"0{0:02b}{7:03b}"
    bits += "".join(f"{value:08b}" for value in values)
    bits += "0" * (-len(bits) % 8)

    found = brushes.decoded("cod", list(int(bits, 2).to_bytes(len(bits) // 8, "big")), (2, 1))

    assert masks.on_image(found, 2, 1).tolist() == [[False, True]]


def test_ground_truth_counts_before_newer_ones_and_these_before_older_ones(tmp_path: Path) -> None:
    old, new = annotation(BOX, key=1, updated="2026-11-01"), annotation(key=2, updated="2026-11-02")
    skipped = annotation(BOX, key=3, updated="2026-11-03", was_cancelled=True)
    truth = annotation(BOX, BOX | {"id": "x"}, key=4, updated="2025-01-01", ground_truth=True)

    newest = drawings(make(tmp_path, task(old, new, skipped)))
    known = drawings(make(tmp_path, task(old, new, truth)))

    assert (list(newest.images[0].shapes), newest.images[0].is_labelled) == ([], True)
    assert +newest.counted == {"superseded": 1, "cancelled": 1}
    assert len(known.images[0].shapes) == 2
    assert +known.counted == {"superseded": 1}


def test_what_nobody_submitted_is_not_labelled_and_what_was_submitted_empty_is_a_background(tmp_path: Path) -> None:
    for name in ("b", "c", "d"):
        photo(tmp_path / f"{name}.png", 100, 80)
    make(
        tmp_path,
        task(annotation(BOX)),
        task(annotation(), image="/data/upload/1/0a1b2c3d-b.png"),
        task(image="/data/upload/1/0a1b2c3d-c.png", predictions=[{"result": [BOX]}], drafts=[{"result": [BOX]}]),
        task(annotation(BOX, was_cancelled=True), image="/data/upload/1/0a1b2c3d-d.png"),
    )

    found = read(tmp_path)

    assert {image.path: len(image.boxes) for image in found.images} == {"a.png": 1, "b.png": 0}
    assert set(found.excluded) == {Exclusion(f"{name}.png", ExclusionReason.UNLABELLED) for name in ("c", "d")}
    said = "\n".join(found.warnings)
    for words in ("1 predictions are not annotations", "1 drafts were never", "1 annotations were skipped"):
        assert words in said


@pytest.mark.parametrize(
    ("place", "file"),
    [
        ("/data/upload/12/0a1b2c3d-a.png", "a.png"),
        ("/data/upload/12/0a1b2c3d-a.png", "images/0a1b2c3d-a.png"),
        ("/data/local-files/?d=north%2Fa%20b.png", "north/a b.png"),
        ("s3://bucket/2026/north/a.png", "north/a.png"),
        ("https://example.org/files/north/a%20b.png?X-Amz-Signature=1", "north/a b.png"),
        ("/tasks/1/resolve/?fileuri=" + base64.b64encode(b"s3://bucket/north/a.png").decode(), "north/a.png"),
        ("north/a.png", "north/a.png"),
        ("C:\\photos\\a.png", "a.png"),
    ],
)
def test_an_image_is_found_wherever_the_server_had_it(tmp_path: Path, place: str, file: str) -> None:
    photo(tmp_path / file, 100, 80)
    document(tmp_path / "project-1.json", [task(annotation(BOX), image=place)])

    assert [image.path for image in read(tmp_path).images] == [file]


def test_an_image_inside_of_the_data_is_named_by_the_entry_beside_it(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", 100, 80)
    entry = task(annotation(BOX)) | {"data": {"image": "data:image/png;base64,AAAA", "filename": "a.png"}}
    document(tmp_path / "project-1.json", [entry])

    assert len(read(tmp_path).images) == 1


def test_a_task_without_the_name_of_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"project-1\.json: task 0 \(counted from 0\) names no image"):
        read(make(tmp_path, task(annotation(BOX), image="data:image/png;base64,AAAA")))


def test_a_list_of_images_has_its_regions_by_their_number(tmp_path: Path) -> None:
    photo(tmp_path / "b.png", 100, 80)
    entry = task(annotation(BOX, BOX | {"id": "z", "item_index": 1, "original_width": 100}))
    make(tmp_path, entry | {"data": {"pages": ["a.png", "b.png"]}})

    assert {image.path: len(image.boxes) for image in read(tmp_path).images} == {"a.png": 1, "b.png": 1}


def test_choices_are_the_class_of_an_image_and_of_a_region_they_are_attributes(tmp_path: Path) -> None:
    beside = choice("female") | {"id": "Ab3", "from_name": "sex"}
    rating = {"id": "Ab3", "type": "rating", "from_name": "quality", "value": {"rating": 4}}
    taxon = {
        "id": "t",
        "type": "taxonomy",
        "from_name": "taxon",
        "value": {"taxonomy": [["Animalia", "Pisces", "Gadus"]]},
    }

    box, tag, taxonomy = shapes(tmp_path, BOX | {"origin": "prediction-changed"}, beside, rating, choice("good"), taxon)

    assert box.attributes == {"sex": "female", "quality": "4", "origin": "prediction-changed"}
    assert (tag.label, tag.kind, tag.attributes) == ("good", Kind.TAG, {})
    assert (taxonomy.label, taxonomy.kind, taxonomy.attributes) == (
        "Gadus",
        Kind.TAG,
        {"taxonomy": "Animalia/Pisces/Gadus"},
    )


def test_classification_takes_the_choice(tmp_path: Path) -> None:
    photo(tmp_path / "b.png", 100, 80)
    make(tmp_path, task(annotation(choice("cod"))), task(annotation(choice("eel")), image="b.png"))

    assert [image.label for image in read(tmp_path, task=Task.CLASSIFICATION).images] == ["cod", "eel"]


def test_what_is_no_shape_is_counted(tmp_path: Path) -> None:
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    rating = {"id": "r", "type": "rating", "value": {"rating": 4}}
    sound = region("timeserieslabels", {"start": 1, "end": 2})

    found = read(make(tmp_path, task(annotation(BOX, relation, rating, sound | {"id": "s"}))))

    said = "\n".join(found.warnings)
    for words in (
        "1 relations between",
        "1 answers about whole images",
        "1 regions have a kind that does not apply to images",
    ):
        assert words in said


def test_a_region_may_have_its_class_from_a_control_beside_it(tmp_path: Path) -> None:
    named = {"id": "Ab3", "type": "labels", "from_name": "name", "to_name": "image", "value": {"labels": ["eel"]}}

    (found,) = shapes(tmp_path, region("rectangle", PLACE, None), named)

    assert found.label == "eel"


def test_a_file_for_each_task_is_read_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / f"{name}.png", 100, 80)
        document(tmp_path / f"{name}.json", task(annotation(BOX), image=f"{name}.png"))

    assert len(read(tmp_path).images) == 2


def test_splits_are_read_from_the_data(tmp_path: Path) -> None:
    make(tmp_path, task(annotation(BOX)) | {"data": {"image": "a.png", "split": "val"}})

    assert read(tmp_path).images[0].split == "validation"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (region("rectanglelabels", PLACE | {"x": "10"}), "numbers that are not coordinates"),
        (region("rectanglelabels", PLACE | {"width": -3}), "a rectangle has a negative size"),
        (region("rectanglelabels", {"x": 1}), "numbers that are not coordinates"),
        (region("rectanglelabels", PLACE, None), "is not a class name"),
        (region("rectanglelabels", PLACE, ""), "is not a class name"),
        (region("polygonlabels", {"points": [[1, 2], [3, 40]]}), "a ring of fewer than three points"),
        (region("polygonlabels", {"points": [[1, 2, 3]]}), "numbers that are not coordinates"),
        (BOX | {"image_rotation": 90}, "turned by 90 degrees"),
        (BOX | {"original_width": 0}, "original_width and original_height of its image are missing"),
        (BOX | {"original_width": 1.5}, "width or height that is not a whole number"),
        (BOX | {"item_index": 4}, "an image that the task does not have"),
        (BOX | {"item_index": [[]]}, "an image that the task does not have"),
        (region("brushlabels", {"format": "rle", "rle": [0, 0, 0, 4]}), "a mask ends before all its pixels"),
        (region("brushlabels", {"format": "rle", "rle": [255] * 9}), "a mask has 1073741823 pixels, but 100 x 80"),
        (region("brushlabels", {"format": "rle", "rle": [1, 999]}), "numbers that are not coordinates"),
        (region("brushlabels", {"format": "base64", "rle": []}), "has a format other than rle"),
        (
            region("brushlabels", {"format": "rle", "rle": [0]}, original_width=10**6, original_height=10**6),
            "more pixels than any camera",
        ),
    ],
)
def test_a_region_that_is_none_is_refused_by_its_place(tmp_path: Path, result: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        read(make(tmp_path, task(annotation(result))))
    assert refused.value.failure.reason is Reason.FORMAT_INVALID
    assert "project-1.json: task 0" in str(refused.value)


def test_percents_beyond_the_image_are_refused(tmp_path: Path) -> None:
    found = read(make(tmp_path, task(annotation(region("rectanglelabels", PLACE | {"x": 130})))))

    # Cleaning refuses it and names the place, as for all formats.
    assert found.images[0].boxes == (Box("cod", 130, 20, 20, 40),)


def test_fractions_instead_of_percents_are_refused(tmp_path: Path) -> None:
    small = {"x": 0.1, "y": 0.25, "width": 0.2, "height": 0.5}

    with pytest.raises(RefusedError, match="as if they were fractions from 0 to 1: write positions as percents"):
        read(make(tmp_path, task(annotation(*(region("rectanglelabels", small, id=key) for key in "abc")))))


def test_json_min_is_refused_with_the_export_to_choose(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    entry = {"image": "a.png", "id": 1, "label": [PLACE], "annotator": 1, "annotation_id": 1, "lead_time": 2.0}
    document(tmp_path / "project-1.json", [entry])

    with pytest.raises(RefusedError, match=r"is a JSON-MIN export.*export the project as JSON"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content", ["[" * 3000, '[{"data": {}, "annotations": []}, {"data"', '[{"data": {}, "annotations": [NaN]}]']
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: str) -> None:
    photo(tmp_path / "a.png")
    text(tmp_path / "project-1.json", content)

    with pytest.raises(RefusedError, match=r"project-1\.json .*(valid JSON|names no image)"):
        read(tmp_path, name="LabelStudio")


def suggested(*results: dict[str, Any], by: str = "pelagos/fish@1a2b") -> dict[str, Any]:
    """A prediction, as a server returns it."""
    return {"id": 3, "model_version": by, "created_at": "2026-11-01T09:00:00Z", "result": results}


def test_what_became_of_our_models_suggestions_is_counted(tmp_path: Path) -> None:
    moved = region("rectanglelabels", PLACE | {"x": 12})
    other = region("rectanglelabels", PLACE | {"x": 60}, id="new")
    guess = suggested(BOX, region("rectanglelabels", PLACE | {"y": 0, "height": 5}, id="gone"))
    root = make(tmp_path, task(annotation(moved, other), predictions=[guess, suggested(BOX, by="somebody else's")]))

    found = read(root)

    assert [each.model_dump() for each in found.corrections] == [
        {
            "model": "pelagos/fish@1a2b",
            "images": 1,
            "predicted": 2,
            "accepted": 0,
            "moved": 1,
            "relabelled": 0,
            "added": 1,
            "removed": 1,
        }
    ]


def test_turned_boxes_and_masks_that_were_suggested_are_counted_too(tmp_path: Path) -> None:
    inside: Any = np.zeros((80, 100), bool)
    inside[60:75, 20:60] = True
    painted = {"format": "rle", "rle": brushes.encoded(masks.of_array("cod", inside), (100, 80))}
    guesses = region("rectanglelabels", PLACE | {"rotation": 33.3}), region("brushlabels", painted, id="m")
    turned_on = region("rectanglelabels", PLACE | {"rotation": 50.0})

    (found,) = read(
        make(tmp_path, task(annotation(turned_on, guesses[1]), predictions=[suggested(*guesses)]))
    ).corrections

    assert (found.predicted, found.accepted, found.moved, found.removed) == (2, 1, 1, 0)


def test_a_suggestion_that_is_none_keeps_nothing_from_being_read(tmp_path: Path) -> None:
    guess = suggested(region("rectanglelabels", {"x": "far"}))

    found = read(make(tmp_path, task(annotation(BOX), predictions=[guess])))

    assert len(found.images[0].boxes) == 1
    assert found.corrections[0].added == 1


def test_images_that_nobody_went_through_are_no_measure_of_a_model(tmp_path: Path) -> None:
    photo(tmp_path / "b.png", 100, 80)
    waiting = task(image="/data/upload/1/0a1b2c3d-b.png", predictions=[suggested(BOX)])

    found = read(make(tmp_path, task(annotation(BOX)), waiting))

    assert found.corrections == ()
