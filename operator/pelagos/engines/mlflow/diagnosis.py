"""The checks of ``pelagos doctor`` for an MLflow server. Called through the descriptor."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pelagos.engines.diagnosis import NOBODY, DoctorContext, Finding, failure, fetch, first_line, ok, warning
from pelagos.engines.mlflow.registry import MlflowRegistry
from pelagos.engines.mlflow.rest import Access, MlflowRest
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings

OLDEST = (3, 16, 1)
"""The oldest version that is accepted. Older ones have known holes: a default password, and files and jobs without login."""


async def look(context: DoctorContext) -> Iterable[Finding]:
    """Check that the server answers, is new enough, requires a login, and accepts ours."""
    url, ca = context.settings.tracking_uri.rstrip("/"), context.settings.tracking_ca_file
    if not url:
        return [
            failure("tracking", "PELAGOS_TRACKING_URI is empty", "Set it, for example to http://mlflow.mlflow:5000")
        ]
    version = await fetch(f"{url}/version", ca=ca, headers=_login(context.settings))
    if version.status == 403:
        hint = "Allow this name: mlflow server --allowed-hosts (MLFLOW_SERVER_ALLOWED_HOSTS)."
        return [failure("tracking", f"{url} answers 403: {first_line(version.text)}", hint)]
    if version.status != 200:
        return [failure("tracking", f"{url}/version answers {version.status}", "Check PELAGOS_TRACKING_URI.")]
    findings = [_version(url, version.text.strip())]
    stranger = await fetch(f"{url}/api/2.0/mlflow/experiments/search?max_results=1", ca=ca)
    if stranger.status == 200:
        hint = "Start it with --app-name basic-auth, and give PELAGOS_TRACKING_USERNAME_FILE and _PASSWORD_FILE."
        findings.append(warning("tracking", "everybody who can reach it may read and write", hint))
    else:
        findings.append(ok("tracking", f"closed to strangers ({stranger.status})"))
    return [*findings, await _as_operator(context.settings)]


def _login(given: Settings) -> dict[str, str]:
    """The operator's login headers: some servers answer nothing at all without a login."""
    authorization = Access.from_settings(given).authorization()
    return {"Authorization": authorization} if authorization else {}


def _version(url: str, told: str) -> Finding:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", told)
    if found is None:
        return failure("tracking", f"{url} says that its version is {first_line(told)!r}", "Is this MLflow?")
    if tuple(map(int, found.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return warning(
            "tracking",
            f"MLflow {told} at {url}; versions before {oldest} have known vulnerabilities",
            f"Update to {oldest}.",
        )
    return ok("tracking", f"MLflow {told} at {url}")


async def _as_operator(given: Settings) -> Finding:
    rest = MlflowRest.from_settings(given)
    try:
        await MlflowRegistry(rest).find_by_version(NOBODY, "1")
    except (OutageError, RejectedError) as error:
        hint = "Correct its credentials (PELAGOS_TRACKING_..._FILE)."
        return failure("tracking", f"the operator is refused: {error}", hint)
    finally:
        await rest.close()
    return ok("tracking", "the operator may use it")
