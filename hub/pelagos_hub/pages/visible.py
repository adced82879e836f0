"""Which models a visitor may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos_hub.context import hub
from pelagos_hub.login import sessions
from pelagos_hub.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from pelagos_hub.catalogue.entries import Entry


def entries(request: Request) -> list[Entry]:
    """The entries that this visitor may see."""
    session = sessions.of(request)
    return hub(request).shelf.seen_by(session.person if session else None)


def is_inside(request: Request, entry: Entry) -> bool:
    """Whether this visitor signed in and belongs to the namespace. Others do not see messages of the operator or of errors.

    Such messages name addresses, buckets and objects of the platform. Reasons, states and times are visible to everyone.
    """
    session = sessions.of(request)
    return session is not None and hub(request).shelf.admits(session.person, entry.namespace)


def entry(request: Request) -> Entry:
    """The model that the URL names. Raises Problem when there is none that this visitor may see."""
    wanted = (request.path_params["namespace"], request.path_params["name"])
    for each in entries(request):
        if (each.namespace, each.name) == wanted:
            return each
    session = sessions.of(request)
    advice = "It may have been removed, or it is not public."
    if session is None or session.person is None:
        advice += " Sign in if you belong to its group."
    raise Problem(404, "There is no such model", advice)
