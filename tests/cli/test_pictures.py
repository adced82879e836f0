"""Annotated pictures: every box and label is where it belongs and is legible on any background."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pelagos.cli import pictures
from pelagos.cli.predictions import TASKS
from pelagos_contract import run_lengths
from pelagos_contract.answers import detection as boxes_drawn
from pelagos_contract.answers import drawing
from pelagos_contract.answers.drawing import PictureError
from pelagos_contract.answers.pictures import render
from pelagos_contract.run_lengths import Part, encoded


def detection(box: list[float], class_id: int = 0, label: str = "Ceratium") -> dict[str, Any]:
    return {"label": label, "classId": class_id, "score": 0.9, "box": box}


def detections(*found: dict[str, Any]) -> dict[str, Any]:
    return {"task": "Detection", "width": 0, "height": 0, "detections": list(found)}


def turned(length: float, width: float, angle: float, class_id: int = 0) -> dict[str, Any]:
    """A turned box around (400, 300)."""
    turn = math.radians(angle)
    corners = []
    for across, down in ((-length, -width), (length, -width), (length, width), (-length, width)):
        x = 400 + (across * math.cos(turn) - down * math.sin(turn)) / 2
        corners.append([x, 300 + (across * math.sin(turn) + down * math.cos(turn)) / 2])
    box = [400, 300, length, width, angle]
    return {"label": "Gyrosigma", "classId": class_id, "score": 0.9, "box": box, "corners": corners}


def classes(*probabilities: float) -> dict[str, Any]:
    found = [{"label": f"class {i}", "classId": i, "probability": p} for i, p in enumerate(probabilities)]
    return {"task": "Classification", "width": 0, "height": 0, "classes": found}


def coloured(picture: Image.Image, colour: drawing.Colour) -> tuple[int, int, int, int] | None:
    """The smallest rectangle around all pixels of a colour."""
    width = picture.width
    pixels = picture.tobytes()
    hits = [i // 3 for i in range(0, len(pixels), 3) if tuple(pixels[i : i + 3]) == colour]
    if not hits:
        return None
    columns, rows = [hit % width for hit in hits], [hit // width for hit in hits]
    return min(columns), min(rows), max(columns), max(rows)


@pytest.mark.parametrize("shade", [0, 128, 255], ids=["black", "grey", "white"])
def test_a_box_is_framed_in_the_colour_of_its_class(shade: int) -> None:
    image = Image.new("RGB", (800, 600), (shade,) * 3)
    picture = render(image, detections(detection([200, 300, 400, 500], class_id=3)))
    assert picture.size == (800, 600)
    yellow = drawing.colour(3)
    assert picture.getpixel((200, 400)) == picture.getpixel((400, 400)) == yellow
    assert picture.getpixel((300, 500)) == yellow
    assert picture.getpixel((300, 400)) == (shade,) * 3, "what is inside stays visible"
    around = {picture.getpixel((x, 400)) for x in range(195, 206)}
    assert (0, 0, 0) in around, "a dark line beside the colour shows it on a background of the same colour"


def test_a_turned_box_is_framed_along_its_sides() -> None:
    found = turned(300, 60, 45, class_id=3)
    picture = render(Image.new("RGB", (800, 600), (255,) * 3), detections(found) | {"task": "OrientedDetection"})
    yellow, (x, y) = drawing.colour(3), (150 / math.sqrt(2), 150 / math.sqrt(2))
    assert picture.getpixel((round(400 + x), round(300 + y))) == yellow, "the far end, downwards to the right"
    assert picture.getpixel((round(400 - 30 / math.sqrt(2)), round(300 + 30 / math.sqrt(2)))) == yellow, "a long side"
    assert picture.getpixel((400, 300)) == (255,) * 3, "what is inside stays visible"
    assert picture.getpixel((round(400 + x), round(300 - y))) == (255,) * 3, "nothing the other way"
    reach = (300 + 60) / 2 / math.sqrt(2)
    left, _, right, bottom = coloured(picture, yellow) or (0, 0, 0, 0)  # its label is above it
    assert (left, right, bottom) == pytest.approx((400 - reach, 400 + reach, 300 + reach), abs=4)


def test_classes_have_colours_of_their_own() -> None:
    assert len({drawing.colour(class_id) for class_id in range(60)}) == 60


def test_small_pictures_are_enlarged_so_that_labels_can_be_read() -> None:
    picture = render(Image.new("RGB", (50, 40), (255,) * 3), detections(detection([10, 20, 30, 36])))
    assert picture.size == (512, 410)
    left, _, right, bottom = coloured(picture, drawing.colour(0)) or (0, 0, 0, 0)
    assert left == pytest.approx(10 * 10.24, abs=3)
    assert right >= 30 * 10.24 - 3
    assert bottom == pytest.approx(36 * 10.24, abs=3)


def test_large_pictures_keep_their_size() -> None:
    assert render(Image.new("RGB", (3000, 2000)), detections()).size == (3000, 2000)


def test_labels_stay_inside_the_picture_and_apart() -> None:
    boxes = [[0, 0, 60, 60], [740, 0, 800, 60], [0, 540, 60, 600], [300, 300, 400, 400], [305, 305, 405, 405]]
    placed: list[drawing.Box] = []
    for box in boxes:
        x1, y1, x2, y2 = box
        area = boxes_drawn.place((0, 0, 120, 14), (x1, y1, x2, y2), (800, 600), placed)
        assert area[0] >= 0
        assert area[1] >= 0
        assert area[2] <= 800
        assert area[3] <= 600
        assert not any(boxes_drawn._overlap(area, other) for other in placed)
        placed.append(area)


def test_boxes_of_no_size_and_at_the_edge_do_no_harm() -> None:
    image = Image.new("RGB", (600, 600))
    picture = render(
        image, detections(detection([5, 5, 5, 5]), detection([0, 0, 600, 600]), detection([599, 599, 600, 600]))
    )

    assert picture.size == (600, 600)


def test_the_most_probable_classes_stand_below_the_picture() -> None:
    picture = render(Image.new("RGB", (600, 400), (255,) * 3), classes(0.5, 0.3, 0.1, 0.06, 0.03, 0.01))
    assert picture.width == 600
    assert picture.crop((0, 0, 600, 400)).getcolors() == [(600 * 400, (255, 255, 255))]
    bars = [coloured(picture, drawing.colour(class_id)) for class_id in range(6)]
    assert bars[5] is None, "five classes are shown"
    lengths = [bar[2] - bar[0] for bar in bars[:2] if bar is not None]
    assert lengths[0] / lengths[1] == pytest.approx(5 / 3, rel=0.05)


def test_long_names_are_cut_short() -> None:
    font = drawing.font(20)
    assert drawing.shortened("Ceratium", font, 500) == "Ceratium"
    short = drawing.shortened("Pseudo-nitzschia delicatissima " * 9, font, 200)
    assert short.endswith("...")
    assert font.getlength(short) <= 200


def test_without_fonts_of_the_system_letters_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_FONTS", ())
    assert drawing.writable("Größe, épine, µm, 藻", drawing.font(20)) == "Grosse, epine, ?m, ?"


def test_pictures_are_turned_as_the_camera_says(tmp_path: Path) -> None:
    """The server turns them, too, so boxes are in pixels of the turned picture."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (800, 600), (255,) * 3).save(tmp_path / "turned.jpg", exif=exif)
    pictures.draw(tmp_path / "turned.jpg", detections(detection([500, 700, 590, 790])), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (600, 800)
        assert picture.getpixel((545, 790)) == drawing.colour(0)


def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    with pytest.raises(PictureError, match=r"must end in \.png, \.jpg, \.jpeg"):
        pictures.draw(tmp_path / "in.png", detections(), tmp_path / "out.tiff")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PictureError, match="cannot be written: Is a directory"):
        pictures.draw(tmp_path / "in.png", detections(), tmp_path / "folder.png")


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "first.tif"])
@pytest.mark.parametrize(("largest", "shift"), [(200, 0), (4000, 4), (65000, 8)])
def test_a_picture_of_sixteen_bits_is_drawn_on_as_the_model_saw_it(
    tmp_path: Path, name: str, largest: int, shift: int
) -> None:
    image = Image.new("I;16B" if name == "first.tif" else "I;16", (600, 600), largest)
    image.save(tmp_path / name)
    pictures.draw(tmp_path / name, detections(), tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.getpixel((300, 300)) == (largest >> shift,) * 3


def instance(left: int, top: int, inside: Any, size: tuple[int, int], class_id: int = 0) -> dict[str, Any]:
    height, width = inside.shape
    return {
        **detection([left, top, left + width, top + height], class_id),
        "mask": {"size": list(size), "counts": run_lengths.encoded(run_lengths.Part(left, top, inside), size)},
        "area": int(inside.sum()),
    }


def test_a_mask_is_covered_thinly_and_has_a_contour_of_its_colour() -> None:
    ring: Any = np.ones((200, 200), bool)
    ring[80:120, 80:120] = False
    found = {
        "task": "InstanceSegmentation",
        "width": 800,
        "height": 600,
        "instances": [instance(300, 200, ring, (600, 800), 2)],
    }
    picture = render(Image.new("RGB", (800, 600), (200, 200, 200)), found)

    green = drawing.colour(2)
    covered = picture.getpixel((330, 300))
    assert covered not in {green, (200, 200, 200)}, "what is below stays visible"
    assert picture.getpixel((300, 300)) == picture.getpixel((499, 300)) == green
    assert picture.getpixel((299, 300)) == (0, 0, 0)
    assert picture.getpixel((400, 300)) == picture.getpixel((600, 300)) == (200, 200, 200), (
        "holes and the rest are as they were"
    )


def test_small_masks_are_enlarged_with_their_picture_and_a_pixel_is_seen() -> None:
    found = {"task": "InstanceSegmentation", "instances": [instance(10, 20, np.ones((1, 1), bool), (40, 50))]}
    picture = render(Image.new("RGB", (50, 40), (255,) * 3), found)
    assert coloured(picture, drawing.colour(0)) is not None
    empty = {"task": "InstanceSegmentation", "instances": [instance(0, 0, np.zeros((1, 1), bool), (40, 50))]}
    render(Image.new("RGB", (50, 40)), empty)


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [2**16, 2**17], "counts": "000000001"},
        {"size": [40, 50], "counts": "\x1b[31m"},
        {"size": [], "counts": ""},
    ],
)
def test_a_mask_that_is_none_of_the_image_is_refused(mask: dict[str, Any]) -> None:
    found = {**detection([0, 0, 9, 9]), "mask": mask, "area": 1}
    with pytest.raises(PictureError, match="the answer does not fit the image of 50 x 40 pixels: a mask "):
        render(Image.new("RGB", (50, 40)), {"task": "InstanceSegmentation", "instances": [found]})


def of_pixels(task: str, results: str, *found: tuple[str, int, int, int]) -> dict[str, Any]:
    """An answer for an image of 60 by 40 pixels: rows of it, by label, class, first row and number of rows."""
    entries = [
        {
            "id": number, "label": label, "classId": class_id, "isThing": class_id == 0, "score": 0.9,
            "area": height * 60, "share": height / 40,
            "mask": {"size": [40, 60], "counts": encoded(Part(0, top, np.ones((height, 60), bool)), (40, 60))},
        }
        for number, (label, class_id, top, height) in enumerate(found, start=1)
    ]  # fmt: skip
    left = 40 - sum(height for *_, height in found)
    none = {"area": left * 60, "share": left / 40}
    return {"task": task, "width": 60, "height": 40, "cut": False, results: entries, "unclassified": none}


@pytest.mark.parametrize(
    ("task", "results"), [("SemanticSegmentation", "classes"), ("PanopticSegmentation", "segments")]
)
def test_pixels_have_the_colours_of_their_classes_and_a_legend_says_which(task: str, results: str) -> None:
    answer = of_pixels(task, results, ("sand", 1, 20, 10), ("cod", 2, 5, 10))
    image = Image.new("RGB", (60, 40), (200,) * 3)
    picture = render(image, answer)

    scale = 512 / 60
    assert picture.width == 512
    assert picture.height > 40 * scale + 15
    for class_id, row in ((1, 25), (2, 10)):
        expected = [round((200 + channel) / 2) for channel in drawing.colour(class_id)]
        assert picture.getpixel((250, round(row * scale))) == pytest.approx(expected, abs=1)
        legend = picture.crop((0, round(40 * scale), 512, picture.height))
        assert coloured(legend, drawing.colour(class_id)), "the legend has the colour"
    assert picture.getpixel((250, round(38 * scale))) == (200,) * 3, "what is of no class stays as it is"


def test_objects_of_one_class_that_touch_are_told_apart() -> None:
    answer = of_pixels("PanopticSegmentation", "segments", ("cod", 0, 5, 10), ("cod", 0, 15, 10), ("sand", 1, 25, 15))
    picture = render(Image.new("RGB", (60, 40), (100,) * 3), answer)
    assert picture.getpixel((250, 85)) != picture.getpixel((250, 170))


def test_shares_of_classes_and_of_what_is_left_are_in_the_table() -> None:
    for task, results in (("SemanticSegmentation", "classes"), ("PanopticSegmentation", "segments")):
        answer = of_pixels(task, results, ("sand", 1, 20, 10), ("\x1b[31mcod", 0, 5, 10))
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(TASKS.named(task).table(answer))
        text = console.export_text()
        assert "25.0%" in text
        assert "50.0%" in text
        assert TASKS.named(task).summary(answer)


def test_an_answer_with_many_classes_and_one_with_none_have_a_legend() -> None:
    many = of_pixels("SemanticSegmentation", "classes", *((f"class {index}", index, index, 1) for index in range(30)))
    none = of_pixels("SemanticSegmentation", "classes")
    heights = [render(Image.new("RGB", (60, 40)), answer).height for answer in (none, many)]
    assert 341 < heights[0] < heights[1] < 2 * 341 + 20, "twelve are named"


@pytest.mark.parametrize(
    ("task", "results"), [("SemanticSegmentation", "classes"), ("PanopticSegmentation", "segments")]
)
def test_pixels_of_another_image_are_refused(task: str, results: str) -> None:
    answer = of_pixels(task, results, ("sand", 1, 20, 10))
    with pytest.raises(PictureError, match="the answer does not fit the image of 61 x 40 pixels"):
        render(Image.new("RGB", (61, 40)), answer)
