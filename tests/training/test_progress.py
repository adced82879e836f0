"""One rule decides which epoch is the best and when patience has run out, for every family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from pelagos_contract.tasks import Task
from pelagos_pipelines.training.progress import Progress
from training.shapes import make_request


def after(*epochs: Mapping[str, float], task: Task = Task.DETECTION) -> Progress:
    progress = Progress()
    for metrics in epochs:
        progress = progress.after(metrics, task)
    return progress


@pytest.mark.parametrize(
    ("task", "metric"), [(Task.DETECTION, "validation/mAP50-95"), (Task.CLASSIFICATION, "validation/F1")]
)
@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ([(0.1, 9), (0.3, 9), (0.2, 1)], 2),
        ([(0.5, 3), (0.5, 2), (0.5, 4)], 2),  # among equals the one with the lowest loss
        ([(0.5, 3), (0.5, 3), (0.5, 3)], 1),  # if the loss is equal, too, the first
        ([(0, 3), (0, 2), (0, 1)], 3),  # before anything is found, the one that comes closest
        ([(0, 3)], 1),
    ],
)
def test_the_best_epoch(task: Task, metric: str, figures: Sequence[tuple[float, float]], best: int) -> None:
    progress = after(*({metric: value, "validation/loss": loss} for value, loss in figures), task=task)
    assert (progress.epoch, progress.best_epoch) == (len(figures), best)
    assert progress.is_best == (best == len(figures))


def test_without_a_metric_the_loss_chooses_and_without_any_figure_the_first() -> None:
    assert after({"validation/loss": 3}, {"validation/loss": 2}, {}).best_epoch == 2
    assert after({}, {}).best_epoch == 1


def test_patience_counts_from_the_best_epoch() -> None:
    request = make_request("yolov8n", epochs=9, earlyStopping={"patience": 2})
    best, worse = {"validation/mAP50-95": 0.5}, {"validation/mAP50-95": 0.1}
    assert not after(best, worse).is_over(request)
    assert after(best, worse, worse).is_over(request)
    assert not after(worse, worse, best).is_over(request)
    assert not Progress().is_over(request)
    assert after(*[best] * 9).is_over(make_request("yolov8n", epochs=9))


def test_a_checkpoint_keeps_it() -> None:
    progress = after({"validation/F1": 0.25}, {"validation/F1": 0.125}, task=Task.CLASSIFICATION)
    assert Progress.of(progress.content()) == progress
