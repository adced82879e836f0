"""Whether a visitor can try a model now, or why not, for the button on its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pelagos_hub.login import sessions
from pelagos_hub.trials import limits, owning

if TYPE_CHECKING:
    from starlette.requests import Request

    from pelagos_hub.catalogue.entries import Entry


@dataclass(frozen=True)
class Offer:
    """``reason`` is empty when the button is enabled; ``path`` and ``words`` are the target and text of a link to the next step.

    ``count`` has the person's open trials in the namespace, and the limit.
    """

    reason: str = ""
    path: str = ""
    words: str = ""
    count: limits.Count | None = None


def of(request: Request, entry: Entry) -> Offer:
    """The offer for a model that this visitor sees. The operator enforces limits; the trial's page reports its refusals."""
    session = sessions.of(request)
    if session is None or session.person is None:
        return Offer("Sign in to try it on your own images", f"/login?next={entry.path}", "Sign in")
    for each in owning.own(request, session):
        if each.is_live and (each.namespace, each.service) == (entry.namespace, entry.name):
            return Offer("You are already trying it", each.path, "Go there")
    if not entry.is_ready:
        return Offer("It cannot be tried now, because it does not answer correctly")
    count = limits.of(request, session, entry.namespace)
    if count.is_full:
        what = "Models of this group cannot be tried" if count.most == 0 else f"{count.words}: stop one of them first"
        return Offer(what, "/me", "My things", count)
    return Offer(count=count)
