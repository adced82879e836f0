"""Stopping because spec.suspend asks for it."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.decisions.chains import Ended
from pelagos.decisions.effects import CancelRun, Effect, SetOutcome
from pelagos.decisions.training_run import progress
from pelagos.decisions.training_run.conditions import EVALUATED, OUTAGE_POLL
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos.ports.pipelines import FINISHED
from pelagos.ports.tracking import Outcome


def suspended(seen: Observed) -> Ended | None:
    """What has a result has nothing left to stop."""
    if not seen.spec.suspend or seen.report.result is not None:
        return None
    effects: list[Effect] = []
    if seen.run is not None and seen.run.state not in FINISHED:
        effects.append(CancelRun(seen.run.name))
    if seen.tracked is not None and seen.tracked.outcome is Outcome.RUNNING:
        effects.append(SetOutcome(seen.tracked.id, Outcome.KILLED))
    message = "spec.suspend is true; set it to false to go on"
    paused = Verdict(EVALUATED, ConditionState.PAUSED, reasons.SUSPENDED, message)
    # A tracked run that cannot be asked now has yet to be told.
    again = OUTAGE_POLL if seen.tracking_outage else None
    status = seen.frozen_status()
    if status is not None:  # what was found by now is worth looking at before anybody goes on
        found = {
            "seeds": progress.seeds_of(seen) or None,
            "search": progress.search_of(seen),
            "leave_one_out": progress.left_out_of(seen),
        }
        status = status.model_copy(update=found)
    return Ended((paused,), tuple(effects), status, again)
