"""labels.level Supercategory: the supercategory of a category is the class, as if the file had no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from image_sources import coco, document, photo, tree_of, upright_size
from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.model import Asked, Collection

CATEGORIES = [
    {"id": 7, "name": "cod", "supercategory": "fish"},
    {"id": 8, "name": "eel", "supercategory": "fish"},
    {"id": 9, "name": "crab", "supercategory": "Crustacea"},
    {"id": 3, "name": "project"},
]


def _source(root: Path, boxes: list[tuple[int, list[float]]], categories: object = CATEGORIES) -> None:
    photo(root / "a.png")
    content: Any = coco({"a.png": [box for _, box in boxes]}, categories=categories)
    for mark, (category, _) in zip(content["annotations"], boxes, strict=True):
        mark["category_id"] = category
    document(root / "annotations.json", content)


def _read(root: Path, task: Task = Task.DETECTION) -> Collection:
    asked = Asked(task, level="Supercategory")
    tree = tree_of(root)
    return registry.read(registry.FORMATS.named("Coco"), tree, lambda path: upright_size(root / path), asked)


def _refusal(root: Path, task: Task = Task.DETECTION) -> Failure:
    with pytest.raises(RefusedError) as caught:
        _read(root, task)
    return caught.value.failure


def test_supercategories_are_the_classes(tmp_path: Path) -> None:
    _source(tmp_path, [(9, [1, 1, 5, 5]), (7, [2, 2, 5, 5]), (8, [3, 3, 5, 5])])

    found = _read(tmp_path)

    assert found.classes == ("fish", "Crustacea")
    assert [box.label for box in found.images[0].boxes] == ["Crustacea", "fish", "fish"]
    assert found.warnings == ()


def test_a_box_of_two_categories_of_one_kind_is_one(tmp_path: Path) -> None:
    _source(tmp_path, [(7, [2, 2, 5, 5]), (8, [2, 2, 5, 5])])

    found = _read(tmp_path)

    assert [box.label for box in found.images[0].boxes] == ["fish"]
    assert found.warnings[0].startswith("1 annotations repeat another with the same image, category and box")


@pytest.mark.parametrize("task", [Task.DETECTION, Task.INSTANCE_SEGMENTATION])
def test_supercategories_are_the_classes_of_outlines_too(tmp_path: Path, task: Task) -> None:
    _source(tmp_path, [(9, [1, 1, 5, 5]), (7, [2, 2, 5, 5]), (8, [3, 3, 5, 5])])

    (image,) = _read(tmp_path, task).images

    assert sorted([box.label for box in image.boxes] + [shape.label for shape in image.shapes]) == [
        "Crustacea",
        "fish",
        "fish",
    ]


@pytest.mark.parametrize("task", [Task.DETECTION, Task.INSTANCE_SEGMENTATION])
@pytest.mark.parametrize("missing", [{}, {"supercategory": ""}, {"supercategory": None}], ids=str)
def test_a_category_that_is_of_no_kind_is_refused_when_it_is_used(
    tmp_path: Path, missing: dict[str, Any], task: Task
) -> None:
    _source(tmp_path, [(3, [2, 2, 5, 5])], [*CATEGORIES[:3], {"id": 3, "name": "project", **missing}])

    failure = _refusal(tmp_path, task)

    assert (failure.reason, failure.field) == (Reason.LABELS_INVALID, "labels.level")
    assert "has 1 annotations of categories without a supercategory (annotations[0].category_id 3)" in failure.message


@pytest.mark.parametrize("kind", [7, ["fish"], "  ", "a\nb"], ids=str)
def test_a_kind_that_is_no_name_is_refused_with_its_place(tmp_path: Path, kind: object) -> None:
    _source(tmp_path, [(7, [2, 2, 5, 5])], [{"id": 7, "name": "cod", "supercategory": kind}])

    assert "categories[0].supercategory is not a class name" in _refusal(tmp_path).message
