"""Mask R-CNN: decoding gives what torchvision gives, and training details of this family; see test_families.py for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pelagos_contract import run_lengths
from pelagos_contract.failures import RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.serving import tasks
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Raw, Settings, Thresholds
from pelagos_pipelines.serving.tasks.instance_heads import maskrcnn as head
from pelagos_pipelines.training import checkpoints, maskrcnn, maskrcnn_networks
from training.shapes import make_request, make_truth
from training.test_balanced_training import make_job, weighed

SMALL = "maskrcnn_mobilenet_v3_small_fpn"
SETTINGS = Settings("InstanceSegmentation", ("disc", "square"), 64, 64, head="maskrcnn")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def found(*objects: tuple[tuple[float, float, float, float], float, int]) -> Raw:
    """Graph outputs that find the given objects (box on the canvas, score, class), each of which fills its box."""
    rows: Any = np.zeros((head.MOST + 1, 6), np.float32)
    masks: Any = np.zeros((head.MOST + 1, 28, 28), np.float32)
    for place, (box, score, class_id) in enumerate(objects):
        rows[place], masks[place] = (*box, score, class_id), 1
    return rows, masks


def decoded(raw: Raw, width: int = 128, height: int = 96, **thresholds: Any) -> Any:
    image = Fitted(np.zeros((64, 64, 3), np.uint8), width, height)
    return head.STRATEGY.decode(raw, image, SETTINGS, Thresholds(**thresholds))


def test_masks_are_pasted_as_torchvision_pastes_them() -> None:
    random = np.random.default_rng(1)
    width, height = 97, 61
    corners = random.uniform(-10, 70, (40, 2))
    boxes = np.concatenate((corners, corners + random.uniform(0.5, 60, (40, 2))), axis=1)
    boxes = boxes.clip(0, [width, height] * 2).astype(np.float32)
    masks = random.random((40, 28, 28), np.float32)

    want = paste_masks_in_image(torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), (height, width))

    differing = 0
    for place, box in enumerate(boxes):
        left, top, inside = head.pasted(masks[place], box, width, height)
        whole: Any = np.zeros((height, width), bool)
        whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        differing += int((whole != (want[place, 0].numpy() > 0.5)).sum())
    # Of 237,000 pixels. In noise many lie at the threshold, where OpenCV and torch round their interpolation differently.
    assert differing <= 5


def test_objects_are_given_in_pixels_of_the_original() -> None:
    # 128 x 96 pixels become 64 x 48 on the canvas, 8 from the top.
    one = decoded(found(((8, 16, 24, 40), 0.9, 1)))

    assert (one.scores.tolist(), one.boxes.tolist()) == ([pytest.approx(0.9)], [[16, 16, 48, 64]])
    left, top, inside = run_lengths.part_of(one.masks[0], (96, 128))
    assert [left, top, *inside.shape] == pytest.approx([16, 16, 48, 32], abs=2)


def test_rows_without_an_object_are_none_however_low_the_confidence() -> None:
    assert len(decoded(found(((8, 16, 24, 40), 0.9, 1)), confidence=0.0).scores) == 1


def test_more_overlap_is_suppressed_where_less_is_asked_for() -> None:
    raw = found(((8, 16, 24, 40), 0.9, 1), ((8, 26, 24, 50), 0.8, 1), ((8, 26, 24, 50), 0.7, 0))

    assert decoded(raw).class_ids.tolist() == [1, 1, 0]
    assert decoded(raw, iou=0.3).scores.tolist() == pytest.approx([0.9, 0.7])


def test_it_says_that_there_are_more_objects_than_it_gives() -> None:
    spread = [((x, y, x + 2, y + 2), 0.9, 0) for x in range(0, 64, 3) for y in range(8, 56, 3)]

    assert [decoded(found(*spread[:count])).cut for count in (5, head.MOST, head.MOST + 1)] == [False, False, True]
    one = decoded(found(*spread[:5]), max_detections=4)
    assert (one.cut, len(one.masks)) == (True, 4)


def test_its_graph_takes_one_image_at_once() -> None:
    assert tasks.named("InstanceSegmentation", maskrcnn.HEAD).at_once == 1


def test_images_without_objects_are_learnt_from_and_leave_the_statistics_whole() -> None:
    model = maskrcnn_networks.build(SMALL, 2)
    nothing = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 32, 32, dtype=torch.uint8),
    }

    losses = model([torch.rand(3, 32, 32)] * 2, [nothing] * 2)
    sum(losses.values()).backward()

    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(buffer).all() for buffer in model.buffers())
    assert losses["loss_mask"] == 0


class Wrapped(torch.nn.Module):  # type: ignore[misc]  # torch is not typed
    """Wraps a model as training shared by several processes does."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.module = model

    def forward(self, *given: Any) -> Any:
        return self.module(*given)


def test_classes_weigh_in_the_loss_as_planned_and_not_in_that_of_the_validation(tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "drawn", (2, 2, 0), Task.INSTANCE_SEGMENTATION)
    request = make_request(SMALL, imageSize=32)

    def measured(*weights: float) -> tuple[float, float, float]:
        job, _ = make_job(tmp_path, weighed(truth, *weights), request)
        learner = maskrcnn.FAMILY.learner(job)
        torch.manual_seed(0)
        model = learner.build()
        torch.nn.init.constant_(model.roi_heads.box_predictor.cls_score.bias[1], -5)  # it finds no disc anywhere
        learner.prepare(torch.device("cpu"))
        parts = learner.loss(Wrapped(model.train()), learner.batch([0, 1], None))
        with torch.inference_mode():
            validation = learner.metrics(model.eval())
        return parts["classes"].item(), parts["masks"].item(), validation["validation/loss"]

    (plain, masks, loss), (heavier, same, unweighed) = measured(1.0, 1.0), measured(20.0, 1.0)
    assert heavier > plain + 0.2
    assert [same, unweighed] == pytest.approx([masks, loss])


def test_torchvisions_weights_fit_but_for_what_depends_on_the_classes() -> None:
    with torch.device("meta"):
        published = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=91).state_dict()
        wanted = maskrcnn_networks.build("maskrcnn_resnet50_fpn_v2", 2).state_dict()
    # Tensors of the same shapes that take no memory.
    published = {name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in published.items()}

    fitting = checkpoints.matching(published, wanted, maskrcnn_networks.HEADS, "maskrcnn_resnet50_fpn_v2")

    left = {name.rpartition(".")[0] for name in wanted.keys() - fitting.keys()}
    predictor = "roi_heads.box_predictor"
    assert left == {f"{predictor}.cls_score", f"{predictor}.bbox_pred", "roi_heads.mask_predictor.mask_fcn_logits"}
    del published["backbone.body.conv1.weight"]
    with pytest.raises(RefusedError, match=r"1 are missing, such as backbone\.body\.conv1\.weight"):
        checkpoints.matching(published, wanted, maskrcnn_networks.HEADS, "maskrcnn_resnet50_fpn_v2")
