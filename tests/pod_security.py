"""The Pod Security Standard `restricted`, which includes `baseline`, as its page lists it; ``violations`` names breaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
PROFILES = {"RuntimeDefault", "Localhost"}
CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
HANDLERS = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(metadata: Spec, pod: Spec) -> list[str]:
    """What keeps a pod with this metadata and spec out of a namespace that enforces `restricted`; empty: it may run."""
    found = [*_of_pod(metadata, pod)]
    for kind in CONTAINERS:
        for container in pod.get(kind, ()):
            found += [f"{container['name']}: {problem}" for problem in _of_container(pod, container)]
    return found


def templates(body: Mapping[str, Any]) -> Iterator[tuple[Spec, Spec]]:
    """Metadata and spec of every pod that an object of a built-in kind leads to."""
    spec = body.get("spec", {})
    if body["kind"] == "Pod":
        yield body["metadata"], spec
    elif body["kind"] == "CronJob":
        template = spec["jobTemplate"]["spec"]["template"]
        yield template.get("metadata", {}), template["spec"]
    elif "template" in spec and "spec" in spec["template"]:
        yield spec["template"].get("metadata", {}), spec["template"]["spec"]


def _of_pod(metadata: Spec, pod: Spec) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is true"
    for volume in pod.get("volumes", ()):
        for kind in volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is of kind {kind}"
    for sysctl in pod.get("securityContext", {}).get("sysctls", ()):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    for name, value in metadata.get("annotations", {}).items():
        if name.startswith("container.apparmor.security.beta.kubernetes.io/") and not _is_known_apparmor(str(value)):
            yield f"AppArmor profile {value}"
    yield from _of_context(pod.get("securityContext", {}))


def _is_known_apparmor(profile: str) -> bool:
    return profile == "runtime/default" or profile.startswith("localhost/")


def _of_context(context: Spec) -> Iterator[str]:
    """What holds for the security context of pods and of containers alike."""
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "windowsOptions.hostProcess is true"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        yield "appArmorProfile"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        yield "seccompProfile is Unconfined"
    if context.get("runAsNonRoot", True) is not True:
        yield "runAsNonRoot is false"
    if context.get("runAsUser") == 0:
        yield "runAsUser is 0"


def _of_container(pod: Spec, container: Spec) -> Iterator[str]:
    context, of_pod = container.get("securityContext", {}), pod.get("securityContext", {})
    yield from _of_context(context)
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("procMount", "Default") != "Default":
        yield "procMount"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield "capabilities.drop lacks ALL"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities.add"
    if not (context.get("runAsNonRoot") or of_pod.get("runAsNonRoot")):
        yield "runAsNonRoot is not true"
    if not (context.get("seccompProfile") or of_pod.get("seccompProfile")):
        yield "seccompProfile is not set"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "hostPort"
    yield from _of_handlers(container)


def _of_handlers(container: Spec) -> Iterator[str]:
    """A probe of another host would be a request in the kubelet's name."""
    handlers = [container.get(name, {}) for name in HANDLERS] + list(container.get("lifecycle", {}).values())
    for handler in handlers:
        if any(handler.get(action, {}).get("host") for action in ("httpGet", "tcpSocket")):
            yield "a probe or hook names a host"
