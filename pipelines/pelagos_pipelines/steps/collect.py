"""The step prepare when its request is to remove versions from a Dataset's store instead of creating one."""

from __future__ import annotations

import json
from pathlib import Path

from pelagos_contract import reports, sealing
from pelagos_contract.collection import CollectionRequest, CollectionResult
from pelagos_pipelines.preparation import collecting
from pelagos_pipelines.steps import runs
from pelagos_pipelines.steps.holding import held
from pelagos_pipelines.storage import Place


def is_asked(request: str) -> bool:
    """Whether a request of the flow dataset-preparation asks for a removal."""
    try:
        found = json.loads(request)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "remove" in found


def collect(request: str, store: str, report: str) -> None:
    """Remove versions below ``store`` and write ``result.json`` or ``failure.json`` into ``report``.

    Args:
        request: JSON of collection.CollectionRequest.
        store: the folder of the Dataset's versions and blobs.
        report: the folder of this run; an existing result is kept.

    Raises:
        RefusedError: a remaining version cannot be read; nothing was removed.
    """
    with runs.scratch_for(report) as scratch, runs.reporting(report, scratch) as place:
        asked = runs.understood(CollectionRequest, request)
        place.pull()
        done = _done(place.folder, asked)
        if done is not None:
            runs.confirm(place, done)
            return
        kept = Place(store, scratch / "store")
        with held(kept) as confirm:
            if kept.bucket is None:
                result = collecting.from_folder(kept.folder, asked.remove)
            else:
                result = collecting.from_bucket(kept.bucket, asked.remove, scratch, confirm)
        runs.leave(place, result)


def _done(report: Path, asked: CollectionRequest) -> CollectionResult | None:
    """The result of this request if an attempt of this run has left one."""
    try:
        told = sealing.opened(sealing.document(report / reports.RESULT))
        result = CollectionResult.model_validate(told)
    except ValueError:
        return None
    return result if result.removed == asked.remove else None
