"""Whether somebody may try a model now, and why not: what a page says beside the button."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pelagos_hub.login.identity import Person
    from pelagos_hub.trials.views import View


@dataclass(frozen=True)
class Offer:
    """``reason`` is empty where the button is on; ``path`` leads to what there is to do about it."""

    reason: str = ""
    path: str = ""
    words: str = ""
    """Of the link."""


def is_published(service: Mapping[str, Any] | None) -> bool:
    """Whether its owners let others than themselves find it."""
    published = ((service or {}).get("spec") or {}).get("publish") or {}
    return published.get("catalogue") in {"Namespace", "Public"}


def offer(service: Mapping[str, Any], person: Person | None, own: Sequence[View]) -> Offer:
    """For a ModelService that this person sees; ``own`` are their Trials."""
    metadata = service["metadata"]
    where = (str(metadata["namespace"]), str(metadata["name"]))
    if person is None:
        return Offer("Sign in to try this model", f"/login?next=/models/{where[0]}/{where[1]}", "Sign in")
    running = next((each for each in own if each.is_live and (each.namespace, each.service) == where), None)
    if running is not None:
        return Offer("You are trying this model already", running.path, "Go there")
    conditions = (service.get("status") or {}).get("conditions") or ()
    if not any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions):
        return Offer("This model does not answer right at the moment. Its page says why")
    return Offer()
