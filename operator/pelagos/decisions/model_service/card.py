"""Whether the card says enough for a place in the catalogue. Serving never depends on it."""

from __future__ import annotations

from pelagos.api import reasons
from pelagos.api.model_service import ServiceCard
from pelagos.decisions.chains import Passed
from pelagos.decisions.model_service.conditions import CARD_COMPLETE
from pelagos.decisions.model_service.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict


def judged(seen: Observed) -> Passed | None:
    """CardComplete. None unless spec has a card or asks for a place in the catalogue."""
    if seen.spec.card is None and seen.spec.publish is None:
        return None
    missing = (seen.spec.card or ServiceCard()).after(seen.trained_card).missing()
    where = seen.spec.publish.catalogue if seen.spec.publish is not None else "Private"
    if not missing:
        message = "the card has all that a catalogue needs" + _place(where)
        return Passed((Verdict(CARD_COMPLETE, ConditionState.DONE, reasons.CARD_FILLED_IN, message, is_aside=True),))
    message = f"spec.card does not say {', '.join(missing)}, and neither does the card of a TrainingRun"
    if where != "Private":
        message += "; until then the service is in no catalogue"
    return Passed((Verdict(CARD_COMPLETE, ConditionState.NOTED, reasons.CARD_INCOMPLETE, message, is_aside=True),))


def _place(where: str) -> str:
    if where == "Private":
        return "; spec.publish.catalogue says who can find it: nobody yet"
    return f"; the service is in the catalogue ({where}) once one of its answers is verified"
