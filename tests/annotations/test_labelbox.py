"""Labelbox: NDJSON with a line for each data row, of which exactly one label of one project counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from image_sources import photo, read, text, tree_of
from pelagos_contract.dataset import Change
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import labelbox_document, registry
from pelagos_pipelines.annotations.shapes import Kind

BOX = {"bounding_box": {"left": 10, "top": 20, "width": 20, "height": 40}}


def thing(kind: dict[str, Any], name: str = "cod", **more: Any) -> dict[str, Any]:
    return {
        "feature_id": "ck1",
        "feature_schema_id": "ck2",
        "name": name,
        "value": name,
        **kind,
        "classifications": [],
        **more,
    }


def points(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in pairs]


def label(*things: dict[str, Any], classifications: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    annotations = {"objects": things, "classifications": classifications or [], "relationships": []}
    return {
        "label_kind": "Default",
        "id": "l1",
        "label_details": {"created_by": "ada@sea"},
        "annotations": annotations,
        **more,
    }


def line(*labels: dict[str, Any], name: str = "a.png", **more: Any) -> str:
    row = {
        "data_row": {"id": "r1", "external_id": name, "row_data": f"https://storage.example/x/{name}?sig=1"},
        "media_attributes": {"width": 100, "height": 80, "mime_type": "image/png"},
        "projects": {"p1": {"name": "fish", "labels": labels}},
    }
    return json.dumps(row | more) + "\n"


def make(root: Path, *lines: str) -> Path:
    photo(root / "a.png", 100, 80)
    text(root / "export.ndjson", "".join(lines))
    return root


def radio(question: str, *answers: str) -> dict[str, Any]:
    if len(answers) == 1:
        return {"name": question, "radio_answer": {"name": answers[0], "classifications": []}}
    return {"name": question, "checklist_answers": [{"name": answer} for answer in answers]}


def test_objects_become_boxes_and_what_has_no_area_is_counted(tmp_path: Path) -> None:
    polygon = thing({"polygon": points((50, 10), (70, 10), (60, 30))}, "eel")
    lines = (thing({"point": {"x": 1, "y": 2}}), thing({"line": points((1, 2), (3, 4))}))
    found = read(make(tmp_path, line(label(thing(BOX), polygon, *lines))))

    assert [(box.label, box.x, box.y, box.width, box.height) for box in found.images[0].boxes] == [
        ("cod", 10, 20, 20, 40),
        ("eel", 50, 10, 20, 20),
    ]
    left = [(each.kind, each.annotations) for each in found.altered if each.reason == Change.LEFT_OUT]
    assert left == [("line", 1), ("point", 1)]


def test_answers_about_the_image_are_its_class_and_those_about_objects_stay_with_them(tmp_path: Path) -> None:
    alive = thing(BOX, classifications=[radio("state", "alive"), radio("seen", "head", "tail")])
    make(tmp_path, line(label(alive, classifications=[radio("ground", "sand")])))

    assert read(tmp_path, Task.CLASSIFICATION).images[0].label == "sand"
    polygons = read(tmp_path, Task.INSTANCE_SEGMENTATION)
    assert polygons.images[0].shapes[0].attributes == {"state": "alive", "seen": "head, tail"}


def test_a_data_row_without_a_label_waits_and_one_without_objects_shows_nothing(tmp_path: Path) -> None:
    for number, name in enumerate("bc"):
        photo(tmp_path / f"{name}.png", 100, 80, seed=number)
    make(tmp_path, line(label(thing(BOX))), line(name="b.png"), line(label(), name="c.png"))

    found = read(tmp_path)

    assert [(image.path, len(image.boxes)) for image in found.images] == [("a.png", 1), ("c.png", 0)]
    assert [(each.path, each.reason) for each in found.excluded] == [("b.png", ExclusionReason.UNLABELLED)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (line(label(thing(BOX)), label(thing(BOX))), "line 1 has 2 labels of one project.*one must be chosen"),
        (
            line(projects={name: {"labels": [label(thing(BOX))]} for name in "pq"}),
            "line 1 has labels of 2 projects, of which one must be chosen",
        ),
        (
            line(label(thing({"mask": {"url": "https://api/x"}}))),
            r"object 0 .* is a mask behind a URL, which is not fetched",
        ),
        (line(label(thing({"mask": {}}, feature_id="../../x"))), "a mask without a feature_id"),
        (line(label(thing({"cuboid": 1}))), "an object has a kind that is not supported"),
        (line(label(thing({"bounding_box": {"left": 1}}))), "object 0"),
        (line(label(thing({"polygon": points((1, 2), (3, 4))}))), "a ring of fewer than three points"),
        (line(label(thing({"point": {"x": float("nan"), "y": 1}}))), "format|JSON|not of"),
        (line(label(thing(BOX))) + "{\n", "line 2 is not JSON"),
        (line(label(thing(BOX))) + '{"a": 1}\n', "line 2 is not a data row"),
        (line(label(thing(BOX, "\x00"))), "class is not a class name"),
        (line(label(thing(BOX)), name="../lost.png"), "have no image: export.ndjson: line 1"),
    ],
    ids=range(12),
)
def test_what_cannot_be_chosen_or_drawn_is_refused_by_its_place(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        read(make(tmp_path, content), name="Labelbox")


def test_a_mask_that_lies_beside_the_file_is_read(tmp_path: Path) -> None:
    make(tmp_path, line(label(thing({"mask": {"url": "https://api/x"}}), thing(BOX, "eel"))))
    pixels: Any = np.zeros((80, 100), np.uint8)
    pixels[20:60, 10:30] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(pixels).save(tmp_path / "masks" / "ck1.png")

    found = read(tmp_path, Task.INSTANCE_SEGMENTATION)

    assert [image.path for image in found.images] == ["a.png"]
    mask = next(shape for shape in found.images[0].shapes if shape.label == "cod")
    assert (mask.kind, mask.sides) == (Kind.MASK, (10, 20, 20, 40))
    assert found.annotation_files == ("export.ndjson", "masks/ck1.png")


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    make(tmp_path, line(label(thing({"mask": {"url": "https://api/x"}}))))
    (tmp_path / "masks").mkdir()
    Image.new("L", (5, 5), 255).save(tmp_path / "masks" / "ck1.png")

    with pytest.raises(RefusedError, match=r"has 5 x 5 pixels, but export\.ndjson: line 1"):
        read(tmp_path)


def test_the_image_may_be_known_by_its_key_or_by_the_end_of_its_address(tmp_path: Path) -> None:
    for name in ("b c.png", "k.png"):
        photo(tmp_path / name, 100, 80)
    address: dict[str, Any] = {"data_row": {"row_data": "https://storage.example/x/b%20c.png?sig=1"}}
    key: dict[str, Any] = {"data_row": {"global_key": "k.png", "row_data": "gs://x/y"}}
    make(tmp_path, line(label(thing(BOX)), **address), line(label(thing(BOX)), **key))

    assert [image.path for image in read(tmp_path).images] == ["b c.png", "k.png"]


def test_videos_and_free_text_are_left_out_by_number(tmp_path: Path) -> None:
    note = {"name": "note", "text_answer": {"content": "see log"}}
    film = line(label(), name="film.mp4", media_attributes={"mime_type": "video/mp4"})
    found = read(make(tmp_path, line(label(thing(BOX), classifications=[note])), film))

    assert any(words.startswith("1 data rows are not images") for words in found.warnings)
    assert any(words.startswith("1 answers in free text") for words in found.warnings)


def test_a_line_without_an_end_is_refused_by_its_number(tmp_path: Path) -> None:
    make(tmp_path, line(label(thing(BOX))), " " * labelbox_document.MAX_LINE)

    with pytest.raises(RefusedError, match="line 2 is longer than"):
        read(tmp_path, name="Labelbox")


def test_questions_within_answers_end_somewhere(tmp_path: Path) -> None:
    deep: dict[str, Any] = radio("q", "a")
    for _ in range(100):
        deep = {"name": "q", "radio_answer": {"name": "a", "classifications": [deep]}}

    with pytest.raises(RefusedError, match="more than 20 questions within each other"):
        read(make(tmp_path, line(label(thing(BOX, classifications=[deep])))))


def test_the_format_is_recognised(tmp_path: Path) -> None:
    assert registry.detect(tree_of(make(tmp_path, line(label(thing(BOX)))))).name == "Labelbox"
