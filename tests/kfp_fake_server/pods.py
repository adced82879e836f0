"""A step as a pod, and what a pod's state says about its step. Pure; the pod equals what KFP's driver creates for the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kfp_fake_server import helpers
from kfp_fake_server.backends import Outcome
from kfp_fake_server.workflows import NODE_ID, NODE_NAME, RUN_LABEL, WORKFLOW

if TYPE_CHECKING:
    from kfp_fake_server.backends import Pod

Struct = dict[str, Any]


def render(pod: Pod, namespace: str, helpers_image: str = "") -> Struct:
    """The pod's manifest. ``helpers_image`` is the image of the containers that a real server adds; none: the step is alone."""
    if pod.is_driver:
        return _pod(pod, namespace, helpers.driver(helpers_image, pod.service_account), {})
    spec = helpers.surround(_step(pod), helpers_image) if helpers_image else _step(pod)
    return _pod(pod, namespace, spec, pod.step.kubernetes.get("podMetadata", {}))


def _pod(pod: Pod, namespace: str, spec: Struct, metadata: Struct) -> Struct:
    labels = {
        RUN_LABEL: pod.run,
        WORKFLOW: pod.task.path.partition(".")[0],
        "pipelines.kubeflow.org/v2_component": "true",
    }
    notes = {NODE_ID: pod.task.node, NODE_NAME: pod.task.path, "kubectl.kubernetes.io/default-container": helpers.MAIN}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": namespace,
            "labels": labels | metadata.get("labels", {}),
            "annotations": notes | metadata.get("annotations", {}),
        },
        "spec": spec,
    }


def _step(pod: Pod) -> Struct:
    config, step = pod.step.kubernetes, pod.step
    volumes = _volumes(config)
    container = {
        "name": helpers.MAIN,
        "image": step.image,
        "imagePullPolicy": config.get("imagePullPolicy", "IfNotPresent"),
        "command": [step.command[0]],
        "args": list(step.command[1:]),
        "env": [{"name": name, "value": value} for name, value in step.environment.items()]
        + _secret_environment(config),
        "resources": _resources(step.resources),
        "volumeMounts": [mount for _, mount in volumes],
        "securityContext": _security(config.get("securityContext", {})),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [volume for volume, _ in volumes],
        "nodeSelector": config.get("nodeSelector", {}).get("labels", {}),
        "tolerations": config.get("tolerations", []),
        "imagePullSecrets": [{"name": _constant(each, "secretName")} for each in config.get("imagePullSecret", [])],
        "serviceAccountName": pod.service_account,
    }
    if int(config.get("activeDeadlineSeconds", 0)):
        spec["activeDeadlineSeconds"] = int(config["activeDeadlineSeconds"])
    return spec


def extend(manifest: Struct, extra: Struct) -> Struct:
    """Add ``env``, ``volumes`` and ``volumeMounts`` to the manifest: what a test's image needs from its node."""
    spec = manifest["spec"]
    container = spec["containers"][0]
    container["env"] = [*container["env"], *extra.get("env", [])]
    container["volumeMounts"] = [*container["volumeMounts"], *extra.get("volumeMounts", [])]
    spec["volumes"] = [*spec["volumes"], *extra.get("volumes", [])]
    return manifest


def judge(status: Struct) -> Outcome | tuple[str, str]:
    """How a pod's step ended; if it has not, its phase and what holds it up."""
    phase = status.get("phase", "Pending")
    if phase == "Succeeded":
        return Outcome(succeeded=True)
    if phase == "Failed":
        return Outcome(succeeded=False, message=_failure(status))
    return ("Running", "") if phase == "Running" else ("Pending", _obstacle(status))


def _failure(status: Struct) -> str:
    if status.get("reason"):  # Evicted, DeadlineExceeded, NodeLost: the pod's own end, not its container's
        return f"{status['reason']}: {status.get('message', '')}".rstrip(": ")
    for container in status.get("containerStatuses", []):
        ended = container.get("state", {}).get("terminated", {})
        if ended.get("exitCode"):
            message = f"{ended.get('reason', 'Error')} (exit code {ended['exitCode']})"
            return f"{message}: {ended['message']}" if ended.get("message") else message
    return str(status.get("message", "pod failed"))


def _obstacle(status: Struct) -> str:
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}".rstrip(": ")
    return ""


def _volumes(config: Struct) -> list[tuple[Struct, Struct]]:
    """Volumes, each with its mount."""
    volumes: list[tuple[Struct, Struct]] = []
    for claimed in config.get("pvcMount", []):
        claim = claimed.get("pvcNameParameter", {}).get("runtimeValue", {}).get("constant") or claimed["constant"]
        volume = {"name": claim, "persistentVolumeClaim": {"claimName": claim}}
        mount = {"name": claim, "mountPath": claimed["mountPath"]}
        volumes.append((volume, mount | ({"subPath": claimed["subPath"]} if claimed.get("subPath") else {})))
    for mapped in config.get("configMapAsVolume", []):
        name = _constant(mapped, "configMapName")
        source = {"name": name, "optional": mapped.get("optional", False)}
        mount = {"name": name, "mountPath": mapped["mountPath"]}
        volumes.append(({"name": name, "configMap": source}, mount))
    for hidden in config.get("secretAsVolume", []):
        name = _constant(hidden, "secretName")
        held = {"secretName": name, "optional": hidden.get("optional", False)}
        volumes.append(({"name": name, "secret": held}, {"name": name, "mountPath": hidden["mountPath"]}))
    for empty in config.get("emptyDirMounts", []):
        limits = {key: empty[key] for key in ("medium", "sizeLimit") if empty.get(key)}
        volume = {"name": empty["volumeName"], "emptyDir": limits}
        volumes.append((volume, {"name": empty["volumeName"], "mountPath": empty["mountPath"]}))
    return volumes


def _secret_environment(config: Struct) -> list[Struct]:
    return [
        {
            "name": variable["envVar"],
            "valueFrom": {
                "secretKeyRef": {
                    "name": _constant(secret, "secretName"),
                    "key": variable["secretKey"],
                    "optional": secret.get("optional", False),
                }
            },
        }
        for secret in config.get("secretAsEnv", [])
        for variable in secret["keyToEnv"]
    ]


def _resources(resources: Struct) -> Struct:
    bounds: Struct = {"requests": {}, "limits": {}}
    for kind in ("Cpu", "Memory"):
        for bound, suffix in (("requests", "Request"), ("limits", "Limit")):
            if resources.get(f"resource{kind}{suffix}"):
                bounds[bound][kind.lower()] = resources[f"resource{kind}{suffix}"]
    accelerator = resources.get("accelerator", {})
    if accelerator:
        bounds["limits"][accelerator["resourceType"]] = accelerator["resourceCount"]
    return {bound: amounts for bound, amounts in bounds.items() if amounts}


def _security(given: Struct) -> Struct:
    numbers: dict[str, Callable[[Any], Any]] = {"runAsUser": int, "runAsGroup": int, "runAsNonRoot": bool}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    } | {key: convert(given[key]) for key, convert in numbers.items() if key in given}


def _constant(reference: Struct, field: str) -> str:
    parameter: str | None = reference.get(f"{field}Parameter", {}).get("runtimeValue", {}).get("constant")
    return parameter or reference[field]
