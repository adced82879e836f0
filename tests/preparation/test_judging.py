"""The report of a version: a page that loads nothing from elsewhere, whatever names it shows, with correct figures."""

from __future__ import annotations

import base64
import io
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import dataset_versions
import untrusted_text
from image_sources import photo
from pelagos_contract.judgement import LARGEST_PAGE, PAGE, SLICES
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.preparation import balancing, integrity, leakage, versions
from pelagos_pipelines.preparation.balancing import Plan
from pelagos_pipelines.preparation.judging import disagreeing, drawing, kept, making, samples, slices, tables, unusual
from pelagos_pipelines.preparation.judging.page import AlteredExamples
from pelagos_pipelines.preparation.versions import Version
from pelagos_pipelines.sandbox.ceilings import Ceilings

VOID = {"meta", "img", "image", "rect", "br"}
HOSTILE = "</title><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>" + untrusted_text.HOSTILE


class Page(HTMLParser):
    """A page as a browser parses it: every element with its attributes. An element that is not closed is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute of {tag} stands there twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def addresses(self) -> list[str]:
        """Every address that a browser would fetch."""
        names = ("src", "href", "srcset", "data", "action", "poster", "xlink:href")
        return [attributes[name] for _, attributes in self.elements for name in names if name in attributes]


def version_of(folder: Path, classes: tuple[str, ...], images: list[ImageRecord]) -> Version:
    """A version all of whose images show the same picture."""
    file = photo(folder / "one.png", 64, 48)
    blobs = {image.path: file for image in images}
    return Version("1" * 64, folder / "version", Collection(Task.DETECTION, classes, tuple(images)), blobs)


def detected(number: int, *labels: str, group: str | None = None, side: float = 8) -> ImageRecord:
    boxes = tuple(Box(label, 4 + 2 * place, 5, side, side) for place, label in enumerate(labels))
    return ImageRecord(f"{number}.png", 64, 48, group, SPLITS[number % 3], None, boxes)


def test_the_page_has_its_pictures_in_it_and_asks_for_nothing_else(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))

    made = making.make(version, {"files that are corrupt": 3}, ["something is odd"])

    page = Page(made.page.read_text(encoding="utf-8"))
    assert page.addresses
    for address in page.addresses:
        kind, _, data = address.partition(",")
        assert kind == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(data, validate=True))).verify()
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "form", "base", "a"}
    (policy,) = (attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
    assert {"cod", "eel", "something is odd", "files that are corrupt"} <= set(page.words)


def test_names_of_strangers_stay_text(tmp_path: Path) -> None:
    images = [detected(number, HOSTILE, "cod", group=f"{HOSTILE}{number % 3}") for number in range(12)]

    version = version_of(tmp_path, ("cod", HOSTILE), images)
    plan = Plan("Undersample", 1, {image.path: 0 for image in images[:3]})
    balanced = balancing.told(plan, version.collection)
    assert balanced is not None
    assert balanced.left_out is not None
    left_out = balanced.left_out.model_copy(update={"first": [HOSTILE]})
    balanced = balanced.model_copy(update={"left_out": left_out})
    known = making.Known(balanced=balanced, altered=AlteredExamples(HOSTILE, [HOSTILE], b""))

    made = making.make(version, {HOSTILE: HOSTILE}, [HOSTILE], known=known)

    text = made.page.read_text(encoding="utf-8")
    page = Page(text)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {tag for tag, _ in page.elements} & {"script", "a", "link"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert untrusted_text.is_fit(text)
    assert all(path.name.isascii() and path.parent == made.page.parent for path in made.page.parent.iterdir())


def test_the_same_version_gives_the_same_report(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))

    first = making.make(version, {}, []).page.read_bytes()

    assert making.make(version, {}, []).page.read_bytes() == first


def test_pictures_stand_beside_the_page_and_the_version_is_read_as_before(tmp_path: Path) -> None:
    version = dataset_versions.write(
        tmp_path / "store", dataset_versions.classification(tmp_path / "source"), Task.CLASSIFICATION
    )

    made = making.make(version, {}, [])

    names = {path.name for path in made.page.parent.iterdir()}
    sheets = {"samples-0000-cod.png", "samples-0001-eel.png"}
    assert names == {"report.html", "classes.png", "splits.png", *sheets}
    with Image.open(made.page.parent / "samples-0000-cod.png") as sheet:
        assert sheet.size == (4 * 96 + 3 * 4, 96)
        assert np.asarray(sheet).std() > 30  # it is not empty
    assert versions.read(version.folder).digest == version.digest


def test_an_image_that_cannot_be_decoded_is_left_out_of_its_sheet(tmp_path: Path) -> None:
    version = version_of(tmp_path, ("cod",), [detected(number, "cod") for number in range(3)])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")

    whole = making.make(version, {}, []).page.parent / "samples-0000-cod.png"
    with Image.open(whole) as sheet:
        assert sheet.width == 3 * 96 + 2 * 4
    made = making.make(replace(version, blobs={**version.blobs, "1.png": broken}), {}, [])

    with Image.open(made.page.parent / "samples-0000-cod.png") as sheet:
        assert sheet.width == 2 * 96 + 4


@pytest.mark.parametrize(
    ("counts", "first", "second"),
    [([5, 5, 5, 5], 4, 4), ([10, 0], 1, 1), ([], 0, 0), ([50, 25, 25], 2.8284, 2.6667)],
    ids=["even", "one", "none", "by-hand"],
)
def test_effective_numbers_are_those_of_hill(counts: list[int], first: float, second: float) -> None:
    assert slices.effective(counts, 1) == pytest.approx(first, abs=1e-4)
    assert slices.effective(counts, 2) == pytest.approx(second, abs=1e-4)


def test_chi_square_is_that_of_a_textbook() -> None:
    """Agresti, Categorical Data Analysis, table 3.2 on gender and party: 30.1 with 2 degrees of freedom."""
    assert slices.chi_square(np.array([[762, 327, 468], [484, 239, 477]])) == pytest.approx(30.07, abs=0.01)


@pytest.mark.parametrize(
    ("table", "wanted"), [([[50, 0], [0, 50]], 1.0), ([[25, 25], [25, 25]], 0.0)], ids=["tells-all", "tells-nothing"]
)
def test_the_association_goes_from_nothing_to_all(table: list[list[int]], wanted: float) -> None:
    assert slices.association(np.array(table)) == pytest.approx(wanted, abs=0.01)


def independence_of(labels: list[str], values: list[str], groups: list[str | None]) -> slices.Independence:
    images = [ImageRecord(str(number), 9, 9, label=label) for number, label in enumerate(labels)]
    found = tables.of(Collection(Task.CLASSIFICATION, tuple(sorted({*labels})), tuple(images)), {"site": values})
    (one,) = found.slices
    test = slices.independence(lambda codes: found.counted(codes, len(one.values)), one.codes, slices.numbered(groups))
    assert test is not None
    return test


def test_classes_that_follow_a_slice_are_told_from_those_that_do_not() -> None:
    random = np.random.default_rng(1)
    values = [f"site {number}" for number in random.integers(0, 3, 300)]
    alone: list[str | None] = [None] * 300

    follow = independence_of([value if random.random() < 0.5 else "site 0" for value in values], values, alone)
    not_at_all = independence_of([str(number) for number in random.integers(0, 3, 300)], values, alone)

    assert follow.probability == 1 / 200
    assert not_at_all.probability is not None
    assert not_at_all.probability > 0.05
    assert follow.association > 0.3 > not_at_all.association


def test_images_of_a_group_are_no_independent_observations() -> None:
    """Six hauls of 50 similar images each, at two sites: what seems overwhelming is three hauls against three."""
    hauls: list[str | None] = [f"haul {number // 50}" for number in range(300)]
    values = ["north" if number < 150 else "south" for number in range(300)]
    labels = ["cod" if number < 150 else "eel" for number in range(300)]

    alone, grouped = independence_of(labels, values, [None] * 300), independence_of(labels, values, hauls)

    assert alone.probability == 1 / 200
    assert grouped.grouped
    assert grouped.probability is not None
    assert grouped.probability >= 0.05


def test_chance_is_not_spoken_of_where_each_group_has_a_value_of_its_own() -> None:
    hauls: list[str | None] = [f"haul {number % 3}" for number in range(30)]

    assert independence_of(["cod", "eel"] * 15, [str(haul) for haul in hauls], hauls).probability is None


def test_missing_combinations_and_small_values_are_counted(tmp_path: Path) -> None:
    images = [detected(number, "cod", "eel", group="north") for number in range(8)]
    images += [detected(8, "cod", group="north"), detected(9, "cod", group="south")]

    made = making.make(version_of(tmp_path, ("cod", "eel"), images), {}, [])

    (group,) = made.slices
    assert (made.page.parent / "slice-group.png").exists()
    assert (group.name, group.values, group.missing, group.combinations) == ("group", 2, 1, 4)
    assert [(one.value, one.images) for one in group.smallest] == [("south", 1), ("north", 9)]


def test_many_values_are_counted_with_the_rarest_as_one() -> None:
    found = slices.coded("site", [str(number // 2) for number in range(1000)] + [None])

    assert (len(found.values), found.values[-1], found.unknown) == (201, "300 others", 1)
    assert int(found.counts.sum()) == 1000
    assert found.effective == pytest.approx(500)


def test_one_long_name_costs_no_room_for_each_image() -> None:
    values = ["site"] * 20_000 + ["x" * 4000]
    tracemalloc.start()
    try:
        found = slices.coded("folder", values)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found.values == ("site", "x" * 4000)
    assert peak < 8 * 1024**2  # as an array of strings, these would take 320 MB


def test_boxes_of_another_size_than_their_class_are_found_and_no_others(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    images: list[Any] = [detected(number, "cod", side=8 + random.random()) for number in range(40)]
    images.append(detected(40, "cod", side=40))

    found = unusual.boxes(tables.of(Collection(Task.DETECTION, ("cod",), tuple(images)), {}))

    assert [one.row for one in found] == [40]
    assert found[0].times == pytest.approx(40 / 8.5, rel=0.1)


def coloured(png: bytes) -> dict[Any, int]:
    """The number of pixels of each colour in a picture."""
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.mode == "RGB"
        return {color: count for count, color in picture.getcolors(1 << 24) or []}


def test_bars_are_as_long_in_the_picture_as_their_counts_are_large() -> None:
    counts = np.array([[6, 2, 1], [1, 1, 0]])

    figure = drawing.bars(["cod", "eel"], counts, {"a": "#ff0000", "b": "#00ff00", "c": "#0000ff"}, ["9", "2"], "bars")

    found, key = coloured(figure.png), 24 * 24
    red, green, blue = (found[one] - key for one in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    assert red / blue == pytest.approx(7, rel=0.03)
    assert green / blue == pytest.approx(3, rel=0.03)
    assert "<svg" in figure.svg


def test_what_is_missing_is_framed_in_the_picture_of_a_table_as_in_the_page() -> None:
    framed = tuple(bytes.fromhex(drawing.MISSING[1:]))

    whole = drawing.matrix(["cod"], ["north", "south"], np.array([[3, 1]]), "all there")
    torn = drawing.matrix(["cod"], ["north", "south"], np.array([[3, 0]]), "one is not")

    assert framed not in coloured(whole.png)
    assert drawing.MISSING not in whole.svg
    assert coloured(torn.png)[framed] > 4 * (drawing.CELL - 2)
    assert torn.svg.count(drawing.MISSING) == 1


def test_names_of_strangers_can_be_drawn_and_are_shown_as_in_the_page() -> None:
    name = HOSTILE[-40:] + untrusted_text.HALF

    figure = drawing.bars([name], np.array([[1]]), {"images": drawing.BAR}, ["1"], name)

    assert coloured(figure.png)
    assert untrusted_text.is_fit(figure.svg)


def test_heat_maps_are_hot_where_boxes_are() -> None:
    boxes = np.array([[0.0, 0.0, 0.25, 0.25]] * 3 + [[0.9, 0.9, 0.5, 0.5]])

    with Image.open(io.BytesIO(drawing.position_map(boxes))) as picture:
        pixels = np.asarray(picture).astype(int)

    brightness = pixels.sum(axis=2)
    side = brightness.shape[0]
    assert brightness[side // 8, side // 8] == brightness.max()
    assert brightness.min() < brightness[-2, -2] < brightness.max()
    assert brightness[side // 2, side // 2] == brightness.min()
    with Image.open(io.BytesIO(drawing.size_map(boxes))) as picture:
        picture.verify()


def test_a_version_without_annotations_or_sizes_has_a_report(tmp_path: Path) -> None:
    images = [ImageRecord("0.png"), ImageRecord("1.png", split="train")]

    made = making.make(version_of(tmp_path, (), images), {}, [])

    Page(made.page.read_text(encoding="utf-8"))
    assert made.slices == []


def test_the_report_is_found_where_its_version_is_and_another_page_in_its_place_is_not(tmp_path: Path) -> None:
    version = version_of(tmp_path, ("cod",), [detected(number, "cod") for number in range(3)])
    assert kept.find(str(version.folder), tmp_path / "scratch") == []

    made = making.make(version, {}, [])
    figures = [made.page.parent / f"{name}.png" for name in ("classes", "splits", "positions", "sizes")]
    assert kept.find(str(version.folder), tmp_path / "scratch") == [made.page, *figures]
    made.page.write_text("<script>alert(1)</script>" + made.page.read_text(encoding="utf-8"), encoding="utf-8")
    figures[0].write_bytes(b"GIF89a" + figures[0].read_bytes())
    assert kept.find(str(version.folder), tmp_path / "scratch") == figures[1:]


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda page: page.write_bytes(bytes(LARGEST_PAGE + 1))])
def test_what_is_no_page_is_passed_over(tmp_path: Path, put: Callable[[Path], object]) -> None:
    page = tmp_path / PAGE
    page.parent.mkdir()
    put(page)

    assert kept.find(str(tmp_path), tmp_path / "scratch") == []


def test_of_large_images_fewer_pictures_are_decoded() -> None:
    names = tuple(f"class {number:02}" for number in range(60))
    for side, sheets, pictures in ((300, 40, 480), (4000, 39, 156), (20000, 2, 8)):
        images = [ImageRecord(str(number), side, side, label=names[number % 60]) for number in range(1200)]
        wanted = samples.of_classes(tables.of(Collection(Task.CLASSIFICATION, names, tuple(images)), {}))

        assert (len(wanted), sum(map(len, wanted.values()))) == (sheets, pictures)


def test_images_that_look_alike_and_show_other_classes_are_shown_side_by_side(tmp_path: Path) -> None:
    images = [detected(0, "cod"), detected(1, "eel"), detected(2, "cod"), detected(3, "cod")]
    alike = {"1.png": ("0.png",), "2.png": ("0.png",), "3.png": ("gone.png", "1.png")}

    made = making.make(version_of(tmp_path, ("cod", "eel"), images), {}, [], alike)

    assert [(pair.first, pair.second, pair.told) for pair in disagreeing.pairs(images, alike)] == [
        (1, 0, ("eel", "cod")),
        (3, 1, ("cod", "eel")),
    ]
    assert "2 images look like one that says something else" in Page(made.page.read_text(encoding="utf-8")).words
    for number in range(2):
        with Image.open(made.page.parent / f"alike-{number:02}.png") as sheet:
            assert sheet.width == 2 * 96 + 4


def boxed(path: str, *boxes: tuple[str, float, float, float, float]) -> ImageRecord:
    return ImageRecord(path, 100, 50, boxes=tuple(Box(*box) for box in boxes))


@pytest.mark.parametrize(
    "laid",
    [
        boxed("b.png", ("cod", 10, 5, 30, 20), ("cod", 60, 30, 20, 10)),
        boxed("b.png", ("cod", 60, 5, 30, 20), ("cod", 20, 30, 20, 10)),
        ImageRecord("b.png", 50, 100, boxes=(Box("cod", 5, 10, 20, 30), Box("cod", 30, 60, 10, 20))),
    ],
    ids=["as-it-is", "mirrored", "turned"],
)
def test_boxes_in_the_same_place_of_images_that_look_alike_are_told_when_their_classes_differ(
    laid: ImageRecord,
) -> None:
    one = boxed("a.png", ("cod", 10, 5, 30, 20), ("eel", 60, 30, 20, 10))

    (pair,) = disagreeing.pairs([one, laid], {"b.png": ("a.png",)})

    assert (pair.first, pair.second, pair.told) == (1, 0, ("cod", "eel"))
    assert pair.parts is not None
    assert pair.parts[1] == pytest.approx((0.6, 0.6, 0.2, 0.2))


def test_boxes_that_swapped_their_classes_are_told_though_both_images_show_the_same_ones() -> None:
    one, other = (
        boxed(f"{name}.png", (first, 10, 5, 30, 20), (second, 60, 30, 20, 10))
        for name, first, second in (("a", "cod", "eel"), ("b", "eel", "cod"))
    )

    assert one.labels == other.labels
    assert [pair.told for pair in disagreeing.pairs([one, other], {"b.png": ("a.png",)})] == [("eel", "cod")]


def test_boxes_beside_each_other_of_the_same_classes_are_no_disagreement() -> None:
    one = boxed("a.png", ("cod", 10, 5, 30, 20), ("eel", 16, 8, 30, 20))
    other = boxed("b.png", ("cod", 11, 5, 30, 20), ("eel", 17, 8, 30, 20))

    assert disagreeing.pairs([one, other], {"b.png": ("a.png",)}) == []


def test_pairs_of_images_by_which_splits_leak_are_shown_with_their_names_as_text(tmp_path: Path) -> None:
    images = [replace(detected(number, "cod"), path=f"{HOSTILE}{number:03}.png", group=HOSTILE) for number in range(40)]
    version = version_of(tmp_path, ("cod",), images)
    alike = {image.path: (images[0].path,) for image in images[1:]}
    leaks = leakage.measure(images, {}, alike, {})

    made = making.make(version, {}, [], alike, making.Known(leaks))

    text = made.page.read_text(encoding="utf-8")
    page = Page(text)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not {tag for tag, _ in page.elements} & {"script", "a", "link"}
    assert untrusted_text.is_fit(text)
    assert "Leakage between splits" in page.words
    figures = leaks.figures
    assert (figures.leaked, figures.evaluated, figures.shared_groups) == (26, 26, 1)
    assert len(list(made.page.parent.glob("leak-NearDuplicate-*.png"))) == making.MOST_LEAKS
    assert len(list(made.page.parent.glob("leak-SharedGroup-*.png"))) == 1
    for file in made.page.parent.glob("leak-*.png"):
        with Image.open(file) as sheet:
            assert sheet.width == 2 * 96 + 4


def test_neighbours_by_name_are_shown_unless_their_numbers_tell_nothing(tmp_path: Path) -> None:
    images = [detected(number, "cod") for number in range(30)]
    random = np.random.default_rng(2)
    noise = {image.path: random.integers(-9, 9, 100).astype(np.int8).tobytes() for image in images}

    for looks, shown in (({}, making.MOST_LEAKS), (noise, 0)):
        leaks = leakage.measure(images, {}, {}, looks)
        made = making.make(version_of(tmp_path / str(shown), ("cod",), images), {}, [], known=making.Known(leaks))

        assert leaks.figures.leaked == 0
        assert len(list(made.page.parent.glob("leak-AdjacentName-*.png"))) == shown
        assert "It is not counted as a leak." in made.page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("paths", "labels", "wanted"),
    [
        (["a/1", "a/2", "b/3", "b/4"], ["cod", "eel", "cod", "eel"], ["a", "a", "b", "b"]),
        (["cod/1", "cod/2", "eel/3", "eel/4"], ["cod", "cod", "eel", "eel"], None),
        (["1", "2", "3", "4"], ["cod", "eel", "cod", "eel"], None),
        (["a/1", "b/2", "c/3", "d/4"], ["cod", "eel", "cod", "eel"], None),
    ],
    ids=["stations", "classes", "no-folders", "one-image-each"],
)
def test_folders_are_a_slice_unless_they_say_nothing_else(
    paths: list[str], labels: list[str], wanted: list[str] | None
) -> None:
    images = [ImageRecord(path, label=label) for path, label in zip(paths, labels, strict=True)]

    assert making.slices_of(images).get("folder") == wanted


def test_what_capture_says_is_a_slice_by_local_time_and_in_bands_of_depth() -> None:
    captures = [
        Capture("azores", "dive-1", "ROV", "2024-05-31T23:30:00-10:00", 9.9),
        Capture("azores", "dive-2", "ROV", "2024-06-01T05:00:00Z", 10.0),
        Capture("madeira", "dive-2", None, "2024-06-01", 7000.0),
        None,
    ]
    found = making.slices_of([ImageRecord(f"{n}.png", label="cod", capture=one) for n, one in enumerate(captures)])

    assert found == {
        "site": ["azores", "azores", "madeira", None],
        "deployment": ["dive-1", "dive-2", "dive-2", None],
        "month": ["05", "06", "06", None],
        "hour": ["23", "05", None, None],
        "depth band": ["0 to 10 m", "10 to 30 m", "6000 m and deeper", None],
    }
    assert {*found} < {*SLICES}


@pytest.mark.parametrize("part", [(0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 0.5, 0.5)])
def test_the_small_picture_of_a_photograph_looks_as_if_it_were_decoded_whole(
    part: tuple[float, float, float, float],
) -> None:
    random = np.random.default_rng(5)
    whole = cv2.resize(random.integers(0, 256, (30, 30, 3), np.uint8), (1600, 1600), interpolation=cv2.INTER_CUBIC)
    content = cv2.imencode(".jpg", whole)[1].tobytes()
    asked = {"side": samples.SIDE, "part": part, "paper": samples.PAPER}

    raw = integrity.inspector_for(Ceilings.read()).pool.run("small", asked, content).raw

    left, top, width, height = (round(1600 * side) for side in part)
    wanted = whole[top : top + height, left : left + width, ::-1]
    wanted = cv2.resize(wanted, (samples.SIDE, samples.SIDE), interpolation=cv2.INTER_AREA)
    found = np.frombuffer(raw, np.uint8).reshape(wanted.shape)
    assert np.abs(found.astype(int) - wanted).mean() < 3
