"""Trainings in separate processes that are killed (SIGKILL) at a chosen moment, for tests of what survives."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.training import checkpoints
from pelagos_pipelines.training.families import Job, family_of
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory

# As in steps: threads that spin while they wait make a busy machine ten times as slow.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Fork from a server that has imported everything already. It has no threads yet, so forking is safe.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "pelagos_pipelines.training.yolov8",
        "pelagos_pipelines.training.mobilenet_v3",
        "training.killed",
        "mlflow.tracking",
    ]
)


@dataclass(frozen=True)
class Moment:
    """When to die: ``where`` is a key of `MOMENTS`; ``number`` counts epochs, or steps of the optimizer in the process."""

    where: str
    number: int


@dataclass(frozen=True)
class Tracked:
    """The MLflow server and the run that a training reports to; empty strings mean none."""

    uri: str = ""
    run: str = ""


def train(folder: Path, request: TrainingRequest, moment: Moment | None = None, tracked: Tracked = Tracked()) -> int:
    """Train in ``folder``, dying at ``moment`` if given. Returns the exit code of the process."""
    process = CONTEXT.Process(
        target=_train, args=(folder, request.model_dump_json(by_alias=True), moment, tracked), daemon=True
    )
    process.start()
    process.join(300)
    code = process.exitcode
    assert code is not None, "the training hangs"
    return code


def _train(folder: Path, text: str, moment: Moment | None, tracked: Tracked) -> None:
    request = TrainingRequest.model_validate_json(text)
    folder.mkdir(exist_ok=True)
    # If all images fit in memory, the loader itself has no state. Test the harder case.
    from ultralytics.data.base import BaseDataset

    BaseDataset.check_cache_ram = lambda self, safety_margin=0.5: False
    tracker = Tracker(tracked.uri, tracked.run)
    history = TrainingHistory(folder / "history.json", tracker)
    if moment is not None:
        MOMENTS[moment.where](moment.number, tracker)
    best = family_of(request).train(Job(request, ground_truth.read(request), folder, None), history)
    (folder / "returned").write_text(str(best))
    tracker.flush()


def perform(folder: Path, request: str, moment: Moment | None) -> int:
    """Perform the step train with its places in ``folder``, dying at ``moment`` if given. Returns the process's exit code."""
    process = CONTEXT.Process(target=_perform, args=(folder, request, moment), daemon=True)
    process.start()
    process.join(300)
    code = process.exitcode
    assert code is not None, "the step hangs"
    return code


def _perform(folder: Path, request: str, moment: Moment | None) -> None:
    from pelagos_pipelines.steps.train import train as step

    if moment is not None:
        MOMENTS[moment.where](moment.number, Tracker("", ""))
    data, store, report, workspace = (str(folder / name) for name in ("data", "store", "report", "workspace"))
    step(request, data, store, report, workspace, "", "")


def _die(tracker: Tracker) -> None:
    # Deliver what the server would have received by now, so that the test's findings do not depend on timing.
    tracker.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def _in_a_step(number: int, tracker: Tracker) -> None:
    """Die right after the optimizer step with this number has changed the weights."""
    step: Callable[..., Any] = torch.optim.AdamW.step
    steps = 0

    def counted(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        result = step(self, *args, **kwargs)
        if steps == number:
            _die(tracker)
        return result

    torch.optim.AdamW.step = counted


def _before_the_checkpoint(number: int, tracker: Tracker) -> None:
    """Die when the epoch is in the history, but not yet in a checkpoint."""
    _around_the_checkpoint(number, tracker, written=False)


def _after_the_checkpoint(number: int, tracker: Tracker) -> None:
    """Die when the epoch's checkpoint is written, but the best checkpoint is not updated and nothing has been reported."""
    _around_the_checkpoint(number, tracker, written=True)


def _around_the_checkpoint(number: int, tracker: Tracker, *, written: bool) -> None:
    save = checkpoints.save_atomically

    def deadly(content: Any, path: Path) -> None:
        here = path.name == "last.pt" and content["epoch"] == number
        if here and not written:
            _die(tracker)
        save(content, path)
        if here:
            _die(tracker)

    checkpoints.save_atomically = deadly


MOMENTS: dict[str, Callable[[int, Tracker], None]] = {
    "in a step": _in_a_step,
    "before the checkpoint": _before_the_checkpoint,
    "after the checkpoint": _after_the_checkpoint,
}
