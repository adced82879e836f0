"""Trainings of ultralytics' networks read the store directly: they see what an exported folder would hold, and write none."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import image_sources
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import shapes, yolo
from pelagos_pipelines.annotations.model import Box, Boxes, Collection, ImageRecord
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.training import yolov8, yolov8_view
from training.shapes import make_request, make_version

# isort: split
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import YOLODataset

FAMILIES = {
    Task.DETECTION: ("yolov8n", "detect"),
    Task.INSTANCE_SEGMENTATION: ("yolov8n-seg", "segment"),
    Task.ORIENTED_DETECTION: ("yolov8n-obb", "obb"),
}
SPLITS = {yolov8_view.TRAIN: "train", yolov8_view.VALIDATION: "validation"}


def dataset(kind: type[Any], place: str, task: str, data: dict[str, Any], **more: Any) -> Any:
    hyp = get_cfg(overrides={"deterministic": True})
    return kind(place, imgsz=64, augment=True, hyp=hyp, task=task, data=data, batch_size=2, **more)


def shown(found: Any) -> list[dict[str, Any]]:
    """Everything a dataset passes to ultralytics, except names of images."""
    said: list[dict[str, Any]] = []
    for number, label in enumerate(found.labels):
        pixels, size, resized = found.load_image(number)
        said.append({name: value for name, value in label.items() if name != "im_file"})
        said[-1] |= {"pixels": pixels, "size": size, "resized": resized}
    return said


def assert_same(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if isinstance(value, np.ndarray):
                assert value.dtype == other[name].dtype
                assert value.shape == other[name].shape
                assert value.tobytes() == other[name].tobytes(), name
            elif name == "segments":
                assert [each.tobytes() for each in value] == [each.tobytes() for each in other[name]]
                assert [each.dtype for each in value] == [each.dtype for each in other[name]]
            else:
                assert value == other[name], name


@pytest.mark.parametrize("task", FAMILIES)
def test_a_training_sees_in_the_store_what_it_would_see_in_a_folder_of_links(tmp_path: Path, task: Task) -> None:
    architecture, name = FAMILIES[task]
    uri, version = make_version(tmp_path / "made", (6, 3, 3), task)
    truth = ground_truth.read(make_request(architecture, uri, version))
    data = yolov8_view.data(truth)
    versions.materialise(uri, "yolo", tmp_path / "view")
    told = {"names": dict(enumerate(truth.labels)), "nc": len(truth.labels), "channels": 3}
    for place, split in SPLITS.items():
        for rect in (False, True):
            here = dataset(yolov8_view.Images, place, name, data, rect=rect)
            there = dataset(YOLODataset, str(tmp_path / "view/images" / split), name, told, rect=rect)
            assert_same(shown(here), shown(there))
        assert [label["im_file"] for label in here.labels]
    assert {file.stat().st_nlink for file in versions.read(uri).blobs.values()} == {2}, "the view alone has links"


number = st.floats(0, 1) | st.sampled_from([0.0, 1 / 3, 0.5, 1.0, 0.123456785, 1e-9])
drawn = st.tuples(st.sampled_from(["cod", "eel"]), number, number, number, number)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(drawn, max_size=5), min_size=1, max_size=4), st.sampled_from([(64, 48), (33, 77), (1, 1)]))
@example(
    [[("cod", 0.5, 0.5, 0.25, 0.25)] * 3, [], [("eel", 0.5, 0.5, 0.2, 0.2), ("cod", 0.5, 0.5, 0.2, 0.2)]], (64, 48)
)
@example([[("eel", 0.5, 0.5, 0.25, 0.25), ("cod", 0, 0, 1, 1), ("eel", 0.5, 0.5, 0.25, 0.25 + 1e-10)]], (33, 77))
def test_boxes_are_those_of_label_files_to_the_last_bit(
    images: list[list[tuple[str, float, float, float, float]]], size: tuple[int, int]
) -> None:
    """Rows that become identical are merged, in the order in which ultralytics keeps the rest."""
    from ultralytics.data.utils import verify_image_label

    width, height = size
    records = []
    for place, boxes in enumerate(images):
        inside = [
            Box(label, x * width, y * height, min(w, 1 - x) * width, min(h, 1 - y) * height)
            for label, x, y, w, h in boxes
        ]
        records.append(ImageRecord(f"{place}.png", width, height, split="train", boxes=tuple(inside)))
    ids = {"cod": 0, "eel": 1}
    found = yolov8_view.labels([sample(record) for record in records], ids)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        photo = image_sources.photo(folder / "image.png", width, height)
        (folder / "view").mkdir()
        collection = Collection(Task.DETECTION, ("cod", "eel"), tuple(records))
        yolo.write(folder / "view", collection, {record.path: photo for record in records})
        files = sorted((folder / "view/images/train").iterdir())
        for label, file in zip(found, files, strict=True):
            text = folder / "view/labels/train" / f"{file.stem}.txt"
            read = verify_image_label((str(file), str(text), "", False, 2, 0, 0, False))
            assert read[9] == "" or "duplicate" in read[9]
            rows = np.concatenate((label["cls"], label["bboxes"]), axis=1)
            assert rows.dtype == read[1].dtype
            assert rows.tobytes() == read[1].tobytes()
            assert label["shape"] == read[2]


def sample(record: ImageRecord) -> Sample:
    nothing: Any = np.zeros(0)
    return Sample(record.path, Path(record.path), nothing, nothing, record=record)


def test_repeated_outlines_of_an_image_are_one() -> None:
    one, other = (shapes.polygon("cod", [x, 1.0, 20.0, 1.0, 20.0, 30.0]) for x in (1.0, 2.0))
    same_box = shapes.polygon("cod", [1.0, 1.0, 20.0, 1.0, 20.0, 30.0, 1.0, 30.0])
    record = ImageRecord("a.png", 64, 48, split="train", shapes=(other, one, same_box, one))
    (found,) = yolov8_view.labels([sample(record)], {"cod": 0})
    assert len(found["cls"]) == len(found["bboxes"]) == len(found["segments"]) == 3


def test_an_annotation_that_ultralytics_would_leave_out_with_its_image_is_refused() -> None:
    first = ImageRecord("a.png", 64, 48, split="train", boxes=(Box("cod", 1, 1, 9, 9),))
    record = replace(first, path="dive/b.png", boxes=(Box("cod", 60, 10, 20, 10), Box("cod", 70, 10, 20, 10)))
    with pytest.raises(RefusedError, match=r"dive/b\.png has an annotation beyond its edges") as refused:
        yolov8_view.labels([sample(first), sample(record)], {"cod": 0})
    assert refused.value.failure.reason is Reason.DATASET_NOT_READABLE


def truth_of(folder: Path) -> tuple[GroundTruth, list[Path]]:
    uri, version = make_version(folder, (3, 3, 3), Task.DETECTION)
    truth = ground_truth.read(make_request("yolov8n", uri, version), check_content=True)
    return truth, [one.file for one in truth.samples("train")]


def test_an_image_that_is_altered_in_the_store_is_refused_when_it_is_read(tmp_path: Path) -> None:
    assert yolov8.FAMILY
    truth, files = truth_of(tmp_path)
    found = dataset(yolov8_view.Images, yolov8_view.TRAIN, "detect", yolov8_view.data(truth))
    other = image_sources.photo(tmp_path / "other.png", seed=99).read_bytes()
    files[1].chmod(0o644)
    files[1].write_bytes(other)
    found.load_image(0)
    with pytest.raises(RefusedError, match="is damaged or was altered; restore it") as refused:
        found.load_image(1)
    assert refused.value.failure.reason is Reason.DATASET_NOT_READABLE


def test_arrays_beside_the_images_of_the_store_are_not_read(tmp_path: Path) -> None:
    truth, files = truth_of(tmp_path)
    want = truth.samples("train")[0].pixels()
    np.save(files[0].with_suffix(".npy"), np.zeros_like(want))
    found = dataset(yolov8_view.Images, yolov8_view.TRAIN, "detect", yolov8_view.data(truth), cache="ram")
    assert found.load_image(0)[0].any()


def test_packed_boxes_of_a_version_and_plain_ones_give_the_same_labels() -> None:
    boxes = (Box("cod", 1.5, 2.25, 10.0, 20.0), Box("eel", 3.0, 4.0, 5.0, 6.0))
    plain = ImageRecord("a.png", 64, 48, split="train", boxes=boxes)
    packed = replace(plain, boxes=Boxes.of(boxes, {"eel": 0, "cod": 1}, ("eel", "cod")))
    (one,), (other,) = (yolov8_view.labels([sample(each)], {"cod": 0, "eel": 1}) for each in (plain, packed))
    assert_same([one], [other])
