"""Crowd regions pass through the preparation with their images into versions. Without any, versions are as before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import dataset_versions
import image_sources
from pelagos_contract.dataset import Change
from pelagos_contract.failures import RefusedError
from pelagos_contract.labels import Labels
from pelagos_contract.preprocessing import Tile
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import shapes
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.preparation import contradictions, labelling, outside, resizing, tiling, versions
from pelagos_pipelines.preparation.cleaning import Cleaned
from pelagos_pipelines.preparation.integrity import Inspection


def source(root: Path, crowds: Sequence[list[float]] = ([2, 3, 20, 10],)) -> Path:
    """Three images with one fish each; the last one also has crowds."""
    names = ("a.png", "b.png", "c.png")
    for number, name in enumerate(names):
        image_sources.photo(root / name, 40, 30, seed=number)
    boxes: dict[str, list[list[float]]] = {name: [[4, 5, 6, 7]] for name in names}
    boxes["c.png"] = [*boxes["c.png"], *crowds]
    content = image_sources.coco(boxes)
    for mark in content["annotations"][3:]:  # type: ignore[index]
        mark["iscrowd"] = 1
    image_sources.document(root / "annotations.json", content)
    return root


def test_a_version_has_its_crowds_and_another_digest_by_them(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", source(tmp_path / "source"))
    plain = dataset_versions.write(tmp_path / "store", source(tmp_path / "plain", crowds=()))

    again = versions.read(version.folder)
    assert version.digest != plain.digest
    assert [image.crowds for image in again.collection.images] == [(), (), (shapes.rectangle("cod", 2, 3, 20, 10),)]
    assert b"crowds" not in (plain.folder / "annotations.json").read_bytes()
    (sample,) = ground_truth.of_version(again).samples("test")
    assert (len(sample.class_ids), sample.crowd_ids, sample.crowds[0].sides) == (1, (0,), (2, 3, 20, 10))


def test_a_version_whose_crowds_are_of_no_class_of_it_is_refused(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", source(tmp_path / "source"))
    file = version.folder / "annotations.json"
    content = file.read_bytes().replace(b'"crowds":[{"class":"cod"', b'"crowds":[{"class":"eel"')
    file.write_bytes(content)
    manifest = (version.folder / "manifest.json").read_text()
    digest = versions.digest_of(version.folder)
    (version.folder / "manifest.json").write_text(manifest.replace(version.digest, digest))
    with pytest.raises(RefusedError, match="not those of a version"):
        versions.read(version.folder.rename(version.folder.with_name(digest)))


@pytest.mark.parametrize(("view", "left"), [("coco", []), ("yolo", [("rectangle", Change.CROWD, 1)])])
def test_views_have_the_crowds_or_count_them(tmp_path: Path, view: str, left: list[object]) -> None:
    version = dataset_versions.write(tmp_path / "store", source(tmp_path / "source"))
    altered = versions.materialise(version.folder, view, tmp_path / "view")
    assert [(each.kind, each.reason, each.annotations) for each in altered] == left
    if view == "coco":
        found = [image for image in image_sources.read(tmp_path / "view").images if image.crowds]
        assert [(image.split, image.crowds) for image in found] == [("test", (shapes.rectangle("cod", 2, 3, 20, 10),))]


def cleaned(boxes: Sequence[Box], crowds: Sequence[Shape], side: int) -> tuple[Cleaned, dict[str, Inspection]]:
    image = ImageRecord("a.png", side, side, boxes=tuple(boxes), crowds=tuple(crowds))
    seen = Inspection("a" * 64, 1, side, side)
    left = Cleaned(Collection(Task.DETECTION, ("cod",), (image,)), {}, 1, 0, 0, 0, 0)
    return left, {"a.png": seen}


def test_tiles_have_their_parts_of_crowds_and_one_with_crowds_alone_is_no_background() -> None:
    crowd = shapes.rectangle("cod", 120, 0, 136, 40)
    found, seen = cleaned([Box("cod", 10, 10, 20, 20)], [crowd], 256)
    tiled = tiling.cut(
        found,
        seen,
        Tile(size=128, overlap=0, empty="Keep"),
        lambda image, tiles: {each.path: seen["a.png"] for each in tiles},
    )
    shown = {(image.part.x, image.part.y): image for image in tiled.cleaned.collection.images if image.part is not None}
    assert shown.keys() == {(0, 0), (0, 128), (128, 128)}, "that above right shows a crowd and nothing else"
    assert shown[0, 0].crowds == (shapes.rectangle("cod", 120, 0, 8, 40),)
    assert shown[0, 128].crowds == ()


def test_crowds_are_made_smaller_with_their_image() -> None:
    found, seen = cleaned([Box("cod", 10, 10, 20, 20)], [shapes.rectangle("cod", 40, 20, 80, 60)], 200)
    half = {"a.png": replace(seen["a.png"], reduced=(100, 100))}
    (image,) = resizing.scaled(found, half).collection.images
    assert image.crowds == (shapes.rectangle("cod", 20, 10, 40, 30),)


def test_crowds_take_the_new_names_of_classes_and_go_with_those_that_are_left_out() -> None:
    crowds = (shapes.rectangle("cod", 0, 0, 9, 9), shapes.rectangle("krill", 0, 0, 5, 5))
    image = ImageRecord("a.png", 40, 30, boxes=(Box("cod", 10, 10, 20, 20), Box("krill", 1, 1, 2, 2)), crowds=crowds)
    found = Collection(Task.DETECTION, ("cod", "krill"), (image,))
    made = labelling.applied(found, Labels.model_validate({"rename": {"cod": "fish"}, "exclude": ["krill"]}))
    assert made.images[0].crowds == (shapes.rectangle("fish", 0, 0, 9, 9),)
    assert [(each.reason, each.annotations) for each in made.altered] == [(Change.EXCLUDED_CLASS, 2)]


def test_a_crowd_that_exceeds_its_image_is_cut_as_objects_are() -> None:
    image = ImageRecord("a.png", boxes=(Box("cod", 1, 1, 5, 5),), crowds=(shapes.rectangle("cod", 30, 10, 20, 10),))
    placing = outside.Placing("Clip", ("cod",))
    (left,) = placing.all([image], {"a.png": Inspection("0" * 64, 1, 40, 30)}, Faults())
    assert left.crowds == (shapes.rectangle("cod", 30, 10, 10, 10),)
    assert placing.altered.counts["rectangle", Change.CUT] == 1


def test_a_crowd_that_one_of_identical_images_has_is_not_lost() -> None:
    crowd = shapes.rectangle("cod", 0, 0, 9, 9)
    first = ImageRecord("a.png", 40, 30, boxes=(Box("cod", 1, 1, 5, 5),))
    second = replace(first, path="b.png", crowds=(crowd,))
    seen = {path: Inspection("0" * 64, 1, 40, 30, pixels="same") for path in ("a.png", "b.png")}
    images, told = contradictions.settle(Task.DETECTION, [first, second], seen, dropping=True)
    assert images[0].crowds == (crowd,)
    assert len(told) == 1
