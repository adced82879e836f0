"""The checks of ``pelagos doctor`` for a cluster that serves by plain Deployments. Called through the descriptor."""

from __future__ import annotations

from collections.abc import Iterable

from pelagos.engines.diagnosis import DoctorContext, Finding, failure, ok, warning
from pelagos.engines.model_server import diagnosis as model_servers


async def look(context: DoctorContext) -> Iterable[Finding]:
    """Check that the API server serves the kinds of objects that are needed, and that model servers reach their packages."""
    return [*await _deployments(context), *model_servers.network(context.settings)]


async def _deployments(context: DoctorContext) -> list[Finding]:
    groups = {str(group.get("name")) for group in (await context.api.get("/apis")).body.get("groups", ())}
    lacking = {"apps", "autoscaling", "policy", "networking.k8s.io"} - groups
    if lacking:
        return [
            failure(
                "serving", f"the API server does not serve {', '.join(sorted(lacking))}", "Use a complete Kubernetes."
            )
        ]
    findings = [ok("serving", "plain Deployments")]
    if "metrics.k8s.io" not in groups:
        message = "metrics.k8s.io is not served: model servers keep spec.scaling.min replicas"
        findings.append(warning("scaling", message, "Install the metrics server of the cluster."))
    else:
        findings.append(ok("scaling", "metrics.k8s.io is served"))
    return findings
