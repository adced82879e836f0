"""Converts a desired service to the OSCAR service that its REST API takes, and back. Pure.

Called by engine. The service runs our serving image as an exposed service: its script starts a complete model server in one
container (pelagos_pipelines.serving.alone), which fetches the package by its digest. It has no sections ``input`` and ``output``:
OSCAR would delete their buckets with the service, and would have to handle a bucket at each creation and deletion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pelagos.engines.envoy import config as envoy_config
from pelagos.engines.envoy.config import Ports, Service, Upstream
from pelagos.engines.kubernetes import quantities
from pelagos.engines.model_server import gateway, marks, pod_template
from pelagos.engines.oscar.rest import SYSTEM
from pelagos.ports.errors import RejectedError
from pelagos.ports.placement import processors
from pelagos.ports.serving import CPU_TARGET, DesiredService
from pelagos_contract import fdl

if TYPE_CHECKING:
    from pelagos.engines.oscar.options import Options

UID, RENDERED, SEAL = "pelagos.dev/uid", "pelagos.dev/rendered", "pelagos.dev/seal"
"""Annotations besides those of marks: the owner's uid, a digest of the request, and the installation's seal on both."""
PURPOSE = "oscar-service"
"""The purpose of the seal; see ports.authority."""
FOLDER = "/tmp/pelagos"  # noqa: S108 - of a container, which OSCAR gives no volume to write to
SCRIPT = """#!/bin/sh
# In a job of OSCAR, one asynchronous invocation; else the model server behind an endpoint of Pelagos.
[ -z "$TMP_OUTPUT_DIR" ] || exec python3 -m pelagos_pipelines.serving.invocation
exec python3 -m pelagos_pipelines.serving.alone
"""
_UID_DIGITS = 12
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - a pod's own network
_FROM_VALUES = ("image", "script", "cpu", "memory")
_FROM_EXPOSED = ("api_port", "min_scale", "max_scale", "cpu_threshold", "set_auth", "health_path", "default_command")


def prefix(uid: str) -> str:
    """The prefix of the names of a ModelService's services, which no other ModelService shares."""
    return f"p-{hashlib.sha256(uid.encode()).hexdigest()[:_UID_DIGITS]}-"


def name_of(want: DesiredService) -> str:
    """The service's name: ``prefix``, then as much of the ModelService's name as there is room for."""
    return fdl.name_of(f"{prefix(want.uid)}{want.name}")


def service(want: DesiredService, config: str, given: Options) -> dict[str, Any]:
    """The service to send, without its annotations. Raises RejectedError for features that OSCAR lacks."""
    _require_possible(want)
    return fdl.service(
        fdl.Service(
            name=name_of(want),
            image=given.image,
            script=SCRIPT,
            cpu=processors(want.placement, want.cpu, want.instances)[1],
            memory=quantities.memory(want.placement, pod_template.DEFAULT_MEMORY, SYSTEM)[1],
            environment=_environment(want, config, given),
            secrets=given.keys(),
            pull_secrets=given.pull_secrets,
            has_gpu=want.placement.gpus > 0,
            vo=given.vo,
            exposed=fdl.Exposed(
                port=pod_template.HTTP,
                health_path="/v2/health/ready",
                min_scale=want.scaling.minimum,
                max_scale=want.scaling.maximum,
                cpu_threshold=want.scaling.cpu or CPU_TARGET,
                login=given.login,
                is_default_command=False,
            ),
        )
    )


def marked(body: Mapping[str, Any], want: DesiredService, rendered: str) -> dict[str, Any]:
    """``body`` with the annotations by which it is recognized; the seal (of ``claim``) is added to them."""
    return {**body, "annotations": {UID: want.uid, RENDERED: rendered, **marks.record(want)}}


def claim(found: Mapping[str, Any]) -> dict[str, str]:
    """The content that a service's seal covers. It includes the name, so a service with copied annotations is not ours."""
    annotations = annotations_of(found)
    named = (UID, RENDERED, marks.DIGEST_ANNOTATION, marks.WANT_ANNOTATION)
    return {"name": str(found.get("name", "")), **{name: str(annotations.get(name, "")) for name in named}}


def annotations_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """A service's annotations; empty when there are none."""
    return _mapping(found.get("annotations"))


def recorded(found: Mapping[str, Any]) -> DesiredService | None:
    """The desired service that a service was created for; None when it has no valid record."""
    return marks.recorded({"metadata": {"annotations": annotations_of(found)}})


def differs(found: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """The first field in which a service differs from the request; "" when none does. Fields that OSCAR adds are ignored."""
    for name in _FROM_VALUES:
        if str(found.get(name, "")) != str(body.get(name, "")):
            return name
    if bool(found.get("enable_gpu")) != bool(body.get("enable_gpu")):
        return "enable_gpu"
    have, want = _mapping(found.get("expose")), body["expose"]
    for name in _FROM_EXPOSED:
        if have.get(name) != want[name]:
            return f"expose.{name}"
    variables = _mapping(_mapping(found.get("environment")).get("variables"))
    return "" if variables == body["environment"]["variables"] else "environment.variables"


def digest(body: Mapping[str, Any], keys: str) -> str:
    """A digest of the service to send, with ``keys`` in place of its secrets."""
    shown = {**body, "environment": {**body["environment"], "secrets": keys}}
    return hashlib.sha256(json.dumps(shown, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _environment(want: DesiredService, config: str, given: Options) -> dict[str, str]:
    authorities = given.authorities()
    values = {
        "PELAGOS_MODEL_NAME": want.model_name,
        "PELAGOS_PACKAGE": f"{FOLDER}/models",
        "PELAGOS_PACKAGE_URI": want.package_uri,
        "PELAGOS_MANIFEST_SHA256": want.manifest_sha256,
        "PELAGOS_TRITON_CONFIG": config,
        "PELAGOS_GATEWAY_CONFIG": _gateway(want),
        "PELAGOS_SOCKETS": f"{FOLDER}/run",
        "PELAGOS_STORAGE_CA": authorities,
        "PELAGOS_INVOCATIONS_URL": given.invocations_url,
        "AWS_ENDPOINT_URL": given.s3_endpoint,
        "AWS_REGION": given.s3_region,
        **dict(given.ceilings),
        **({} if want.placement.gpus else {pod_template.NO_GPUS["name"]: pod_template.NO_GPUS["value"]}),
    }
    return {name: value for name, value in values.items() if value}


def _gateway(want: DesiredService) -> str:
    """Configuration of the Envoy in front of the server, as in our pods. OSCAR's ingress uses HTTP, with any Host."""
    run = f"{FOLDER}/run"
    upstream = Upstream(f"{run}/http", f"{run}/grpc:1", f"{run}/metrics")
    ports = Ports(pod_template.HTTP, pod_template.GRPC, pod_template.METRICS)
    served = Service("server", want.model_name, _EVERYWHERE, ports, upstream, hosts=(), tells_config=True)
    return json.dumps(envoy_config.bootstrap(f"{run}/admin", gateway.LIMITS, services=(served,)), sort_keys=True)


def _require_possible(want: DesiredService) -> None:
    """Raise RejectedError, naming the field, for what OSCAR cannot do."""
    placement, scaling = want.placement, want.scaling
    impossible = {
        f"spec.scaling.deploymentMode: {scaling.mode}": scaling.mode != "Standard",
        f"spec.scaling.target.concurrency: {scaling.concurrency}": scaling.concurrency > 0,
        f"spec.resources.gpus: {placement.gpus}": placement.gpus > 1,
        f"spec.resources.gpuProduct: {placement.gpu_product}": bool(placement.gpu_product),
        "spec.resources.nodeSelector": bool(placement.node_selector),
        "spec.resources.tolerations": bool(placement.tolerations),
        f"spec.resources.sharedMemory: {placement.shared_memory}": bool(placement.shared_memory),
    }
    for field, is_asked in impossible.items():
        if is_asked:
            message = (
                f"{field} is not supported by OSCAR, which places containers by itself, gives each one GPU or none, and"
            )
            raise RejectedError(SYSTEM, f"{message} scales by the use of processors; leave the field out")
    if not want.package_uri.startswith("s3://"):
        raise RejectedError(
            SYSTEM, f"{want.package_uri} is out of reach for OSCAR; set PELAGOS_OBJECTS_URI to s3://bucket/prefix"
        )
