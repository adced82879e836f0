"""A real server's additions to the pods of a run: a driver pod that prepares each step, and containers around the step's own.

As in Kubeflow Pipelines 2.17 with Argo Workflows 4.0: ``init`` and ``kfp-launcher`` copy programs, ``main`` runs the step as a
child of Argo's emissary, ``wait`` reports how it ended. Here they only begin, wait and end in the same order.
"""

from __future__ import annotations

from typing import Any

Struct = dict[str, Any]

REQUESTS = {"cpu": "100m", "memory": "256Mi"}
"""Requests of each container beside ``main``; init containers end first, so the pod requests this much more than the step."""
DRIVER = {"cpu": "100m", "memory": "64Mi"}
"""Requests of a driver."""
MAIN = "main"
_ARGO = {"name": "var-run-argo", "mountPath": "/var/run/argo"}
_LAUNCHER = {"name": "kfp-launcher", "mountPath": "/kfp-launcher"}
_ENDED = "/var/run/argo/ctr/main/exitcode"
_EMISSARY = f"""
"$@" & child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM
wait "$child"; code=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
mkdir -p "$(dirname {_ENDED})" && echo "$code" > {_ENDED}
exit "$code"
"""
_WAIT = f"trap 'exit 0' TERM; until [ -e {_ENDED} ]; do sleep 0.2; done"
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 8737,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""User 8737 is the one in Argo's images."""


def surround(spec: Struct, image: str) -> Struct:
    """The spec of a pod whose only container is ``main``, with the other containers added; ``image`` is theirs."""
    (main,) = spec["containers"]
    wrapped = {
        "command": ["/bin/sh", "-c", _EMISSARY, "emissary"],
        "args": [*main["command"], *main["args"]],
        "volumeMounts": [*main["volumeMounts"], _ARGO, _LAUNCHER],
    }
    before = [_container("init", "true", image), _container("kfp-launcher", "true", image)]
    volumes = [{"name": mount["name"], "emptyDir": {}} for mount in (_ARGO, _LAUNCHER)]
    return spec | {
        "initContainers": before,
        "containers": [main | wrapped, _container("wait", _WAIT, image)],
        "volumes": [*spec["volumes"], *volumes],
    }


def driver(image: str, account: str) -> Struct:
    """The spec of a driver pod."""
    main = _container(MAIN, "true", image) | {"resources": {"requests": DRIVER}}
    spec = {"containers": [main | {"volumeMounts": []}], "volumes": [], "restartPolicy": "Never"}
    return surround(spec | {"serviceAccountName": account}, image)


def _container(name: str, script: str, image: str) -> Struct:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c"],
        "args": [script],
        "resources": {"requests": REQUESTS},
        "securityContext": _SECURITY,
        "volumeMounts": [_ARGO],
    }
