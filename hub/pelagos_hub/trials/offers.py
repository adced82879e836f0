"""Whether a visitor can try a model now, or why not, for the button on its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pelagos_hub.login import sessions
from pelagos_hub.trials import owning

if TYPE_CHECKING:
    from starlette.requests import Request

    from pelagos_hub.catalogue.entries import Entry


@dataclass(frozen=True)
class Offer:
    """``reason`` is empty when the button is enabled; ``path`` and ``words`` are the target and text of a link to the next step.

    ``others`` counts the person's other live trials in the namespace, which may have a limit per person.
    """

    reason: str = ""
    path: str = ""
    words: str = ""
    others: int = 0


def of(request: Request, entry: Entry) -> Offer:
    """The offer for a model that this visitor sees. Limits are left to the operator; the trial's page reports them."""
    session = sessions.of(request)
    if session is None or session.person is None:
        return Offer("Sign in to try it on your own images", f"/login?next={entry.path}", "Sign in")
    live = [each for each in owning.own(request, session) if each.is_live and each.namespace == entry.namespace]
    for each in live:
        if each.service == entry.name:
            return Offer("You are trying it already", each.path, "Go there")
    if not entry.is_ready:
        return Offer("It cannot be tried now, because it does not answer right")
    return Offer(others=len(live))
