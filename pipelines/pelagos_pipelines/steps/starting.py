"""What a training starts from: the user's checkpoint, brought here, and what was taken of it. Called by the step train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pelagos_pipelines.steps import runs

STATE = "start"
"""What was taken of the checkpoint: only the first attempt reads it, further ones go on from our own."""


def bring(run: runs.Run) -> Path | None:
    """A verified copy of the checkpoint that the request names, if it names one.

    Raises:
        RefusedError: CHECKPOINT_INVALID.
        FetchError, StorageError, TrackingError: its place is away.
    """
    from pelagos_pipelines.training import checkpoints, remote_weights

    weights, places = run.request.model.weights, run.places
    if weights is None:
        return None
    if weights.on_volume is None:
        return remote_weights.bring(weights, places.scratch / "start.pt", run.tracking_uri)
    data_root = checkpoints.download(weights, places.data_root, places.scratch / "data")
    return checkpoints.copy_checkpoint(weights, data_root, places.scratch / "start.pt")


def note(run: runs.Run, start: Path | None) -> None:
    """Keep what a family took of the checkpoint, if it has done so by now."""
    from pelagos_pipelines.training import checkpoints

    if start is None or run.finished(STATE) or (taken := checkpoints.taken(start)) is None:
        return
    run.note(STATE, {"words": str(taken), "isWhole": taken.taken == taken.wanted and not taken.unused})


def described(run: runs.Run) -> dict[str, str]:
    """Parameters that say what was taken."""
    return {"weights.taken": _noted(run)["words"]} if _noted(run) else {}


def warnings(run: runs.Run) -> list[str]:
    """What people should know of it: nothing when all of the checkpoint became all of the model."""
    noted = _noted(run)
    return [f"model.weights: {noted['words']}"] if noted and not noted["isWhole"] else []


def _noted(run: runs.Run) -> dict[str, Any]:
    found: dict[str, Any] = run.read(STATE) if run.request.model.weights and run.finished(STATE) else {}
    return found
