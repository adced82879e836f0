"""The checks of ``pelagos doctor`` for an OSCAR cluster. Called through the descriptor."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pelagos.engines.diagnosis import DoctorContext, Finding, failure, fetch, ok, warning
from pelagos.engines.oscar import options
from pelagos.engines.oscar.rest import OscarRest
from pelagos.ports.errors import OutageError, RejectedError

OLDEST = (4, 1, 0)
"""The oldest supported version. Before it, exposed services could not be stopped, and ports were reported differently."""


async def look(context: DoctorContext) -> Iterable[Finding]:
    """Check that OSCAR answers, is new enough, requires a login, and accepts ours."""
    settings = context.settings
    wrong = options.contradiction(settings)
    if wrong is not None:
        return [failure("serving", wrong, "Correct this setting of the operator.")]
    rest = OscarRest(options.access(settings))
    try:
        info = await rest.info()
        services = await rest.services()
    except (OutageError, RejectedError) as error:
        return [
            failure("serving", str(error), "Correct PELAGOS_OSCAR_URL, or the login for it (PELAGOS_OSCAR_..._FILE).")
        ]
    finally:
        await rest.close()
    findings = [_version(rest.access.url, str(info.get("version", "") if isinstance(info, dict) else ""))]
    findings.append(ok("serving", f"the operator may use OSCAR; it sees {len(services)} services"))
    stranger = await fetch(f"{rest.access.url}/system/services", ca=settings.oscar_ca_file)
    if stranger.status == 200:
        findings.append(
            warning(
                "serving", "everybody who can reach OSCAR may see and change services", "Give it a password, or OIDC."
            )
        )
    if settings.oscar_storage_access_key_file is None:
        message = "model servers fetch packages without a login (PELAGOS_OSCAR_STORAGE_ACCESS_KEY_FILE is not set)"
        findings.append(warning("storage of OSCAR", message, "Set it, unless everybody may read the bucket."))
    return findings


def _version(url: str, told: str) -> Finding:
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", told)
    if found is None:
        return warning("serving", f"OSCAR at {url} does not report its version", "It must be 4.1.0 or later.")
    if tuple(map(int, found.groups())) < OLDEST:
        return failure("serving", f"OSCAR {told} at {url} cannot stop exposed services", "Update it to 4.1.0 or later.")
    return ok("serving", f"OSCAR {told} at {url}")
