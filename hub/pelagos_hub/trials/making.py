"""Builds Trials. The token stays in the hub; the cluster only gets its SHA-256."""

from __future__ import annotations

import hashlib
import logging
import secrets
from typing import TYPE_CHECKING, Any

from pelagos.api import meta
from pelagos_contract import entitlements, trial_signature
from pelagos_hub.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pelagos_hub.login.identity import Person
    from pelagos_hub.settings import Settings

_LOG = logging.getLogger("pelagos.hub")
_LONGEST_PART, _LONGEST_NAME = 30, 100


def token() -> str:
    """A new token of 256 random bits, in the form that the gateway accepts."""
    return f"pt_{secrets.token_urlsafe(32)}"


def trial(settings: Settings, person: Person, service: tuple[str, str], secret: str, now: datetime) -> dict[str, Any]:
    """The Trial of ``service`` (namespace, name) that the token ``secret`` opens. Raises Problem when it cannot be signed."""
    namespace, model = service
    part = model[:_LONGEST_PART].strip("-.").replace(".", "-")
    name = f"try-{part}-{secrets.token_hex(4)}"
    # In the form of the setting, whichever form the provider uses.
    attested = [each for each in settings.attested if entitlements.satisfied([each], person.entitlements)]
    spec: dict[str, Any] = {
        "modelServiceRef": {"name": model},
        "user": person.key,
        "displayName": "".join(each for each in person.name if each.isprintable())[:_LONGEST_NAME],
        "isolation": "Shared",
        "tokenSha256": hashlib.sha256(secret.encode()).hexdigest(),
    }
    if settings.trial_duration:
        spec["duration"] = settings.trial_duration
    if attested:
        spec["entitlements"] = attested
    metadata: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "labels": {"app.kubernetes.io/created-by": "pelagos-hub"},
    }
    if signature := _signature(settings, namespace, name, spec, int(now.timestamp())):
        metadata["annotations"] = {trial_signature.ANNOTATION: signature}
    return {"apiVersion": meta.API_VERSION, "kind": "Trial", "metadata": metadata, "spec": spec}


def _signature(settings: Settings, namespace: str, name: str, spec: Mapping[str, Any], seconds: int) -> str:
    if settings.signing_key_file is None:
        return ""
    try:
        # Read each time, since the key can be replaced while the hub runs.
        key = trial_signature.read_key(settings.signing_key_file)
    except (OSError, ValueError) as error:
        key = None
        _LOG.error("the signing key cannot be used: %s", error)
    if key is None:
        raise Problem(
            503,
            "Models cannot be tried now: the hub has no key to sign with",
            "Tell the administrator of this installation (PELAGOS_HUB_SIGNING_KEY_FILE).",
        )
    return trial_signature.sign(key, namespace=namespace, name=name, spec=spec, seconds=seconds)
