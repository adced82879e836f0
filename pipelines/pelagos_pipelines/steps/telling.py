"""Reports the progress of a step in a document of its run. Used by the stages, which continue if that fails."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence

from pelagos_contract import disk, sealing
from pelagos_contract.progress import (
    DOCUMENT,
    MOST_STAGES,
    PERIOD,
    EndedStage,
    LeftOutProgress,
    Progress,
    SeedProgress,
    Stage,
    understood,
)
from pelagos_contract.search import SearchProgress
from pelagos_pipelines.storage import Place, StorageError, StorageRefusedError

log = logging.getLogger(__name__)

PAUSE = 60.0
"""Seconds after a failed write before the next one: an unavailable storage must not delay the work."""


class Telling:
    """The progress of one attempt, written to the folder of its report; without a place, nothing is written."""

    def __init__(self, place: Place | None = None) -> None:
        """Continue from what an earlier step of this attempt reported. The place must have been pulled."""
        self._place = place
        before = _told_before(place) if place is not None else Progress()
        self._now = Progress(ended=before.ended)
        self._counted: dict[str, int | None] = {}
        self._seeds, self._search, self._left_out = before.seeds, before.search, before.left_out
        self._began = self._told = self._again = float("-inf")

    def enter(self, stage: Stage, total: int | None = None) -> None:
        """Begin a stage with ``total`` epochs or images. Does nothing if the stage has begun already."""
        if stage is self._now.stage:
            return
        self._now = Progress(stage=stage, since=round(time.time(), 3), ended=self._ended())
        self._counted = {"total": total or None}
        self._began = time.monotonic()
        self._tell()

    def count(self, done: int, total: int) -> None:
        """Report how many epochs or images of the stage are done. Written once per PERIOD at most, so it may be called often."""
        self._counted = {"done": done, "total": total or None}
        if time.monotonic() - self._told >= PERIOD:
            self._tell()

    def count_bytes(self, done: int, total: int) -> None:
        """Like `count`, for bytes; ``total`` is 0 if it is not known."""
        self._counted = {"bytes_done": done, "bytes_total": total or None}
        if time.monotonic() - self._told >= PERIOD:
            self._tell()

    def seeds(self, trainings: Sequence[SeedProgress]) -> None:
        """Report the progress of several trainings; written at once if one of them has entered another state."""
        before, self._seeds = self._seeds, list(trainings)
        if before is None or [each.state for each in before] != [each.state for each in trainings]:
            self._tell()

    def search(self, told: SearchProgress) -> None:
        """Report the progress of a search; written at once if a trial has begun or ended."""
        before, self._search = self._search, told
        if before is None or [each.state for each in before.history] != [each.state for each in told.history]:
            self._tell()

    def left_out(self, told: LeftOutProgress) -> None:
        """Report the progress of trainings without one group each; written at once if one has entered another state."""
        before, self._left_out = self._left_out, told
        if before is None or [each.state for each in before.groups] != [each.state for each in told.groups]:
            self._tell()

    def close(self) -> None:
        """End the last stage: the step is done. A step that fails does not call this, and leaves its stage in the document."""
        self._now, self._counted = Progress(ended=self._ended()), {}
        self._tell()

    def _ended(self) -> list[EndedStage]:
        if self._now.stage is None:
            return self._now.ended
        last = EndedStage(stage=self._now.stage, seconds=round(time.monotonic() - self._began, 1))
        return [*self._now.ended, last][-MOST_STAGES:]

    def _tell(self) -> None:
        now = time.monotonic()
        if self._place is None or now < self._again:
            return
        self._told = now
        document = self._now.model_copy(
            update={**self._counted, "seeds": self._seeds, "search": self._search, "left_out": self._left_out}
        ).written()
        text = json.dumps(sealing.sealed(document, sealing.PROGRESS)) + "\n"
        try:
            if self._place.bucket is None:
                disk.write_atomically(self._place.folder / DOCUMENT, text, parents=True)
            else:
                self._place.write(DOCUMENT, text.encode())
        except (OSError, StorageError, StorageRefusedError) as error:
            log.warning("the progress of this step could not be written, and will be in a minute: %s", error)
            self._again = time.monotonic() + PAUSE


def _told_before(place: Place) -> Progress:
    found = sealing.document(place.folder / DOCUMENT)
    content = sealing.opened(found, sealing.PROGRESS)
    # Without a key for seals it is unknown which attempt wrote it.
    if content is None or sealing.sealer() is None or not sealing.is_of_this_attempt(found):
        return Progress()
    return understood(content) or Progress()
