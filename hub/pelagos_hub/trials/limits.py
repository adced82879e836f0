"""How many trials of a person are open, and how many may be: ``2 of 3 trials open``. The operator alone enforces the limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pelagos_hub.context import hub
from pelagos_hub.trials import owning, views

if TYPE_CHECKING:
    from starlette.requests import Request

    from pelagos_hub.login.sessions import Session

_LARGEST = 1_000_000


@dataclass(frozen=True)
class Count:
    """Trials of a person in a namespace. ``most`` is None when the limit is unknown."""

    namespace: str
    open: int
    most: int | None

    @property
    def is_full(self) -> bool:
        """Whether another trial would be refused."""
        return self.most is not None and self.open >= self.most

    @property
    def words(self) -> str:
        """The count as text for pages: ``2 of 3 trials open in <namespace>``."""
        trials = "trial" if (self.most if self.most is not None else self.open) == 1 else "trials"
        if self.most is not None:
            return f"{self.open} of {self.most} {trials} open in {self.namespace}"
        return f"{self.open} {trials} open in {self.namespace}; how many may be open at once is unknown"


def of(request: Request, session: Session, namespace: str) -> Count:
    """The trials of the session's person in a namespace that are open, or may become so."""
    own = owning.own(request, session)
    return Count(
        namespace, sum(each.is_live and each.namespace == namespace for each in own), _most(request, namespace)
    )


def everywhere(request: Request, session: Session) -> list[Count]:
    """The counts of all namespaces in which the session's person has such trials."""
    found = {each.namespace for each in owning.own(request, session) if each.is_live}
    return [of(request, session, namespace) for namespace in sorted(found)]


def _most(request: Request, namespace: str) -> int | None:
    """The limit that the operator reports with the namespace's services. None if it is missing, or they differ for a moment.

    It is one per person only where the hub proves whose trials are whose.
    """
    at = hub(request)
    if at.settings.signing_key_file is None:
        return None
    services = list(at.cluster.services().objects.items())
    told = [views.at(body, "status", "trials").get("perUser") for (where, _), body in services if where == namespace]
    known = {each for each in told if isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= _LARGEST}
    return known.pop() if len(known) == 1 else None
