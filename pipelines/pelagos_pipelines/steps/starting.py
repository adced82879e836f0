"""Fetches the user's checkpoint that a training starts from, and records how much of it is used. Called by the step train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pelagos_pipelines.steps import runs

if TYPE_CHECKING:
    from pelagos_contract.training import Weights

LAST = "last.pt"
"""The checkpoint that trainings continue from, see families.Job."""
STATE = "start"
"""The state that says how much of the checkpoint is used. Only the first attempt reads it; later ones continue from our own."""


class Start:
    """The checkpoint that a run's request names, fetched when the first training needs it."""

    def __init__(self, run: runs.Run) -> None:
        """Fetch nothing yet."""
        self._run = run
        self._brought: Path | None = None

    def of(self, training: runs.Run) -> Path | None:
        """A verified copy for a training that begins; None for one that continues from our own checkpoint.

        Raises:
            RefusedError: CHECKPOINT_INVALID.
            FetchError, StorageError, TrackingError: the server is unavailable.
        """
        if self._run.request.model.weights is None or (training.checkpoints / LAST).is_file():
            return None
        if self._brought is None:
            self._brought = _bring(self._run, self._run.request.model.weights)
        return self._brought


def _bring(run: runs.Run, weights: Weights) -> Path:
    from pelagos_pipelines.training import checkpoints, remote_weights

    places, target = run.places, _copy(run)
    if weights.on_volume is None:
        roots = remote_weights.own_roots(places.data_root, places.store.uri)
        return remote_weights.bring(weights, target, run.tracking_uri, roots)
    data_root = checkpoints.download(weights, places.data_root, places.scratch / "data")
    return checkpoints.copy_checkpoint(weights, data_root, target)


def _copy(run: runs.Run) -> Path:
    return run.places.scratch / "start.pt"


def note(run: runs.Run) -> None:
    """Record how much of the checkpoint the family uses, once that is known."""
    from pelagos_pipelines.training import checkpoints

    if run.request.model.weights is None or run.finished(STATE):
        return
    # Also found if an earlier attempt on this machine ended before it could record it.
    if (taken := checkpoints.taken(_copy(run))) is not None:
        run.note(STATE, {"words": str(taken), "isWhole": taken.taken == taken.wanted and not taken.unused})


def described(run: runs.Run) -> dict[str, str]:
    """Parameters for the tracked run that say how much of the checkpoint is used."""
    return {"weights.taken": _noted(run)["words"]} if _noted(run) else {}


def warnings(run: runs.Run) -> list[str]:
    """A warning about unused or missing tensors; none if the whole checkpoint became the whole model."""
    noted = _noted(run)
    return [f"model.weights: {noted['words']}"] if noted and not noted["isWhole"] else []


def _noted(run: runs.Run) -> dict[str, Any]:
    found: dict[str, Any] = run.read(STATE) if run.request.model.weights and run.finished(STATE) else {}
    return found
