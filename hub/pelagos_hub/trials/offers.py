"""Whether somebody may try a model now, and why not: what its page says beside the button."""

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
    """``reason`` is empty where the button is on; ``path`` leads to what there is to do, and ``words`` are its link's.

    ``others`` counts trials of theirs in the namespace that are not over: the namespace may have a limit for each person.
    """

    reason: str = ""
    path: str = ""
    words: str = ""
    others: int = 0


def of(request: Request, entry: Entry) -> Offer:
    """For a model that this visitor sees. Limits are not judged here: the operator does, and the page of the trial says so."""
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
