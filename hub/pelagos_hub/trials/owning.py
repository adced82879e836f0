"""The owner of a Trial. Anyone who may create Trials can put any name into spec.user: it is trusted only if this hub wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pelagos_contract import trial_signature
from pelagos_hub.context import hub
from pelagos_hub.trials import views

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.requests import Request

    from pelagos_hub.login.sessions import Session
    from pelagos_hub.trials.views import View


def own(request: Request, session: Session) -> list[View]:
    """The Trials of the person signed in to this session, newest first."""
    at = hub(request)
    # A copy, since the watch changes the dictionary while pages are rendered.
    found = [each for each in list(at.cluster.trials().objects.values()) if is_of(request, session, each)]
    return views.newest_first(found, at.cluster.services().objects, at.clock.now())


def is_of(request: Request, session: Session, trial: Mapping[str, Any]) -> bool:
    """Whether the hub created the Trial for this session's person: the session has its token, the operator attests it, or the
    signature is valid."""
    metadata, spec, status = (views.at(trial, part) for part in ("metadata", "spec", "status"))
    if session.person is None or spec.get("user") != session.person.key:
        return False
    namespace, name = str(metadata.get("namespace")), str(metadata.get("name"))
    if session.token(namespace, name, str(metadata.get("uid", ""))) is not None:
        return True
    attested = status.get("attested")
    # Until the operator has checked the signature, the hub checks it itself.
    return attested is True or (attested is None and _is_signed(hub(request).settings.signing_key_file, trial))


def _is_signed(key_file: Path | None, trial: Mapping[str, Any]) -> bool:
    metadata = views.at(trial, "metadata")
    created = views.moment(metadata.get("creationTimestamp"))
    signature = views.at(metadata, "annotations").get(trial_signature.ANNOTATION)
    if key_file is None or created is None or signature is None:
        return False
    try:
        key = trial_signature.read_key(key_file)
    except (OSError, ValueError):
        return False
    return key is not None and trial_signature.holds(
        key,
        signature,
        namespace=str(metadata.get("namespace")),
        name=str(metadata.get("name")),
        spec=views.at(trial, "spec"),
        created=created,
    )
