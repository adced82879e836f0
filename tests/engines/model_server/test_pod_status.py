"""The messages about pods that do not serve: the cluster's own words, and who must act."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pelagos.engines.model_server import pod_status
from pelagos.ports.serving import ServiceState

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
REFUSED = """2026-11-24T06:32:23Z E 1507 server.cc:241] "CudaDriverHelper has not been initialized."
2026-11-24T06:32:24Z E 1507 model_lifecycle.cc:642] "failed to load 'detector' version 1: Internal: InvalidProtobuf: \
[ONNXRuntimeError] : 7 : Load model from /tmp/x/model.onnx failed:Protobuf parsing failed.\\n\\nAt:\\n  /x.py(753): create\\n"
error: creating server: Internal - failed to load all models
"""


def pod(*, age: float = 5, name: str = "detector-1", **status: Any) -> dict[str, Any]:
    created = (NOW - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = {"name": name, "uid": name, "creationTimestamp": created}
    return {"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": {"phase": "Pending"} | status}


def container(**state: Any) -> dict[str, Any]:
    return {"name": "server", "image": "pelagos/serving:1", "ready": False, "restartCount": 0} | state


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason} | ({"message": message} if message else {})}}


def crashed(**last: Any) -> dict[str, Any]:
    return waiting("CrashLoopBackOff", "back-off") | {
        "lastState": {"terminated": {"reason": "Error", "exitCode": 1} | last}
    }


def unschedulable(message: str) -> dict[str, Any]:
    return {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (
            {"conditions": [unschedulable("0/3 nodes: insufficient nvidia.com/gpu")]},
            "Waiting",
            "insufficient nvidia.com/gpu",
        ),
        ({"containerStatuses": [container(**waiting("ImagePullBackOff", "not found"))]}, "Waiting", "not found"),
        ({"initContainerStatuses": [container(**waiting("ErrImagePull", "no host"))]}, "Waiting", "no host"),
        (
            {"containerStatuses": [container(**waiting("CreateContainerConfigError", 'secret "s3" not found'))]},
            "Waiting",
            'secret "s3" not found',
        ),
        (
            {"containerStatuses": [container(**crashed(exitCode=137, message="E some older line"))]},
            "Dead",
            "killed (signal 9)",
        ),
        ({"containerStatuses": [container(**crashed(exitCode=139))]}, "Dead", "crashed (signal 11)"),
        (
            {"containerStatuses": [container(**crashed(exitCode=137, reason="OOMKilled"))]},
            "Dead",
            "raise spec.resources.memory",
        ),
        ({"containerStatuses": [container(**crashed(exitCode=3))]}, "Dead", "exit code 3"),
        (
            {"containerStatuses": [container(**crashed(message=REFUSED))]},
            "LoadFailed",
            "InvalidProtobuf: [ONNXRuntimeError] : 7 : Load model from /tmp/x/model.onnx failed:Protobuf parsing failed.",
        ),
        (
            {
                "initContainerStatuses": [
                    container(**crashed(exitCode=65, message="pelagos: model.onnx has been altered"))
                ]
            },
            "LoadFailed",
            "model.onnx has been altered",
        ),
        (
            {"initContainerStatuses": [container(**crashed(exitCode=75, message="pelagos: s3://b: timeout"))]},
            "FetchFailed",
            "init container server of pod detector-1 ended: s3://b: timeout",
        ),
        (
            {
                "containerStatuses": [
                    container(state={"terminated": {"exitCode": 1, "reason": "Error", "message": "oh"}})
                ]
            },
            "Dead",
            "oh",
        ),
    ],
)
def test_a_pod_that_does_not_serve_says_why(status: dict[str, Any], state: str, words: str) -> None:
    found = pod_status.problem([pod(**status)], lambda _: NOW)
    assert found is not None
    assert found.state is ServiceState(state)
    assert words in found.message


LOGGED = "2026-11-28 19:29:24.988 1 storage.initializer ERROR"


def initializer(**last: Any) -> dict[str, Any]:
    """A pod whose storage initializer ended."""
    made = pod(initContainerStatuses=[container(**crashed(**last)) | {"name": "storage-initializer"}])
    limits = {"resources": {"limits": {"memory": "1Gi"}}}
    made["spec"] |= {"serviceAccountName": "lab", "initContainers": [{"name": "storage-initializer"} | limits]}
    return made


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (
            {"message": "2026 INFO Initializing\n2026 ERROR Unexpected error: Unable to locate credentials"},
            [
                "Unable to locate credentials. List",
                "`secrets` of the ServiceAccount lab",
                "serving.kserve.io/s3-endpoint",
            ],
        ),
        (
            {"message": "An error occurred (InvalidAccessKeyId) when calling the ListObjects operation: no such key"},
            ["no such key", "The storage refuses the keys", "AWS itself was asked"],
        ),
        # As KServe 0.20 logs it, which words the storage's errors in its own way.
        (
            {
                "message": f"{LOGGED} [storage_errors.py:raise_storage_error():42] S3 error for s3://b/m: An error occurred "
                "(InvalidAccessKeyId): The AWS Access Key Id you provided does not exist\n"
                f"{LOGGED} [initializer-entrypoint:<module>():28] Storage initialization failed: S3 resource 'b' not found."
            },
            [
                "ended: An error occurred (InvalidAccessKeyId): The AWS Access Key Id you",
                "The storage refuses the keys",
            ],
        ),
        (
            {
                "message": f"{LOGGED} [initializer-entrypoint:<module>():28] Storage initialization failed: Failed to fetch "
                "model. No model found in s3://b/m."
            },
            ["ended: Storage initialization failed: Failed to fetch model. No model", "or no such bucket"],
        ),
        (
            {"message": 'Could not connect to the endpoint URL: "https://minio:9000/b"'},
            ["https://minio:9000/b", "Correct the annotations serving.kserve.io/s3-endpoint"],
        ),
        (
            {"exitCode": 137, "reason": "OOMKilled"},
            ["its limit of 1Gi is not set by spec.resources, but by the cluster", "memoryLimit of storageInitializer"],
        ),
        ({"message": "Failed to fetch model. No model found in s3://b/p."}, ["No model found in s3://b/p."]),
    ],
)
def test_a_storage_initializer_that_fails_is_named_with_what_it_lacks(last: dict[str, Any], words: list[str]) -> None:
    found = pod_status.problem([initializer(**last)], lambda _: NOW)
    assert found is not None
    assert found.state is ServiceState.FETCH_FAILED
    for each in ("init container storage-initializer of pod detector-1 ended: ", *words):
        assert each in found.message


def test_what_a_server_says_of_credentials_is_no_matter_of_the_storage_initializer() -> None:
    died = pod(containerStatuses=[container(**crashed(message="Unable to locate credentials"))])
    found = pod_status.problem([died], lambda _: NOW)
    assert found is not None
    assert (found.state, found.message) == (ServiceState.DEAD, "pod detector-1 ended: Unable to locate credentials")


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"containerStatuses": [container(**waiting("ContainerCreating"))]},
        {"containerStatuses": [container(state={"running": {}})], "phase": "Running"},
        {
            "initContainerStatuses": [container(state={"terminated": {"exitCode": 0, "reason": "Completed"}})],
            "containerStatuses": [container(**waiting("PodInitializing"))],
        },
    ],
)
def test_a_pod_that_starts_has_no_problem(status: dict[str, Any]) -> None:
    assert pod_status.problem([pod(**status)], lambda _: NOW) is None


def test_a_pod_that_is_being_created_for_long_waits_for_something() -> None:
    status: dict[str, Any] = {"containerStatuses": [container(**waiting("ContainerCreating"))]}
    found = pod_status.problem([pod(age=45, **status)], lambda _: NOW)
    assert found is not None
    assert found.state is ServiceState.WAITING
    assert "on node node-1 has been waiting to start since 2026-05-01T11:59:15Z" in found.message


@pytest.mark.parametrize(
    ("kind", "words"), [("containerStatuses", "loading the model"), ("initContainerStatuses", "fetching the package")]
)
def test_a_pod_that_loads_for_long_is_left_to_its_probes(kind: str, words: str) -> None:
    running: dict[str, Any] = {kind: [container(state={"running": {"startedAt": "2026-05-01T11:57:00Z"}})]}
    found = pod_status.problem([pod(age=300, **running)], lambda _: NOW)
    assert found is not None
    assert found.state is ServiceState.WAITING
    assert f"{words}" in found.message
    assert pod_status.problem([pod(age=300, **running)], lambda _: NOW - timedelta(seconds=90)) is None
    ready = pod(age=300, conditions=[{"type": "Ready", "status": "True"}], **running)
    assert pod_status.problem([ready], lambda _: NOW) is None


def test_a_server_that_runs_again_after_it_refused_its_model_will_refuse_it_again() -> None:
    again = container(
        state={"running": {}}, lastState={"terminated": {"exitCode": 1, "reason": "Error", "message": REFUSED}}
    )
    found = pod_status.problem([pod(phase="Running", containerStatuses=[again])], lambda _: NOW)
    assert found is not None
    assert found.state is ServiceState.LOAD_FAILED


def test_an_evicted_pod_matters_only_when_it_was_not_replaced() -> None:
    gone = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    found = pod_status.problem([gone], lambda _: NOW)
    assert found is not None
    assert (found.state, "low on resource: memory" in found.message) == (ServiceState.DEAD, True)
    assert pod_status.problem([gone, pod(name="detector-2")], lambda _: NOW) is None


def test_deaths_are_those_of_servers_not_of_what_fetches_packages() -> None:
    counted = pod(containerStatuses=[container(restartCount=2)], initContainerStatuses=[container(restartCount=5)])
    assert pod_status.deaths([counted, pod(name="detector-2")]) == 2


def test_a_pod_that_ends_is_not_ready_any_more() -> None:
    ready = pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    assert pod_status.is_ready(ready)
    ready["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:00Z"
    assert not pod_status.is_ready(ready)
