"""Stops the training if spec.suspend asks for it."""

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
    """Ends the chain if spec.suspend is set, and stops the run. With a result, there is nothing left to stop."""
    if not seen.spec.suspend or seen.report.result is not None:
        return None
    effects: list[Effect] = []
    if seen.run is not None and seen.run.state not in FINISHED:
        effects.append(CancelRun(seen.run.name))
    if seen.tracked is not None and seen.tracked.outcome is Outcome.RUNNING:
        effects.append(SetOutcome(seen.tracked.id, Outcome.KILLED))
    message = "spec.suspend is true; set it to false to continue"
    paused = Verdict(EVALUATED, ConditionState.PAUSED, reasons.SUSPENDED, message)
    # Tracking does not answer now, and has yet to get the outcome of the run.
    again = OUTAGE_POLL if seen.tracking_outage else None
    status = seen.frozen_status()
    if status is not None:  # People may want to see the results up to now before they resume.
        found = {
            "seeds": progress.seeds_of(seen) or None,
            "search": progress.search_of(seen),
            "leave_one_out": progress.left_out_of(seen),
        }
        status = status.model_copy(update=found)
    return Ended((paused,), tuple(effects), status, again)
