"""Images larger than a tile: cut together with their annotations, kept in one split, and accounted for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from image_sources import coco, document, photo
from other_images import tiff
from pelagos_contract import sealing
from pelagos_contract.dataset import PreparationResult
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.preprocessing import Tile
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks, shapes
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.preparation import tiling, versions
from pelagos_pipelines.preparation.cleaning import Cleaned
from pelagos_pipelines.preparation.integrity import Inspection
from pelagos_pipelines.steps.prepare import prepare

SIDE = (700, 500)
TILE = {"size": 256, "overlap": 56}
LEFTS, TOPS = [0, 200, 400, 444], [0, 200, 244]
"""Where the tiles of an image of SIDE begin."""


def run(folder: Path, **more: Any) -> tuple[versions.Version, PreparationResult]:
    request = {
        "source": {"volume": {"path": "."}},
        "format": "Coco",
        "task": "Detection",
        "preprocessing": {"tile": TILE},
        "split": {"ratios": {"train": 100, "validation": 0, "test": 0}},
    }
    prepare(json.dumps(request | more), str(folder / "data"), str(folder / "store"), str(folder / "report"))
    told = PreparationResult.model_validate(sealing.opened(sealing.document(folder / "report" / "result.json")))
    return versions.read(told.uri), told


def source(folder: Path, boxes: dict[str, list[list[float]]]) -> Path:
    for number, name in enumerate(boxes):
        photo(folder / "data" / name, *SIDE, seed=number)
    document(folder / "data" / "boxes.json", coco(boxes, size=SIDE))
    return folder


def boxes_of(version: versions.Version, x: int, y: int, name: str = "scan.png") -> list[tuple[float, ...]]:
    (image,) = [one for one in version.collection.images if one.path == f"{name}/x{x:07}_y{y:07}.png"]
    return [(box.x, box.y, box.width, box.height) for box in image.boxes]


def test_tiles_cover_the_image_and_say_where_they_lie(tmp_path: Path) -> None:
    version, told = run(source(tmp_path, {"scan.png": [[10, 10, 30, 30]]}))

    whole = cv2.imread(str(tmp_path / "data" / "scan.png"))
    assert [(one.part.x, one.part.y) for one in version.collection.images if one.part] == sorted(
        ((x, y) for y in TOPS for x in LEFTS), key=lambda place: place
    )
    for image in version.collection.images:
        assert image.part is not None
        assert (image.part.of, image.group, image.width, image.height) == ("scan.png", "scan.png", 256, 256)
        x, y = image.part.x, image.part.y
        assert (cv2.imread(str(version.blobs[image.path])) == whole[y : y + 256, x : x + 256]).all()
    assert (told.images, told.files.found, told.files.images) == (12, 2, 1)
    assert told.files.tiles is not None
    assert (told.files.tiles.images, told.files.tiles.tiles) == (1, 12)
    entry = json.loads((version.folder / "manifest.json").read_text())["images"][0]
    assert entry["tile"] == {"of": "scan.png", "x": 0, "y": 0}
    assert entry["original"]["size"] == (tmp_path / "data" / "scan.png").stat().st_size


def test_annotations_are_cut_at_edges_repeated_in_overlaps_and_counted_where_no_tile_shows_enough(
    tmp_path: Path,
) -> None:
    inside, overlap, edge, large = [10.0, 10, 30, 30], [210.0, 20, 40, 40], [190.0, 300, 80, 20], [0.0, 0, 700, 500]
    version, told = run(source(tmp_path, {"scan.png": [inside, overlap, edge, large]}))

    assert boxes_of(version, 0, 0) == [(10, 10, 30, 30), (210, 20, 40, 40)]
    assert boxes_of(version, 200, 0) == [(10, 20, 40, 40)]
    assert boxes_of(version, 0, 200) == [(190, 100, 66, 20)]
    assert boxes_of(version, 200, 200) == [(0, 100, 70, 20)]
    assert told.files.tiles is not None
    assert (told.files.tiles.repeated, told.files.tiles.lost) == (2, 1)
    assert {(one.reason, one.annotations) for one in told.altered} == {
        ("NoTile", 1),
        ("SeveralTiles", 2),
        ("TileEdge", 1),
    }
    assert any("in no tile" in one and "scan.png (cod: 0, 0, 700, 500)" in one for one in told.warnings)


def test_a_lower_share_keeps_smaller_parts(tmp_path: Path) -> None:
    version, _ = run(
        source(tmp_path, {"scan.png": [[190, 300, 400, 20]]}), preprocessing={"tile": TILE | {"minShare": 15}}
    )

    assert boxes_of(version, 0, 200) == [(190, 100, 66, 20)]


def test_tiles_without_annotations_are_left_out_on_demand_and_counted(tmp_path: Path) -> None:
    folder = source(tmp_path, {"scan.png": [[10, 10, 30, 30]], "plain.png": []})

    version, told = run(folder, preprocessing={"tile": TILE | {"empty": "Drop"}})

    assert [image.path for image in version.collection.images] == ["scan.png/x0000000_y0000000.png"]
    assert told.files.tiles is not None
    assert (told.files.tiles.empty, told.files.excluded) == (23, 1)
    assert [(one.reason, one.first) for one in told.excluded] == [(ExclusionReason.EMPTY_TILES, ["plain.png"])]


def test_nothing_is_left_of_images_without_annotations(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"tile\.empty") as refused:
        run(
            source(tmp_path, {"scan.png": [], "other.png": [[0, 0, 700, 500]]}),
            preprocessing={"tile": TILE | {"empty": "Drop"}},
        )
    assert refused.value.failure.reason == Reason.NO_IMAGES_LEFT


@pytest.mark.parametrize("policy", ["Stratified", "Random", "Grouped"])
def test_all_tiles_of_an_image_are_in_one_split_whatever_the_policy(policy: str, tmp_path: Path) -> None:
    folder = source(tmp_path, {f"{number}.png": [[10, 10, 30, 30]] for number in range(4)})

    version, told = run(folder, split={"policy": policy, "ratios": {"train": 50, "validation": 25, "test": 25}})

    splits = {(image.part.of, image.split) for image in version.collection.images if image.part}
    assert len(splits) == 4
    assert told.quality.leakage == 0
    assert {count.images for count in told.splits.values()} == {24, 12}


def mixed(folder: Path, groups: dict[str, str | None]) -> Path:
    """A source of scans, some of them in a group, and of one image that fits in a tile, in the first scan's group."""
    source(folder, {name: [] for name in groups})
    photo(folder / "data" / "small.png", 64, 48, seed=99)
    listed: dict[str, Any] = coco({name: [[5.0, 5.0, 20.0, 20.0]] for name in (*groups, "small.png")}, size=SIDE)
    listed["images"][-1] |= {"width": 64, "height": 48}
    known = {**groups, "small.png": next(iter(groups.values()))}
    for image in listed["images"]:
        if (group := known[image["file_name"]]) is not None:
            image["group"] = group
    document(folder / "data" / "boxes.json", listed)
    return folder


def split_of_files(version: versions.Version) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for image in version.collection.images:
        found.setdefault(image.file, set()).add(image.split)
    return found


@pytest.mark.parametrize("policy", ["Stratified", "Random", "Grouped"])
def test_scans_of_a_group_that_is_held_out_are_the_test_split_with_all_their_tiles(policy: str, tmp_path: Path) -> None:
    groups: dict[str, str | None] = {f"{number}.png": ("north", "south", "east")[number % 3] for number in range(6)}
    folder = mixed(tmp_path, groups)

    version, told = run(folder, split={"policy": policy, "holdout": {"group": ["north"]}})

    splits = split_of_files(version)
    assert {name for name, found in splits.items() if "test" in found} == {"0.png", "3.png", "small.png"}
    assert all(len(found) == 1 for found in splits.values())
    assert told.splits["test"].images == 2 * 12 + 1
    assert {one for found in splits.values() for one in found} == {"train", "validation", "test"}


def test_a_scan_whose_copy_is_held_out_goes_to_test_with_all_its_tiles(tmp_path: Path) -> None:
    folder = mixed(tmp_path, {f"{number}.png": ("north", "south", "east")[number % 3] for number in range(6)})
    (folder / "data" / "4.png").write_bytes((folder / "data" / "0.png").read_bytes())

    version, told = run(
        folder,
        cleaning={"duplicates": {"action": "Keep"}},
        split={"policy": "Random", "holdout": {"group": ["north"]}},
    )

    splits = split_of_files(version)
    assert splits["4.png"] == {"test"}
    assert all(len(found) == 1 for found in splits.values())
    assert any("12 images go to test with what split.holdout names" in warning for warning in told.warnings)


def test_a_scan_without_a_group_is_held_out_by_its_path(tmp_path: Path) -> None:
    folder = source(tmp_path, {f"{number}.png": [[10, 10, 30, 30]] for number in range(4)})

    version, _ = run(folder, split={"policy": "Random", "holdout": {"group": ["2.png"]}})

    assert {name: found for name, found in split_of_files(version).items() if "test" in found} == {"2.png": {"test"}}
    assert all(len(found) == 1 for found in split_of_files(version).values())


def test_scans_without_a_group_beside_images_that_are_not_cut_are_not_guessed_into_groups(tmp_path: Path) -> None:
    folder = mixed(tmp_path, {f"{number}.png": None for number in range(3)})

    with pytest.raises(RefusedError, match=r"split\.holdout\.group divides by group, but 1 of 4 images .*: small\.png"):
        run(folder, split={"policy": "Random", "holdout": {"group": ["2.png"]}})


def test_plain_tiles_are_no_duplicates_of_each_other(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    Image.new("L", SIDE, 250).save(tmp_path / "data" / "scan.png")
    document(tmp_path / "data" / "boxes.json", coco({"scan.png": [[10, 10, 30, 30]]}, size=SIDE))

    version, told = run(tmp_path)

    assert (told.images, told.quality.duplicates) == (12, 0)
    assert len({*version.blobs.values()}) == 1


def test_kept_duplicates_are_in_one_split_with_all_their_tiles(tmp_path: Path) -> None:
    folder = source(tmp_path, {f"{number}.png": [[10, 10, 30, 30]] for number in range(3)})
    (folder / "data" / "2.png").write_bytes((folder / "data" / "0.png").read_bytes())

    version, told = run(
        folder,
        cleaning={"duplicates": {"action": "Keep"}},
        split={"ratios": {"train": 50, "validation": 0, "test": 50}},
    )

    splits = {image.part.of: image.split for image in version.collection.images if image.part}
    assert splits["0.png"] == splits["2.png"] != splits["1.png"]
    assert (told.quality.duplicates, told.quality.leakage) == (1, 0)


def test_kept_duplicates_stay_together_when_the_first_of_them_has_no_tile(tmp_path: Path) -> None:
    folder = source(tmp_path, {"0.png": [], **{f"{number}.png": [[10, 10, 30, 30]] for number in range(1, 9)}})
    for name in ("1.png", "8.png"):
        (folder / "data" / name).write_bytes((folder / "data" / "0.png").read_bytes())

    for seed in range(3):
        version, told = run(
            folder,
            cleaning={"duplicates": {"action": "Keep"}},
            preprocessing={"tile": TILE | {"empty": "Drop"}},
            split={"ratios": {"train": 50, "validation": 0, "test": 50}, "seed": seed},
        )

        splits = {image.file: image.split for image in version.collection.images}
        assert "0.png" not in splits
        assert splits["1.png"] == splits["8.png"]
        assert told.quality.leakage == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
def test_tiles_are_cut_of_the_upright_image(suffix: str, orientation: int, tmp_path: Path) -> None:
    noise: Any = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    stored = tmp_path / "data" / f"scan.{suffix}"
    stored.parent.mkdir()
    if suffix == "tif":
        stored.write_bytes(tiff(noise, 2, more={274: [orientation]}))
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(noise).save(stored, exif=exif)
    size = (400, 300) if orientation < 5 else (300, 400)
    boxes = coco({stored.name: [[10, 10, 30, 30]]}, size=size)
    document(tmp_path / "data" / "boxes.json", boxes)
    whole, _ = run(tmp_path, preprocessing=None)
    upright = cv2.imread(str(whole.blobs[stored.name]))

    version, _ = run(tmp_path)

    assert len(version.collection.images) == 4
    for image in version.collection.images:
        assert image.part is not None
        x, y = image.part.x, image.part.y
        assert (cv2.imread(str(version.blobs[image.path])) == upright[y : y + 256, x : x + 256]).all()


def test_images_that_fit_in_a_tile_stay_as_they_are(tmp_path: Path) -> None:
    folder = source(tmp_path, {"scan.png": [[10, 10, 30, 30]]})

    version, told = run(folder, preprocessing={"tile": {"size": 1024, "overlap": 0}})

    (image,) = version.collection.images
    assert (image.path, image.part, image.group) == ("scan.png", None, None)
    assert version.blobs["scan.png"].read_bytes() == (folder / "data" / "scan.png").read_bytes()
    assert told.files.tiles is not None
    assert told.files.tiles.images == 0


def test_a_view_of_tiles_can_be_made(tmp_path: Path) -> None:
    version, _ = run(source(tmp_path, {"scan.png": [[10, 10, 30, 30]]}))

    for view in ("yolo", "coco"):
        versions.materialise(version.folder, view, tmp_path / view)
        assert len([*(tmp_path / view).rglob("*.png")]) == 12


def test_a_tile_of_16_bits_is_shown_by_the_rule_for_the_whole_image(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    deep: Any = np.full((300, 300), 300, np.uint16)
    deep[0, 0] = 40_000
    (tmp_path / "data" / "scan.png").write_bytes(bytes(cv2.imencode(".png", deep)[1]))
    document(tmp_path / "data" / "boxes.json", coco({"scan.png": [[10, 10, 30, 30]]}, size=(300, 300)))

    version, _ = run(tmp_path)

    tiles = [cv2.imread(str(version.blobs[one.path]), cv2.IMREAD_UNCHANGED) for one in version.collection.images]
    assert {one.dtype for one in tiles} == {np.dtype(np.uint8)}
    assert [int(one[-1, -1]) for one in tiles] == [300 >> 8] * 4


def test_statistics_are_those_of_the_tiles(tmp_path: Path) -> None:
    folder = source(tmp_path, {"scan.png": [[10, 10, 30, 30]]})

    version, _ = run(folder, preprocessing={"tile": TILE, "normalization": "DatasetStatistics"})

    tiles = [cv2.imread(str(blob))[..., ::-1] / 255 for blob in version.blobs.values()]
    assert version.statistics is not None
    assert version.statistics.mean == pytest.approx(np.mean([one.mean((0, 1)) for one in tiles], axis=0), abs=1e-6)


class TestShapes:
    """In an image of 300 x 300, with tiles of 256 that overlap by 212 pixels."""

    SQUARE = shapes.polygon("cod", (240, 10, 270, 10, 270, 40, 240, 40))
    HOLE = shapes.polygon("cod", (0, 0, 100, 0, 100, 100, 0, 100), holes=[(10, 10, 20, 10, 20, 20, 10, 20)])
    TURNED = shapes.rectangle("cod", 240, 100, 40, 10, 45)

    @staticmethod
    def tiles(shape: Shape, task: Task, **tile: Any) -> dict[tuple[int, int], Sequence[Shape]]:
        image = ImageRecord("scan.png", 300, 300, shapes=(shape,))
        found = Cleaned(Collection(task, ("cod",), (image,)), {}, 1, 0, 0, 0, 0)
        inspections = {"scan.png": Inspection("0" * 64, 1, 300, 300)}
        cut = tiling.cut(found, inspections, Tile.model_validate(TILE | tile), lambda image, kept: {})
        return {(one.part.x, one.part.y): one.shapes for one in cut.cleaned.collection.images if one.part}

    def test_polygons_are_cut_and_keep_their_holes(self) -> None:
        found = self.tiles(self.SQUARE, Task.INSTANCE_SEGMENTATION)
        assert found[0, 0][0].sides == (240, 10, 16, 30)
        assert found[44, 0][0].sides == (196, 10, 30, 30)
        assert found[0, 44] == found[44, 44] == ()
        (holed,) = self.tiles(self.HOLE, Task.INSTANCE_SEGMENTATION)[0, 0]
        assert holed == self.HOLE

    def test_masks_are_cut_by_pixels(self) -> None:
        pixels: Any = np.zeros((300, 300), bool)
        pixels[10:40, 240:270] = True
        found = self.tiles(masks.of_array("cod", pixels), Task.INSTANCE_SEGMENTATION)

        assert (masks.on_image(found[0, 0][0], 256, 256) == pixels[:256, :256]).all()
        assert (masks.on_image(found[44, 0][0], 256, 256) == pixels[:256, 44:]).all()
        assert found[0, 44] == ()

    def test_where_every_pixel_counts_any_part_is_kept(self) -> None:
        assert self.tiles(self.SQUARE, Task.SEMANTIC_SEGMENTATION, minShare=None)[0, 0]
        small = shapes.polygon("cod", (250, 10, 290, 10, 290, 40, 250, 40))
        assert not self.tiles(small, Task.INSTANCE_SEGMENTATION)[0, 0]
        assert self.tiles(small, Task.SEMANTIC_SEGMENTATION)[0, 0][0].sides == (250, 10, 6, 30)

    def test_turned_rectangles_stay_whole_where_their_centre_is(self) -> None:
        found = self.tiles(self.TURNED, Task.ORIENTED_DETECTION)

        assert found[0, 0] == ()
        assert found[44, 0] == (shapes.moved(self.TURNED, -44, 0),)

    def test_a_turned_rectangle_of_which_its_tile_shows_too_little_is_in_none(self) -> None:
        """A chain of cells across the image: its centre is in every tile, and the longest part that a tile shows is 250."""
        chain = shapes.rectangle("cod", 20, 145, 260, 10, 30)
        longer = shapes.rectangle("cod", -200, 145, 700, 10, 30)

        assert self.tiles(chain, Task.ORIENTED_DETECTION)[0, 0] == (chain,)
        assert not any(self.tiles(longer, Task.ORIENTED_DETECTION).values())
        assert all(self.tiles(longer, Task.ORIENTED_DETECTION, minShare=20).values())
